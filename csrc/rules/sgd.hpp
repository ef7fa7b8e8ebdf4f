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
    double lr, weight_decay, decoupled_weight_decay, maximize;
    static constexpr Field<Hyper> fields[] = {
        {"lr", &Hyper::lr},
        {"weight_decay", &Hyper::weight_decay},
        {"decoupled_weight_decay", &Hyper::decoupled_weight_decay},
        {"maximize", &Hyper::maximize},
    };
  };

  template <typename T>
  struct Coefficients {
    Objective<T> objective;
    T lr;
  };

  template <typename T>
  static Coefficients<T> fold(const Hyper& h, const StepContext& when) {
    return {.objective = objective<T>(h, when), .lr = T(h.lr)};
  }

  template <typename T>
  static void update(const Coefficients<T>& c, T& p, T g) {
    g = c.objective.gradient(g, p);
    p = c.objective.decayed(p) - c.lr * g;
  }
};

// b <- mu b + (1 - dampening) g, but the first b is g itself unless it starts from zero;
// p <- p - lr b, or p - lr (g + mu b) with Nesterov.
// As a velocity: b <- mu b - lr g; p <- p + b, or p + (mu b - lr g) with Nesterov.
// Nesterov's direction is what the buffer would be with the same gradient once more.
struct Momentum {
  static constexpr const char* name = "momentum";
  static constexpr Names states{{"momentum_buffer"}, 1};

  struct Hyper {
    double lr, momentum, dampening, weight_decay, decoupled_weight_decay, nesterov, velocity,
        zero_init, maximize;
    static constexpr Field<Hyper> fields[] = {
        {"lr", &Hyper::lr},
        {"momentum", &Hyper::momentum},
        {"dampening", &Hyper::dampening},
        {"weight_decay", &Hyper::weight_decay},
        {"decoupled_weight_decay", &Hyper::decoupled_weight_decay},
        {"nesterov", &Hyper::nesterov},
        {"velocity", &Hyper::velocity},
        {"zero_init", &Hyper::zero_init},
        {"maximize", &Hyper::maximize},
    };
  };

  template <typename T>
  struct Coefficients {
    Objective<T> objective;
    Gathering<T> buffer;
    bool starts;
    bool nesterov;
  };

  template <typename T>
  static Coefficients<T> fold(const Hyper& h, const StepContext& when) {
    return {.objective = objective<T>(h, when),
            .buffer = gathering<T>(h, 1 - h.dampening),
            .starts = when.fresh && h.zero_init == 0,
            .nesterov = h.nesterov != 0};
  }

  template <typename T>
  static void update(const Coefficients<T>& c, T& p, T g, T& b) {
    g = c.objective.gradient(g, p);
    b = c.starts ? g : c.buffer.next(b, g);
    const T direction = c.nesterov ? c.buffer.next(b, g) : b;
    p = c.buffer.moved(c.objective.decayed(p), direction);
  }
};

// Where the velocity v alone would carry a parameter, p + mu v: there Nesterov evaluates the
// gradient. And back again. No step of an optimizer, but a pass over the same arrays.
struct Lookahead {
  static constexpr const char* name = "lookahead";
  static constexpr Names states{{"momentum_buffer", "origin"}, 2};
  static constexpr bool reads_gradient = false;

  struct Hyper {
    double momentum, back;
    static constexpr Field<Hyper> fields[] = {
        {"momentum", &Hyper::momentum},
        {"back", &Hyper::back},
    };
  };

  template <typename T>
  struct Coefficients {
    T mu;
    bool back;
  };

  template <typename T>
  static Coefficients<T> fold(const Hyper& h, const StepContext&) {
    return {.mu = T(h.momentum), .back = h.back != 0};
  }

  template <typename T>
  static void update(const Coefficients<T>& c, T& p, T, T& v, T& origin) {
    const T before = p;
    p = c.back ? origin : p + c.mu * v;
    origin = c.back ? origin : before;
  }
};

}  // namespace
}  // namespace fusedopt::FUSEDOPT_ISA
