// Adam: D. P. Kingma & J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, algorithm 1,
// and the more efficient order of computation at the end of its section 2 (eps_hat).
// AdamW: I. Loshchilov & F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019,
// algorithm 2. AMSGrad: S. J. Reddi, S. Kale & S. Kumar, "On the Convergence of Adam and Beyond",
// ICLR 2018, there without bias correction. With it, the maximum is taken before the correction, as
// in torch.optim.Adam, or after it, as in optax.
#pragma once

#include "rules/common.hpp"
#include "rules/power.hpp"

namespace fusedopt::FUSEDOPT_ISA {
namespace {

// What is missing from an average that began with zero, 1 - beta^t. Once e^(-(1 - beta) t), which
// is no less than beta^t, is below 2^-54, that is exactly 1: no power is needed then.
inline double correction(double beta, std::int64_t t) {
  return (1 - beta) * double(t) > 40 ? 1 : 1 - power(beta, t);
}

// m <- beta1 m + (1 - beta1) g;  v <- beta2 v + (1 - beta2) g^2;
// p <- p - lr m_hat / (sqrt(v_hat + eps_root) + eps),
// where m_hat = m / (1 - beta1^t), v_hat = v / (1 - beta2^t); without bias correction m and v.
// The efficient form: p <- p - lr sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + eps).
struct AdamTerms {
  struct Hyper {
    double lr, beta1, beta2, eps, eps_root, eps_hat, bias_correction, corrected_max, weight_decay,
        decoupled_weight_decay, maximize;
    static constexpr Field<Hyper> fields[] = {
        {"lr", &Hyper::lr},
        {"beta1", &Hyper::beta1},
        {"beta2", &Hyper::beta2},
        {"eps", &Hyper::eps},
        {"eps_root", &Hyper::eps_root},
        {"eps_hat", &Hyper::eps_hat},
        {"bias_correction", &Hyper::bias_correction},
        {"corrected_max", &Hyper::corrected_max},
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
    T max_scale;   // what the maximum is taken of, per v
    T root_eps;    // eps_root, per what stands under the root
    T root_scale;  // sqrt(v_hat + eps_root) = root_scale sqrt(v + root_eps)
    T eps;
    T step_size;  // lr m_hat = step_size m
  };

  template <typename T>
  static Coefficients<T> fold(const Hyper& h, const StepContext& when) {
    const bool corrects = h.bias_correction != 0;
    const double correction1 = corrects ? correction(h.beta1, when.step) : 1;
    const double correction2 = corrects ? correction(h.beta2, when.step) : 1;
    const bool corrected_max = h.corrected_max != 0;
    const bool eps_hat = h.eps_hat != 0;
    // A corrected maximum needs no correction under the root.
    const double missing = corrected_max ? 1 : correction2;
    return {.objective = objective<T>(h, when),
            .beta1 = T(h.beta1),
            .one_minus_beta1 = T(1 - h.beta1),
            .beta2 = T(h.beta2),
            .one_minus_beta2 = T(1 - h.beta2),
            .max_scale = T(corrected_max ? 1 / correction2 : 1),
            .root_eps = T(h.eps_root * missing),
            .root_scale = T(eps_hat ? 1 : 1 / ::sqrt(missing)),
            .eps = T(h.eps),
            .step_size = T((eps_hat ? h.lr * ::sqrt(correction2) : h.lr) / correction1)};
  }

  template <typename T>
  static void moments(const Coefficients<T>& c, T g, T& m, T& v) {
    m = c.beta1 * m + c.one_minus_beta1 * g;
    v = c.beta2 * v + c.one_minus_beta2 * (g * g);
  }

  template <typename T>
  static void descend(const Coefficients<T>& c, T& p, T m, T v) {
    const T root = c.root_scale * square_root(v + c.root_eps);
    p = c.objective.decayed(p) - c.step_size * m / (root + c.eps);
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
    v_max = maximum(v_max, c.max_scale * v);
    descend(c, p, m, v_max);
  }
};

}  // namespace
}  // namespace fusedopt::FUSEDOPT_ISA
