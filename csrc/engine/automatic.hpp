// How a thread finds out which layer helps it.
#pragma once

#include <algorithm>
#include <cstdint>

#include "engine/layers.hpp"

namespace fusedopt {

// What has been seen of a layer. Times are in those of the same job on one thread.
//
// A layer that doesn't help is left alone: for 1 job, for 3, 7 and more. What it saves goes into an
// account, what it costs comes out of it. One that is overdrawn is left alone for sixteen times what
// it owes, then for twice as long, up to eight times: so it may lose what it has saved, and beyond
// that a sixteenth, and soon far less.
class Trial {
 public:
  bool is_left_alone() const { return pause_ > 0; }
  // It was its turn, but for the pause.
  void pass() { pause_ = std::max(pause_ - 1, std::int64_t(0)); }

  // A job took so long, where less than `enough` would have helped; on one thread `alone`.
  void saw(double time, double enough, double alone) {
    recently_ = recently_ == 0 ? time : recently_ + (time - recently_) / 4;
    fruitless_ = time < enough ? 0 : std::min(2 * fruitless_ + 1, most_fruitless);
    account_ = std::min(account_ + alone - time, most_saved);
    const double owed = std::clamp(-account_, 0.0, most_owed);
    const double times = std::min(static_cast<double>(fruitless_ + 1) / 2, 8.0);
    pause_ = fruitless_ + static_cast<std::int64_t>(16 * owed * times);
    account_ = std::max(account_, 0.0);
  }

  // What a job takes; 0 where that isn't known.
  double recently() const { return recently_; }

 private:
  static constexpr double most_saved = 64, most_owed = 1000;
  static constexpr std::int64_t most_fruitless = 255;

  std::int64_t pause_ = 0, fruitless_ = 0;  // jobs
  double account_ = 0, recently_ = 0;
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
  // thread that has its core for itself.
  void saw(LayerName layer, double time) {
    const double helps = 0.9 * alone_;
    if (layer == LayerName::pool) {
      // Nor does it help where OpenMP's takes clearly less.
      const double other = openmp_.recently() > 0 ? 1.1 * openmp_.recently() : helps;
      return pool_.saw(time, std::min(helps, other), alone_);
    }
    pool_.pass();
    if (layer == LayerName::openmp) return openmp_.saw(time, helps, alone_);
    openmp_.pass();
    // An outlier says nothing of other jobs.
    alone_ += (std::min(2.0, time) - alone_) / 8;
  }

  // What a job takes where nobody helps: more than 1, as others take of its core meanwhile.
  double alone() const { return alone_; }

 private:
  Trial pool_, openmp_;
  double alone_ = 1;
};

}  // namespace fusedopt
