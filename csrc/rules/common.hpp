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

// What a rule descends along, and what weight decay does to it, in either of its forms: added to
// the gradient (L2), or taken from the parameter itself before the step (decoupled).
template <typename T>
struct Objective {
  T scale;         // what the gradient is multiplied by; negative to maximize
  T weight_decay;  // added to the gradient
  T keep;          // what the other form leaves of a parameter

  // Without decay p must not enter at all: 0 * inf is NaN.
  T gradient(T g, T p) const {
    g = scale * g;
    return weight_decay != T(0) ? g + weight_decay * p : g;
  }

  T decayed(T p) const { return keep * p; }
};

template <typename T, typename Hyper>
Objective<T> objective(const Hyper& h, const StepContext& when) {
  const bool decoupled = h.decoupled_weight_decay != 0;
  return {.scale = T(h.maximize != 0 ? -when.gradient_scale : when.gradient_scale),
          .weight_decay = T(decoupled ? 0 : h.weight_decay),
          .keep = T(decoupled ? 1 - h.lr * h.weight_decay : 1)};
}

// A buffer b that gathers directions d. The learning rate is outside,
//   b <- mu b + gain d, then p <- p - lr b;
// or inside, and the buffer is a velocity, which is added to the parameter as it is:
//   b <- mu b - lr d, then p <- p + b.
template <typename T>
struct Gathering {
  T mu;
  T gain;
  T rate;

  T next(T b, T d) const { return mu * b + gain * d; }
  T moved(T p, T b) const { return p - rate * b; }
};

template <typename T, typename Hyper>
Gathering<T> gathering(const Hyper& h, double gain) {
  const bool velocity = h.velocity != 0;
  return {.mu = T(h.momentum), .gain = T(velocity ? -h.lr : gain), .rate = T(velocity ? -1 : h.lr)};
}

}  // namespace
}  // namespace fusedopt::FUSEDOPT_ISA
