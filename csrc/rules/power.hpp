// Powers that are the same bits everywhere. Those of C libraries aren't: glibc's own differ in the
// last bit between processors with and without a fused multiply-add.
#pragma once

#include "rules/interface.hpp"

namespace fusedopt::FUSEDOPT_ISA {
namespace {

// The sum of two doubles, the second of which is less than a rounding of the first: 106 bits.
struct TwoDoubles {
  double high, low;
};

// The upper half of a number's bits; the lower one is then exact, too.
inline double upper_half(double x) {
  const double y = 134217729 * x;  // 2^27 + 1
  return y - (y - x);
}

// What rounding took from a product, exactly, while it is far from the smallest numbers; where that
// is one instruction, by that: a small step of Adam consists of little else.
inline double lost_of(double product, double x, double y) {
#if defined(__FP_FAST_FMA) || defined(__FMA__)
  return __builtin_fma(x, y, -product);
#else
  const double x1 = upper_half(x), x2 = x - x1, y1 = upper_half(y), y2 = y - y1;
  return ((x1 * y1 - product) + x1 * y2 + x2 * y1) + x2 * y2;
#endif
}

// T. J. Dekker, "A floating-point technique for extending the available precision", 1971.
inline TwoDoubles product(TwoDoubles x, TwoDoubles y) {
  const double high = x.high * y.high;
  const double low = lost_of(high, x.high, y.high) + (x.high * y.low + x.low * y.high);
  const double sum = high + low;
  return {sum, low - (sum - high)};
}

// base^count, for a base in [0, 1] and a count of at least 1. With count / 2^104 as the relative
// error it is the double nearest to the power, where no tie is nearer than that.
inline double power(double base, std::int64_t count) {
  TwoDoubles result{1, 0}, square{base, 0};
  while (true) {
    if (count % 2 == 1) result = product(result, square);
    count /= 2;
    if (count == 0) return result.high;
    square = product(square, square);
  }
}

}  // namespace
}  // namespace fusedopt::FUSEDOPT_ISA
