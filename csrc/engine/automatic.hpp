// How a thread finds out which layer helps it.
#pragma once

#include <algorithm>
#include <cstdint>

#include "engine/layers.hpp"

namespace fusedopt {

// What has been seen of a layer. Times are in those of the same job on one thread.
//
// A layer that doesn't help some jobs in a row (its threads may have to wake up) is left alone:
// for 1 job, the next time for 3, then 7 and more. What it saves goes into an account, what it
// costs comes out of it. If it then owes anything, or in between more than a few jobs, it is left
// alone for sixteen times as long, the next time for twice that, and so on. So it may lose what it
// has saved, and beyond that a sixteenth, and soon far less.
class Trial {
 public:
  bool is_left_alone() const { return pause_ > 0; }
  // It was its turn, but for the pause.
  void pass() { pause_ = std::max(pause_ - 1, std::int64_t(0)); }

  // A job took so long, where less than `enough` would have helped; on one thread `alone`. Its
  // threads may take so many jobs to wake up.
  void saw(double time, double enough, double alone, int patience) {
    recently_ = recently_ == 0 ? time : recently_ + (time - recently_) / 4;
    account_ = std::min(account_ + alone - time, most_saved);
    if (account_ == most_saved) strictness_ = mild;
    if (time < enough) {
      in_vain_ = 0;
      last_pause_ = 0;
    } else if (++in_vain_ >= patience) {
      pause_ = last_pause_ = std::min(2 * last_pause_ + 1, longest_pause);
    }
    if (pause_ > 0 || account_ < -most_owing) leave_alone();
  }

  // What a job takes; 0 where that isn't known.
  double recently() const { return recently_; }

 private:
  void leave_alone() {
    in_vain_ = 0;
    if (account_ >= 0) return;
    pause_ += static_cast<std::int64_t>(strictness_ * std::min(-account_, most_owed));
    strictness_ = std::min(2 * strictness_, strictest);
    account_ = 0;
  }

  static constexpr double most_saved = 256, most_owing = 4, most_owed = 1000;
  static constexpr double mild = 16, strictest = 128;
  static constexpr std::int64_t longest_pause = 255;

  int in_vain_ = 0;                          // jobs in a row
  std::int64_t pause_ = 0, last_pause_ = 0;  // jobs
  double account_ = 8;                       // what it may cost to begin with: threads are made
  double strictness_ = mild, recently_ = 0;
};

// The first layer that helps: the pool, then OpenMP's, where it can be had, then none.
class Automatic {
 public:
  template <typename HasOpenMP>
  LayerName next(bool has_pool, const HasOpenMP& has_openmp) const {
    if (has_pool && !pool_.is_left_alone()) return LayerName::pool;
    return has_openmp() && !openmp_.is_left_alone() ? LayerName::openmp : LayerName::serial;
  }

  // A job went to this layer. It took so long from begin to end, in times of what it takes on a
  // thread that has its core for itself. Threads may take so many jobs to wake up.
  void saw(LayerName layer, double time, int patience) {
    const double helps = 0.9 * alone_;
    if (layer == LayerName::pool) {
      // Nor does it help where OpenMP's takes clearly less.
      const double other = openmp_.recently() > 0 ? 1.1 * openmp_.recently() : helps;
      return pool_.saw(time, std::min(helps, other), alone_, patience);
    }
    pool_.pass();
    if (layer == LayerName::openmp) return openmp_.saw(time, helps, alone_, patience);
    openmp_.pass();
    // An outlier says nothing of other jobs.
    alone_ += (std::min(2.0, time) - alone_) / 4;
  }

  // What a job takes where nobody helps: more than 1, as others take of its core meanwhile.
  double alone() const { return alone_; }

 private:
  Trial pool_, openmp_;
  double alone_ = 1;
};

}  // namespace fusedopt
