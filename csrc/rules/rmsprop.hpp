// RMSProp: T. Tieleman & G. Hinton, "Lecture 6.5 - rmsprop", COURSERA, 2012.
// Centered: A. Graves, "Generating Sequences With Recurrent Neural Networks", 2013, equations
// 38-45. eps stands outside the root, as in torch.optim.RMSprop, eps_root inside, as in TensorFlow.
#pragma once

#include "rules/common.hpp"

namespace fusedopt::FUSEDOPT_ISA {
namespace {

// v <- alpha v + (1 - alpha) g^2, and the direction is g / (sqrt(v + eps_root) + eps).
// Centered, the mean a <- a + (1 - alpha) (g - a) is taken out: v - a^2 in the place of v, or zero.
// p <- p - lr direction, or with momentum b <- mu b + direction; p <- p - lr b.
struct RMSpropTerms {
  struct Hyper {
    double lr, alpha, eps, eps_root, initial_square_avg, weight_decay, decoupled_weight_decay,
        momentum, velocity, maximize;
    static constexpr Field<Hyper> fields[] = {
        {"lr", &Hyper::lr},
        {"alpha", &Hyper::alpha},
        {"eps", &Hyper::eps},
        {"eps_root", &Hyper::eps_root},
        {"initial_square_avg", &Hyper::initial_square_avg},
        {"weight_decay", &Hyper::weight_decay},
        {"decoupled_weight_decay", &Hyper::decoupled_weight_decay},
        {"momentum", &Hyper::momentum},
        {"velocity", &Hyper::velocity},
        {"maximize", &Hyper::maximize},
    };
  };

  // All of these rules have the squares' average first.
  static double initial(const Hyper& h, int state) { return state == 0 ? h.initial_square_avg : 0; }

  template <typename T>
  struct Coefficients {
    Objective<T> objective;
    T lr;
    T alpha;
    T one_minus_alpha;
    T eps_root;
    T eps;
    Gathering<T> buffer;
  };

  template <typename T>
  static Coefficients<T> fold(const Hyper& h, const StepContext& when) {
    return {.objective = objective<T>(h, when),
            .lr = T(h.lr),
            .alpha = T(h.alpha),
            .one_minus_alpha = T(1 - h.alpha),
            .eps_root = T(h.eps_root),
            .eps = T(h.eps),
            .buffer = gathering<T>(h, 1)};
  }

  template <typename T>
  static void accumulate(const Coefficients<T>& c, T g, T& v) {
    v = c.alpha * v + c.one_minus_alpha * (g * g);
  }

  template <typename T>
  static T scaled(const Coefficients<T>& c, T g, T variance) {
    return g / (square_root(variance + c.eps_root) + c.eps);
  }

  template <typename T>
  static T direction(const Coefficients<T>& c, T g, T& v) {
    accumulate(c, g, v);
    return scaled(c, g, v);
  }

  // The mean is updated by its difference, and the variance cut off at zero: written as
  // alpha a + (1 - alpha) g, rounding makes v - a^2 negative under nearly constant gradients.
  template <typename T>
  static T centered_direction(const Coefficients<T>& c, T g, T& v, T& a) {
    accumulate(c, g, v);
    a = a + c.one_minus_alpha * (g - a);
    return scaled(c, g, maximum(v - a * a, T(0)));
  }

  template <typename T>
  static void descend(const Coefficients<T>& c, T& p, T direction) {
    p = c.objective.decayed(p) - c.lr * direction;
  }

  template <typename T>
  static void descend_with_momentum(const Coefficients<T>& c, T& p, T direction, T& b) {
    b = c.buffer.next(b, direction);
    p = c.buffer.moved(c.objective.decayed(p), b);
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
