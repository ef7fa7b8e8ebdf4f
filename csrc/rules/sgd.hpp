// Gradient descent, plain and with momentum.
//
//   Momentum: B. T. Polyak, "Some methods of speeding up the convergence of iteration methods",
//   1964. Nesterov: Y. Nesterov, "A method of solving a convex programming problem with convergence
//   rate O(1/k^2)", 1983, in the form of Sutskever, Martens, Dahl & Hinton, "On the importance of
//   initialization and momentum in deep learning", ICML 2013, as torch.optim.SGD writes it.
#pragma once

#include "rules/common.hpp"

namespace fusedopt::FUSEDOPT_ISA {
namespace {

// p <- p - lr g
struct SGD {
  static constexpr const char* name = "sgd";
  static constexpr Names states{{}, 0};

  struct Hyper {
    double lr, weight_decay, maximize;
    static constexpr Field<Hyper> fields[] = {
        {"lr", &Hyper::lr},
        {"weight_decay", &Hyper::weight_decay},
        {"maximize", &Hyper::maximize},
    };
  };

  template <typename T>
  struct Coefficients {
    Objective<T> objective;
    T lr;
  };

  template <typename T>
  static Coefficients<T> fold(const Hyper& h, const StepContext&) {
    return {.objective = {T(sign_of(h.maximize)), T(h.weight_decay)}, .lr = T(h.lr)};
  }

  template <typename T>
  static void update(const Coefficients<T>& c, T& p, T g) {
    g = c.objective.gradient(g, p);
    p = p - c.lr * g;
  }
};

// b <- mu b + (1 - dampening) g, but the first b is g itself;
// p <- p - lr b, or p - lr (g + mu b) with Nesterov.
struct Momentum {
  static constexpr const char* name = "momentum";
  static constexpr Names states{{"momentum_buffer"}, 1};

  struct Hyper {
    double lr, momentum, dampening, weight_decay, nesterov, maximize;
    static constexpr Field<Hyper> fields[] = {
        {"lr", &Hyper::lr},
        {"momentum", &Hyper::momentum},
        {"dampening", &Hyper::dampening},
        {"weight_decay", &Hyper::weight_decay},
        {"nesterov", &Hyper::nesterov},
        {"maximize", &Hyper::maximize},
    };
  };

  template <typename T>
  struct Coefficients {
    Objective<T> objective;
    T lr;
    T mu;
    T one_minus_dampening;
    bool starts;
    bool nesterov;
  };

  template <typename T>
  static Coefficients<T> fold(const Hyper& h, const StepContext& when) {
    return {.objective = {T(sign_of(h.maximize)), T(h.weight_decay)},
            .lr = T(h.lr),
            .mu = T(h.momentum),
            .one_minus_dampening = T(1 - h.dampening),
            .starts = when.fresh,
            .nesterov = h.nesterov != 0};
  }

  template <typename T>
  static void update(const Coefficients<T>& c, T& p, T g, T& b) {
    g = c.objective.gradient(g, p);
    b = c.starts ? g : c.mu * b + c.one_minus_dampening * g;
    const T direction = c.nesterov ? g + c.mu * b : b;
    p = p - c.lr * direction;
  }
};

}  // namespace
}  // namespace fusedopt::FUSEDOPT_ISA
