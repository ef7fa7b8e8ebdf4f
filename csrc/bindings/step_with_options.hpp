// What a step with options does besides the update, and says of it.
#pragma once

#include <vector>

#include "bindings/given_gradients.hpp"
#include "bindings/holdings.hpp"
#include "bindings/step_options.hpp"
#include "bindings/step_work.hpp"
#include "engine/array_scan.hpp"
#include "engine/measures.hpp"
#include "engine/plan.hpp"

namespace fusedopt {

class StepWithOptions {
 public:
  StepWithOptions(const StepOptions& options, const Holdings& held)
      : options_(options), held_(held) {}

  // How its work is laid out.
  Pieces pieces() const;
  // Throws where it would write what it may not. Nothing has been written yet.
  void prepare(const GivenGradients& grads, Plan& plan);
  // All of it, perhaps without the GIL.
  void run(const GivenGradients& grads, Plan& plan);
  // Whether parameters were updated: not, where that was to be skipped because of what gradients
  // hold, or to be an error.
  bool moves() const { return moves_; }
  // Zeros for gradients that only copies of were read.
  void zero_cast(const GivenGradients& grads) const;
  // Throws, if it was to be one.
  void require_finite() const;
  // The gradients' norm and what was measured in each group, if it was asked for, and in between
  // whether nothing was updated.
  py::tuple result(const GivenGradients& grads) const;

 private:
  ArrayScan scan_of(PyObject* const* arrays, PyObject* const* grads) const;
  std::vector<Measures::Sums> sums_of(PyObject* const* grads) const;
  py::list stats_of_groups(const std::vector<Measures::Sums>& sums) const;

  const StepOptions& options_;
  const Holdings& held_;
  ArrayScan scan_;      // of gradients
  ArrayScan standing_;  // of parameters that stay where they are
  Measures measures_;
  double norm_ = 0;
  bool moves_ = true;
};

}  // namespace fusedopt
