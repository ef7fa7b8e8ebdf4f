// What a step may have to know of gradients before it begins, and clipping by value. That is no
// part of the rules: most steps don't clip, and have no registers to spare for it.
#pragma once

#include "kernels/table.hpp"

namespace fusedopt::FUSEDOPT_ISA {
namespace {

// In double precision, and in a fixed order: element i of a block goes to lane i modulo their
// number, and the lanes are added by halves. So the sum depends on nothing but the elements.
template <typename T>
double sum_of_squares(const void* block, std::int64_t count) {
  constexpr int lanes = 16;
  const T* const g = static_cast<const T*>(block);
  double sums[lanes] = {};
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    for (int k = 0; k < lanes; ++k) {
      const double x = double(g[i + k]);
      sums[k] = sums[k] + x * x;
    }
  }
  for (int k = 0; i + k < count; ++k) {
    const double x = double(g[i + k]);
    sums[k] = sums[k] + x * x;
  }
  for (int width = lanes / 2; width > 0; width /= 2) {
    for (int k = 0; k < width; ++k) sums[k] = sums[k] + sums[k + width];
  }
  return sums[0];
}

template <typename T>
std::int64_t count_nonfinite(const void* block, std::int64_t count) {
  const T* const g = static_cast<const T*>(block);
  std::int64_t found = 0;
  for (std::int64_t i = 0; i < count; ++i) found += !(g[i] - g[i] == T(0));
  return found;
}

// np.clip: NaN stays.
template <typename T>
void clip(void* clipped, const void* gradient, std::int64_t count, double scale, double magnitude) {
  T* __restrict const result = static_cast<T*>(clipped);
  const T* __restrict const g = static_cast<const T*>(gradient);
  const T by = T(scale), limit = T(magnitude);
  for (std::int64_t i = 0; i < count; ++i) {
    T x = by * g[i];
    x = x > limit ? limit : x;
    result[i] = x < -limit ? -limit : x;
  }
}

}  // namespace
}  // namespace fusedopt::FUSEDOPT_ISA
