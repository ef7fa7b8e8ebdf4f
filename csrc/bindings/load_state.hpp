// State of another optimizer, or of this one at another time, in the place of what there is.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "bindings/holdings.hpp"

namespace fusedopt {

struct SavedState {
  py::list states;                  // for each parameter a dict of arrays by name
  std::vector<std::int64_t> steps;  // and how many it has taken
  std::int64_t completed_steps;
  std::vector<GroupRule> rules;  // for each group
  // For each parameter what is to be in it; none: they stay as they are.
  std::optional<std::vector<py::object>> params;
  // Whether arrays of state are not copied but are the state from then on.
  bool adopts;
};

// Throws where an array doesn't fit its parameter, and changes nothing then. Arrays that were
// adopted and no longer are go to given_up: as they are let go of, a finalizer may run that looks
// at the optimizer.
void load_state(Holdings& held, const SavedState& saved, std::vector<StateArray>& given_up);

}  // namespace fusedopt
