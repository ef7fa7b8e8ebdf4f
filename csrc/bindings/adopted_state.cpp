#include "bindings/adopted_state.hpp"

#include <algorithm>
#include <string>

namespace fusedopt {

void AdoptedState::adopt(const std::vector<StateArray>& arrays) {
  all_.clear();
  for (const StateArray& its : arrays) all_.push_back({its, data_of(its.array)});
}

bool AdoptedState::has_lost(std::size_t state, std::size_t parameter,
                            const Parameters& parameters) const {
  return std::ranges::any_of(all_, [&](const Adopted& a) {
    return a.its.state == state && a.its.parameter == parameter && !is_usable_still(a, parameters);
  });
}

void AdoptedState::forget_lost(const Parameters& parameters, const States& states) {
  std::erase_if(all_, [&](const Adopted& a) {
    return states.data(a.its.state, a.its.parameter) != a.data || !is_usable_still(a, parameters);
  });
}

void AdoptedState::throw_lost(const Adopted& a, const Parameters& parameters,
                              const States& states) {
  throw py::value_error(a.its.text(parameters, states) +
                        ": expected the array that was adopted, as it was then; it was resized, "
                        "reshaped or frozen. Load the state again");
}

}  // namespace fusedopt
