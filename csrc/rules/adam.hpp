// Adam: D. P. Kingma & J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, algorithm 1.
// AdamW: I. Loshchilov & F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019,
// algorithm 2. AMSGrad: S. J. Reddi, S. Kale & S. Kumar, "On the Convergence of Adam and Beyond",
// ICLR 2018, with bias correction, and the maximum taken before it, as torch.optim.Adam has it.
#pragma once

#include "rules/common.hpp"

namespace fusedopt::FUSEDOPT_ISA {
namespace {

// m <- beta1 m + (1 - beta1) g;  v <- beta2 v + (1 - beta2) g^2;
// p <- p - lr m_hat / (sqrt(v_hat) + eps), where m_hat = m / (1 - beta1^t), v_hat = v / (1 -
// beta2^t). Decoupled weight decay shrinks p by 1 - lr weight_decay first.
struct AdamTerms {
  struct Hyper {
    double lr, beta1, beta2, eps, weight_decay, decoupled_weight_decay, maximize;
    static constexpr Field<Hyper> fields[] = {
        {"lr", &Hyper::lr},
        {"beta1", &Hyper::beta1},
        {"beta2", &Hyper::beta2},
        {"eps", &Hyper::eps},
        {"weight_decay", &Hyper::weight_decay},
        {"decoupled_weight_decay", &Hyper::decoupled_weight_decay},
        {"maximize", &Hyper::maximize},
    };
  };

  template <typename T>
  struct Coefficients {
    Objective<T> objective;
    T beta1;
    T one_minus_beta1;
    T beta2;
    T one_minus_beta2;
    T root_scale;  // sqrt(v_hat) = root_scale sqrt(v)
    T eps;
    T step_size;  // lr m_hat = step_size m
    T keep;       // what decoupled weight decay leaves of p
  };

  template <typename T>
  static Coefficients<T> fold(const Hyper& h, const StepContext& when) {
    const double t = double(when.step);
    const bool decoupled = h.decoupled_weight_decay != 0;
    return {.objective = {T(sign_of(h.maximize)), T(decoupled ? 0 : h.weight_decay)},
            .beta1 = T(h.beta1),
            .one_minus_beta1 = T(1 - h.beta1),
            .beta2 = T(h.beta2),
            .one_minus_beta2 = T(1 - h.beta2),
            .root_scale = T(1 / ::sqrt(1 - ::pow(h.beta2, t))),
            .eps = T(h.eps),
            .step_size = T(h.lr / (1 - ::pow(h.beta1, t))),
            .keep = T(decoupled ? 1 - h.lr * h.weight_decay : 1)};
  }

  template <typename T>
  static void moments(const Coefficients<T>& c, T g, T& m, T& v) {
    m = c.beta1 * m + c.one_minus_beta1 * g;
    v = c.beta2 * v + c.one_minus_beta2 * (g * g);
  }

  template <typename T>
  static void descend(const Coefficients<T>& c, T& p, T m, T v) {
    p = c.keep * p - c.step_size * m / (c.root_scale * square_root(v) + c.eps);
  }
};

struct Adam : AdamTerms {
  static constexpr const char* name = "adam";
  static constexpr Names states{{"exp_avg", "exp_avg_sq"}, 2};

  template <typename T>
  static void update(const Coefficients<T>& c, T& p, T g, T& m, T& v) {
    g = c.objective.gradient(g, p);
    moments(c, g, m, v);
    descend(c, p, m, v);
  }
};

// v_max <- max(v_max, v) stands in the denominator in place of v.
struct AMSGrad : AdamTerms {
  static constexpr const char* name = "amsgrad";
  static constexpr Names states{{"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}, 3};

  template <typename T>
  static void update(const Coefficients<T>& c, T& p, T g, T& m, T& v, T& v_max) {
    g = c.objective.gradient(g, p);
    moments(c, g, m, v);
    v_max = maximum(v_max, v);
    descend(c, p, m, v_max);
  }
};

}  // namespace
}  // namespace fusedopt::FUSEDOPT_ISA
