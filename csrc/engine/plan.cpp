#include "engine/plan.hpp"

#include <algorithm>

#include "engine/float_mode.hpp"
#include "engine/threads.hpp"

namespace fusedopt {

void Plan::clear() {
  segments_.clear();
  coefficients_.clear();
  ends_.clear();
  elements_ = 0;
}

std::size_t Plan::fold(const Kernel& kernel, const double* hyperparameters,
                       const StepContext& when) {
  coefficients_.emplace_back();
  fold_again(coefficients_.size() - 1, kernel, hyperparameters, when);
  return coefficients_.size() - 1;
}

void Plan::fold_again(std::size_t index, const Kernel& kernel, const double* hyperparameters,
                      const StepContext& when) {
  // Scalars don't depend on the caller's rounding mode, either, and none is flushed.
  const ScopedFloatMode mode(false);
  kernel.fold(hyperparameters, when, coefficients_[index]);
}

void Plan::run(Loop Kernel::* loop) const noexcept {
  const int threads = num_threads();
  if (threads == 1 || elements_ < grid.serial_below.load(std::memory_order_relaxed)) {
    const ScopedFloatMode mode(flush_denormal.load(std::memory_order_relaxed));
    for (const Segment& s : segments_) {
      (s.kernel->*loop)(coefficients_[s.coefficients], s.streams.data(), 0, s.size);
    }
    return;
  }

  struct Task {
    const Plan* plan;
    Loop Kernel::* loop;
    std::int64_t chunk;
  };
  const std::int64_t chunk = grid.chunk.load(std::memory_order_relaxed);
  const Task task{this, loop, chunk};
  parallel_ranges((elements_ + chunk - 1) / chunk, threads,
                  [](const void* context, std::int64_t first, std::int64_t last) {
                    const Task& t = *static_cast<const Task*>(context);
                    const ScopedFloatMode mode(flush_denormal.load(std::memory_order_relaxed));
                    t.plan->run_chunks(t.loop, first, last, t.chunk);
                  },
                  &task);
}

// Chunks first..last are one contiguous range of elements; it may start and end inside a segment.
void Plan::run_chunks(Loop Kernel::* loop, std::int64_t first, std::int64_t last,
                      std::int64_t chunk) const {
  const std::int64_t end = std::min(last * chunk, elements_);
  std::int64_t at = first * chunk;
  auto k = std::size_t(std::upper_bound(ends_.begin(), ends_.end(), at) - ends_.begin());
  for (; at < end; ++k) {
    const Segment& s = segments_[k];
    const std::int64_t begin = s.size - (ends_[k] - at);
    const std::int64_t count = std::min(ends_[k], end) - at;
    if (count > 0) (s.kernel->*loop)(coefficients_[s.coefficients], s.streams.data(), begin, count);
    at += count;
  }
}

}  // namespace fusedopt
