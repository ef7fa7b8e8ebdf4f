// Powers that are the same bits everywhere. Those of C libraries aren't: glibc's own differ in the
// last bit between processors with and without a fused multiply-add.
#pragma once

#include "rules/interface.hpp"

namespace fusedopt::FUSEDOPT_ISA {
namespace {

// The sum of two doubles, the second of which is at most a few roundings of the first: 100 bits.
struct TwoDoubles {
  double high, low;
};

// The upper half of a number's bits; the lower one is then exact, too.
inline double upper_half(double x) {
  const double y = 134217729 * x;  // 2^27 + 1
  return y - (y - x);
}

// What rounding took from a product, exactly, while it is far from the smallest numbers; where that
// is one instruction, by that.
inline double lost_of(double product, double x, double y) {
#if defined(__FP_FAST_FMA) || defined(__FMA__)
  return __builtin_fma(x, y, -product);
#else
  const double x1 = upper_half(x), x2 = x - x1, y1 = upper_half(y), y2 = y - y1;
  return ((x1 * y1 - product) + x1 * y2 + x2 * y1) + x2 * y2;
#endif
}

// T. J. Dekker, "A floating-point technique for extending the available precision", 1971. The
// second number of a product may be as many roundings of the first as those of both factors, and
// one more.
inline TwoDoubles product(TwoDoubles x, TwoDoubles y) {
  const double high = x.high * y.high;
  return {high, lost_of(high, x.high, y.high) + (x.high * y.low + x.low * y.high)};
}

// The same sum, the second number of which is less than a rounding of the first.
inline TwoDoubles rounded(TwoDoubles x) {
  const double high = x.high + x.low;
  return {high, x.low - (high - x.high)};
}

// base^count, for a base in [0, 1] and a count of at least 1. With count / 2^94 as the relative
// error it is the double nearest to the power, where no tie is nearer than that. Rounded only now
// and then: each waits for all before, and a small step of Adam consists of little else. The result
// needs none: a factor adds some roundings to it, where a square doubles them.
inline double power(double base, std::int64_t count) {
  TwoDoubles result{1, 0}, square{base, 0};
  for (int k = 1;; ++k) {
    if (count % 2 == 1) result = product(result, square);
    count /= 2;
    if (count == 0) return result.high + result.low;
    square = product(square, square);
    if (k % 4 == 0) square = rounded(square);
  }
}

}  // namespace
}  // namespace fusedopt::FUSEDOPT_ISA
