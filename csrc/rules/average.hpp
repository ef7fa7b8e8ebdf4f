// Averages of parameters. No steps of an optimizer, but passes over the same arrays.
#pragma once

#include "rules/common.hpp"

namespace fusedopt::FUSEDOPT_ISA {
namespace {

// Exponential moving average of the iterates:
//   ema <- ema + (1 - d) (p - ema)
// Not d ema + (1 - d) p, whose two roundings drift away from a parameter that stands still.
//
// B. T. Polyak and A. B. Juditsky, "Acceleration of stochastic approximation by averaging", 1992,
// there with equal weights.
struct Average {
  static constexpr const char* name = "ema";
  static constexpr Names states{{"ema"}, 1};
  static constexpr bool reads_gradient = false;

  struct Hyper {
    double decay;
    static constexpr Field<Hyper> fields[] = {{"decay", &Hyper::decay}};
  };

  template <typename T>
  struct Coefficients {
    T rate;
  };

  template <typename T>
  static Coefficients<T> fold(const Hyper& h, const StepContext&) {
    return {.rate = T(1 - h.decay)};
  }

  template <typename T>
  static void update(const Coefficients<T>& c, T& p, T, T& ema) {
    ema = ema + c.rate * (p - ema);
  }
};

// Parameters and their averages in each other's place. Once more puts them back.
struct Exchange {
  static constexpr const char* name = "exchange";
  static constexpr Names states{{"ema"}, 1};
  static constexpr bool reads_gradient = false;

  struct Hyper {};

  template <typename T>
  struct Coefficients {};

  template <typename T>
  static Coefficients<T> fold(const Hyper&, const StepContext&) {
    return {};
  }

  template <typename T>
  static void update(const Coefficients<T>&, T& p, T, T& ema) {
    const T before = p;
    p = ema;
    ema = before;
  }
};

}  // namespace
}  // namespace fusedopt::FUSEDOPT_ISA
