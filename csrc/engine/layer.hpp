// A threading layer: one way to run a job on several threads.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <optional>

#include "engine/threads.hpp"

namespace fusedopt {

using Clock = std::chrono::steady_clock;

// Chunks 0..count, which may be done in any order, by any thread, each once.
struct Job {
  std::int64_t count;
  RangeTask task;
  const void* context;
  bool follows = false;  // so soon after the last one that threads still wait for it, awake

  void run(std::int64_t first, std::int64_t last) const { task(context, first, last); }
};

// How fast the calling thread does chunks, when it does.
class Pace {
 public:
  // It is to do so many.
  void expect(std::int64_t chunks) { stride_ = chunks / std::int64_t{samples} + 1; }

  // Runs a chunk, and looks at the clock for some of them.
  void run(const Job& job, std::int64_t chunk) {
    if (seen_++ % stride_ != 0 || taken_ == samples) return job.run(chunk, chunk + 1);
    const Clock::time_point begin = Clock::now();
    job.run(chunk, chunk + 1);
    times_[taken_++] = Clock::now() - begin;
  }

  // What a chunk takes while nobody else has the core: the median, as somebody may have had it in
  // one or two of them. Nothing where too few were seen.
  std::optional<Clock::duration> of_chunk() const {
    if (taken_ < 2) return std::nullopt;
    std::array<Clock::duration, samples> times = times_;
    const auto median = times.begin() + static_cast<std::ptrdiff_t>((taken_ - 1) / 2);
    std::nth_element(times.begin(), median, times.begin() + static_cast<std::ptrdiff_t>(taken_));
    return *median;
  }

 private:
  static constexpr std::size_t samples = 8;

  std::int64_t stride_ = 1, seen_ = 0;
  std::size_t taken_ = 0;
  std::array<Clock::duration, samples> times_{};
};

class Layer {
 public:
  // Runs the job on so many threads at most, of which the calling one is one, and returns whether
  // it shared any of it. Only one job at a time: whoever calls sees to that.
  virtual bool run(const Job& job, int threads, Pace& pace) noexcept = 0;

 protected:
  // None is destroyed that ran a job: helpers may still look at it while the process ends.
  ~Layer() = default;
};

}  // namespace fusedopt
