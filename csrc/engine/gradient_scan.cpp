#include "engine/gradient_scan.hpp"

#include <algorithm>
#include <cmath>

#include "engine/float_mode.hpp"
#include "engine/plan.hpp"
#include "engine/threads.hpp"

namespace fusedopt {

void GradientScan::reserve(std::size_t gradients) { gradients_.reserve(gradients); }

void GradientScan::add(const GradientKernel& kernel, const void* data, std::int64_t size,
                       std::int64_t item_size) {
  blocks_ += static_cast<std::size_t>((size + block - 1) / block);
  elements_ += size;
  gradients_.push_back({&kernel, static_cast<const char*>(data), size, item_size, blocks_, 0});
}

void GradientScan::prepare() { sums_.resize(blocks_); }

void GradientScan::run() noexcept {
  const bool is_small = elements_ < grid.serial_below.load(std::memory_order_relaxed);
  parallel_ranges(
      static_cast<std::int64_t>(blocks_), is_small ? 1 : num_threads(),
      [](const void* scan, std::int64_t first, std::int64_t last) {
        // Each block is one task's alone.
        const_cast<GradientScan*>(static_cast<const GradientScan*>(scan))
            ->sum_blocks(static_cast<std::size_t>(first), static_cast<std::size_t>(last));
      },
      this);
  const ScopedFloatMode mode(flush_denormal.load(std::memory_order_relaxed));
  double total = 0;
  std::size_t at = 0;
  for (Gradient& g : gradients_) {
    double sum = 0;
    for (; at < g.end; ++at) sum = sum + sums_[at];
    total = total + sum;
    // A sum that isn't finite says that an element isn't, or in float64 that squares were too
    // large.
    if (!std::isfinite(sum)) g.nonfinite = g.kernel->count_nonfinite(g.data, g.size);
    nonfinite_ += g.nonfinite;
  }
  norm_ = std::sqrt(total);
}

void GradientScan::sum_blocks(std::size_t first, std::size_t last) noexcept {
  const ScopedFloatMode mode(flush_denormal.load(std::memory_order_relaxed));
  auto g = std::ranges::upper_bound(gradients_, first, {}, &Gradient::end);
  for (std::size_t k = first; k < last; ++k) {
    while (k >= g->end) ++g;
    const std::int64_t blocks = (g->size + block - 1) / block;
    const std::int64_t begin = (static_cast<std::int64_t>(k - g->end) + blocks) * block;
    sums_[k] =
        g->kernel->sum_of_squares(g->data + begin * g->item_size, std::min(block, g->size - begin));
  }
}

}  // namespace fusedopt
