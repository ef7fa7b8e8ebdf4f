// What a step may have to know of arrays, and clipping by value. That is no part of the rules: most
// steps don't clip, and have no registers to spare for it.
#pragma once

#include "kernels/table.hpp"

namespace fusedopt::FUSEDOPT_ISA {
namespace {

// In double precision, and in a fixed order: element i of a block goes to lane i modulo their
// number, and the lanes are added by halves. So the sum depends on nothing but the elements.
// Sums the squares of what number(i) gives.
template <typename Number>
[[gnu::always_inline]] inline double sum_of_squares_of(std::int64_t count, const Number& number) {
  constexpr int lanes = 16;
  double sums[lanes] = {};
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    for (int k = 0; k < lanes; ++k) {
      const double x = number(i + k);
      sums[k] = sums[k] + x * x;
    }
  }
  for (int k = 0; i + k < count; ++k) {
    const double x = number(i + k);
    sums[k] = sums[k] + x * x;
  }
  for (int width = lanes / 2; width > 0; width /= 2) {
    for (int k = 0; k < width; ++k) sums[k] = sums[k] + sums[k + width];
  }
  return sums[0];
}

template <typename T>
double sum_of_squares(const void* block, std::int64_t count) {
  const T* const x = static_cast<const T*>(block);
  return sum_of_squares_of(count, [x](std::int64_t i) { return double(x[i]); });
}

template <typename T>
double sum_of_squared_differences(const void* block, const void* other, std::int64_t count) {
  const T* const x = static_cast<const T*>(block);
  const T* const y = static_cast<const T*>(other);
  return sum_of_squares_of(count, [x, y](std::int64_t i) { return double(x[i]) - double(y[i]); });
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

template <typename T>
constexpr ArrayKernel array_kernel{&sum_of_squares<T>, &sum_of_squared_differences<T>,
                                   &count_nonfinite<T>, &clip<T>};

}  // namespace
}  // namespace fusedopt::FUSEDOPT_ISA
