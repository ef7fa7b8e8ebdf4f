#include "engine/array_scan.hpp"

#include <algorithm>
#include <cmath>

#include "engine/float_mode.hpp"
#include "engine/plan.hpp"
#include "engine/threads.hpp"

namespace fusedopt {

void ArrayScan::reserve(std::size_t arrays) { arrays_.reserve(arrays); }

void ArrayScan::add(const ArrayKernel& kernel, const void* data, std::int64_t size,
                    std::int64_t item_size) {
  blocks_ += static_cast<std::size_t>((size + block - 1) / block);
  elements_ += size;
  arrays_.push_back({&kernel, static_cast<const char*>(data), size, item_size, blocks_, 0, 0});
}

void ArrayScan::prepare() { sums_.resize(blocks_); }

void ArrayScan::run() noexcept {
  parallel_ranges(
      static_cast<std::int64_t>(blocks_), threads_for(elements_),
      [](const void* scan, std::int64_t first, std::int64_t last) {
        // Each block is one task's alone.
        const_cast<ArrayScan*>(static_cast<const ArrayScan*>(scan))
            ->sum_blocks(static_cast<std::size_t>(first), static_cast<std::size_t>(last));
      },
      this);
  const ScopedFloatMode mode(flush_denormal.load(std::memory_order_relaxed));
  double total = 0;
  std::size_t at = 0;
  for (Array& a : arrays_) {
    for (; at < a.end; ++at) a.sum = a.sum + sums_[at];
    total = total + a.sum;
    // A sum that isn't finite says that an element isn't, or in float64 that squares were too
    // large.
    if (!std::isfinite(a.sum)) a.nonfinite = a.kernel->count_nonfinite(a.data, a.size);
    nonfinite_ += a.nonfinite;
  }
  norm_ = std::sqrt(total);
}

void ArrayScan::sum_blocks(std::size_t first, std::size_t last) noexcept {
  const ScopedFloatMode mode(flush_denormal.load(std::memory_order_relaxed));
  auto a = std::ranges::upper_bound(arrays_, first, {}, &Array::end);
  for (std::size_t k = first; k < last; ++k) {
    while (k >= a->end) ++a;
    const std::int64_t blocks = (a->size + block - 1) / block;
    const std::int64_t begin = (static_cast<std::int64_t>(k - a->end) + blocks) * block;
    sums_[k] =
        a->kernel->sum_of_squares(a->data + begin * a->item_size, std::min(block, a->size - begin));
  }
}

}  // namespace fusedopt
