#include "bindings/adopted_state.hpp"

#include <string>
#include <utility>

namespace fusedopt {

void AdoptedState::adopt(const std::vector<StateArray>& arrays, std::vector<StateArray>& given_up) {
  for (Adopted& a : std::exchange(all_, {})) given_up.push_back(std::move(a.its));
  for (const StateArray& its : arrays) all_.push_back({its, data_of(its.array)});
}

std::vector<StateArray> AdoptedState::find_lost(const Parameters& parameters) const {
  std::vector<StateArray> lost;
  for (const Adopted& a : all_) {
    if (!is_usable_still(a, parameters)) lost.push_back(a.its);
  }
  return lost;
}

void AdoptedState::let_go_of_lost(const Parameters& parameters, const States& states,
                                  std::vector<StateArray>& given_up) {
  std::vector<Adopted> kept;
  for (Adopted& a : std::exchange(all_, {})) {
    const bool is_there = states.data(a.its.state, a.its.parameter) == a.data;
    if (is_there && is_usable_still(a, parameters)) {
      kept.push_back(std::move(a));
    } else {
      given_up.push_back(std::move(a.its));
    }
  }
  all_ = std::move(kept);
}

void AdoptedState::throw_lost(const Adopted& a, const Parameters& parameters,
                              const States& states) {
  throw py::value_error(a.its.text(parameters, states) +
                        ": expected the array that was adopted, as it was then; it was resized, "
                        "reshaped or frozen. Load the state again");
}

}  // namespace fusedopt
