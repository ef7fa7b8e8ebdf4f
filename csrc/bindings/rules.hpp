// The active instruction set's rules, looked up by the names Python uses.
#pragma once

#include <pybind11/pybind11.h>

#include <array>
#include <string_view>

#include "kernels/dispatch.hpp"

namespace fusedopt {

// Chosen once, when the module is imported.
void activate_instruction_set();
const InstructionSet& active_instruction_set();

inline const ArrayKernel& array_kernel(DType dtype) {
  return *active_instruction_set().kernels->arrays[static_cast<int>(dtype)];
}

const RuleInfo& find_rule(std::string_view name);

// Of the averages that follow behind rules.
inline const Kernel& average_kernel(DType dtype) {
  return find_rule("ema").kernels[static_cast<int>(dtype)];
}

// A rule with values for its hyperparameters.
struct ConfiguredRule {
  const RuleInfo* info = nullptr;
  std::array<double, max_hyperparameters> hyperparameters{};

  ConfiguredRule() = default;
  // Throws unless the dict has exactly the rule's hyperparameters.
  ConfiguredRule(std::string_view name, const pybind11::dict& values);

  // Which hyperparameter would be infinite in the dtype; -1 if none. Needs no GIL.
  int infinite_in(DType dtype) const;
  // Throws where one would be.
  void require_finite(DType dtype) const;

  // What a state array of the rule is filled with when it is made.
  double initial(std::size_t state) const {
    return info->initial(hyperparameters.data(), static_cast<int>(state));
  }

  const Kernel& kernel(DType dtype) const { return info->kernels[static_cast<int>(dtype)]; }
};

}  // namespace fusedopt
