// What one thread has seen of the layers.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "engine/automatic.hpp"
#include "engine/layer.hpp"

namespace fusedopt {

class Experience {
 public:
  template <typename HasOpenMP>
  LayerName next(bool has_pool, const HasOpenMP& has_openmp) const {
    return automatic_.next(has_pool, has_openmp);
  }

  // A job went to this layer, which shared it or didn't, and took so long from begin to end.
  void saw(LayerName layer, const Job& job, bool shared, const Pace& pace, Clock::duration whole) {
    // Where the thread did next to nothing itself, its pace is the last that was seen: a guess, as
    // the work may be another.
    of_chunk_ = pace.of_chunk().value_or(job.task == task_ ? of_chunk_ : Clock::duration{});
    task_ = job.task;
    const auto on_one_thread = static_cast<double>(job.count * of_chunk_.count());
    const bool known = on_one_thread > 0 && (shared || layer == LayerName::serial);
    const double time =
        known ? static_cast<double>(whole.count()) / on_one_thread : automatic_.alone();
    const auto patience = waking_time / (whole + std::chrono::nanoseconds(1));
    automatic_.saw(layer, time, static_cast<int>(std::clamp<std::int64_t>(patience, 1, 4)));
  }

  double alone() const { return automatic_.alone(); }

 private:
  // What awake threads of another library may take to fall asleep, and ours to wake up.
  static constexpr std::chrono::milliseconds waking_time{1};

  Automatic automatic_;
  RangeTask task_ = nullptr;  // of the last job
  Clock::duration of_chunk_{};
};

}  // namespace fusedopt
