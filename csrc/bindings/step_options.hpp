// What a caller may want of a step besides the update.
#pragma once

#include <cmath>
#include <optional>

namespace fusedopt {

enum class OnNonfinite { propagate, skip, raise };

struct StepOptions {
  double loss_scale = 1;                 // gradients count as divided by it
  std::optional<double> max_norm;        // of all gradients together; or:
  std::optional<double> max_array_norm;  // of each by itself
  double clip_value = HUGE_VAL;          // of each element
  OnNonfinite on_nonfinite = OnNonfinite::propagate;
  bool zero_grads = false;
  bool stats = false;  // measure what happens

  // Whether gradients are looked at before anything moves.
  bool scans() const {
    return max_norm || max_array_norm || on_nonfinite != OnNonfinite::propagate;
  }

  // What gradients are multiplied by, given the norm of what they count as. The coefficient is that
  // of torch.nn.utils.clip_grad_norm_; NaN stays.
  double gradient_scale(double norm) const {
    if (max_array_norm) return 1;  // each has its own
    if (!max_norm || *max_norm == HUGE_VAL) return 1 / loss_scale;
    const double coefficient = *max_norm / (norm + 1e-6);
    return (coefficient > 1 ? 1 : coefficient) / loss_scale;
  }

  // What a gradient is multiplied by, given the norm of what it counts as by itself: as by Keras'
  // clipnorm and thinc's grad_clip, which leave one of that norm as it is.
  double array_scale(double norm) const {
    return (norm > *max_array_norm ? *max_array_norm / norm : 1) / loss_scale;
  }
};

}  // namespace fusedopt
