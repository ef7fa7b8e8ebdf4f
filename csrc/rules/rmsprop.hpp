// RMSProp: T. Tieleman & G. Hinton, "Lecture 6.5 - rmsprop", COURSERA, 2012.
// Centered: A. Graves, "Generating Sequences With Recurrent Neural Networks", 2013, equations
// 38-45. eps stands outside the root, as in torch.optim.RMSprop.
#pragma once

#include "rules/common.hpp"

namespace fusedopt::FUSEDOPT_ISA {
namespace {

// v <- alpha v + (1 - alpha) g^2, and the direction is g / (sqrt(v) + eps).
// Centered, the mean a <- a + (1 - alpha) (g - a) is taken out: g / (sqrt(max(v - a^2, 0)) + eps).
// p <- p - lr direction, or with momentum b <- mu b + direction; p <- p - lr b.
struct RMSpropTerms {
  struct Hyper {
    double lr, alpha, eps, weight_decay, momentum, maximize;
    static constexpr Field<Hyper> fields[] = {
        {"lr", &Hyper::lr},
        {"alpha", &Hyper::alpha},
        {"eps", &Hyper::eps},
        {"weight_decay", &Hyper::weight_decay},
        {"momentum", &Hyper::momentum},
        {"maximize", &Hyper::maximize},
    };
  };

  template <typename T>
  struct Coefficients {
    Objective<T> objective;
    T lr;
    T alpha;
    T one_minus_alpha;
    T eps;
    T mu;
  };

  template <typename T>
  static Coefficients<T> fold(const Hyper& h, const StepContext&) {
    return {.objective = {T(sign_of(h.maximize)), T(h.weight_decay)},
            .lr = T(h.lr),
            .alpha = T(h.alpha),
            .one_minus_alpha = T(1 - h.alpha),
            .eps = T(h.eps),
            .mu = T(h.momentum)};
  }

  template <typename T>
  static void accumulate(const Coefficients<T>& c, T g, T& v) {
    v = c.alpha * v + c.one_minus_alpha * (g * g);
  }

  template <typename T>
  static T direction(const Coefficients<T>& c, T g, T& v) {
    accumulate(c, g, v);
    return g / (square_root(v) + c.eps);
  }

  // The mean is updated by its difference, and the variance cut off at zero: written as
  // alpha a + (1 - alpha) g, rounding makes v - a^2 negative under nearly constant gradients.
  template <typename T>
  static T centered_direction(const Coefficients<T>& c, T g, T& v, T& a) {
    accumulate(c, g, v);
    a = a + c.one_minus_alpha * (g - a);
    return g / (square_root(maximum(v - a * a, T(0))) + c.eps);
  }

  template <typename T>
  static void descend(const Coefficients<T>& c, T& p, T direction) {
    p = p - c.lr * direction;
  }

  template <typename T>
  static void descend_with_momentum(const Coefficients<T>& c, T& p, T direction, T& b) {
    b = c.mu * b + direction;
    p = p - c.lr * b;
  }
};

struct RMSprop : RMSpropTerms {
  static constexpr const char* name = "rmsprop";
  static constexpr Names states{{"square_avg"}, 1};

  template <typename T>
  static void update(const Coefficients<T>& c, T& p, T g, T& v) {
    g = c.objective.gradient(g, p);
    descend(c, p, direction(c, g, v));
  }
};

struct RMSpropMomentum : RMSpropTerms {
  static constexpr const char* name = "rmsprop_momentum";
  static constexpr Names states{{"square_avg", "momentum_buffer"}, 2};

  template <typename T>
  static void update(const Coefficients<T>& c, T& p, T g, T& v, T& b) {
    g = c.objective.gradient(g, p);
    descend_with_momentum(c, p, direction(c, g, v), b);
  }
};

struct RMSpropCentered : RMSpropTerms {
  static constexpr const char* name = "rmsprop_centered";
  static constexpr Names states{{"square_avg", "grad_avg"}, 2};

  template <typename T>
  static void update(const Coefficients<T>& c, T& p, T g, T& v, T& a) {
    g = c.objective.gradient(g, p);
    descend(c, p, centered_direction(c, g, v, a));
  }
};

struct RMSpropCenteredMomentum : RMSpropTerms {
  static constexpr const char* name = "rmsprop_centered_momentum";
  static constexpr Names states{{"square_avg", "grad_avg", "momentum_buffer"}, 3};

  template <typename T>
  static void update(const Coefficients<T>& c, T& p, T g, T& v, T& a, T& b) {
    g = c.objective.gradient(g, p);
    descend_with_momentum(c, p, centered_direction(c, g, v, a), b);
  }
};

}  // namespace
}  // namespace fusedopt::FUSEDOPT_ISA
