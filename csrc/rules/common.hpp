// What every rule shares. Rule headers are compiled once per instruction set, into that set's own
// unnamed namespace: nothing here may be seen, or shared by the linker, from outside (see
// kernels/README.md). That is why they use no std:: template and no inline library function.
#pragma once

#include <math.h>

#include "rules/interface.hpp"

namespace fusedopt::FUSEDOPT_ISA {
namespace {

// A hyperparameter: its name as Python spells it, and the member that holds it. All travel as
// double.
template <typename Hyper>
struct Field {
  const char* name;
  double Hyper::* member;
};

// The C functions, not the std:: overloads: they compile to the one correctly rounded instruction.
inline float square_root(float x) { return ::sqrtf(x); }
inline double square_root(double x) { return ::sqrt(x); }

// np.maximum: a NaN on either side is the result.
template <typename T>
T maximum(T a, T b) {
  return ((a < b) | (b != b)) ? b : a;
}

// The gradient a rule descends along: the caller's, negated to maximize, plus L2 weight decay.
template <typename T>
struct Objective {
  T sign;
  T weight_decay;

  // Without decay p must not enter at all: 0 * inf is NaN.
  T gradient(T g, T p) const {
    g = sign * g;
    return weight_decay != T(0) ? g + weight_decay * p : g;
  }
};

inline double sign_of(double maximize) { return maximize != 0 ? -1.0 : 1.0; }

}  // namespace
}  // namespace fusedopt::FUSEDOPT_ISA
