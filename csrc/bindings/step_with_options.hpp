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
  // For these parameters, in the order of their numbers, and as the plan has them: a piece of its
  // own for each where statistics are asked for, and coefficients where each is scaled by itself.
  // Throws where it would write what it may not. Nothing has been written yet.
  void prepare(std::vector<Stepped> stepped, Plan& plan);
  // The same for those that have a gradient here.
  void prepare(const GivenGradients& grads, Plan& plan);
  // All of it, perhaps without the GIL.
  void run(Plan& plan);
  // Whether parameters were updated: not, where that was to be skipped because of what gradients
  // hold, or to be an error.
  bool moves() const { return moves_; }
  // Zeros for gradients that only copies of were read.
  void zero_cast(const GivenGradients& grads) const;
  // Throws, if it was to be one.
  void require_finite() const;
  // The gradients' norm and what was measured in each group, if it was asked for, and in between
  // whether nothing was updated.
  py::tuple result() const;

 private:
  template <typename ArrayOf>
  ArrayScan scan_of(const ArrayOf& array_of) const;
  std::vector<Measures::Sums> sums() const;
  py::list stats_of_groups(const std::vector<Measures::Sums>& sums) const;

  const StepOptions& options_;
  const Holdings& held_;
  std::vector<Stepped> stepped_;
  ArrayScan scan_;      // of gradients
  ArrayScan standing_;  // of parameters that stay where they are
  Measures measures_;
  double norm_ = 0;
  bool moves_ = true;
};

}  // namespace fusedopt
