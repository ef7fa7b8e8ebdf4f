// Arrays of state that are the user's own.
#pragma once

#include <cstddef>
#include <vector>

#include "bindings/native_type.hpp"
#include "bindings/parameters.hpp"
#include "bindings/states.hpp"

namespace fusedopt {

// An array of a state, of a parameter.
struct StateArray {
  std::size_t state, parameter;
  Reference array;

  // How an error calls it.
  std::string text(const Parameters& parameters, const States& states) const {
    return parameters.names().label("state", parameter).text() + "['" + states.name(state) + "']";
  }
};

class AdoptedState {
 public:
  // These instead of any before, which go to given_up, where they lie now.
  void adopt(const std::vector<StateArray>& arrays, std::vector<StateArray>& given_up);

  // Throws where one can no longer be updated where it lay when it was adopted.
  void require_usable(const Parameters& parameters, const States& states) const {
    for (const Adopted& a : all_) {
      if (!is_usable_still(a, parameters)) throw_lost(a, parameters, states);
    }
  }
  // Those that can't be.
  std::vector<StateArray> find_lost(const Parameters& parameters) const;
  // They, and those in the place of which there is another array, go to given_up.
  void let_go_of_lost(const Parameters& parameters, const States& states,
                      std::vector<StateArray>& given_up);

  void visit(Visitor& visitor) const {
    for (const Adopted& a : all_) visitor(a.its.array);
  }

 private:
  struct Adopted {
    StateArray its;
    const void* data;  // where it lay
  };

  static bool is_usable_still(const Adopted& a, const Parameters& parameters) {
    const Parameter& p = parameters[a.its.parameter];
    return data_of(a.its.array) == a.data &&
           is_usable(a.its.array, p.dtype, p.shape, Access::update);
  }
  [[noreturn]] static void throw_lost(const Adopted& a, const Parameters& parameters,
                                      const States& states);

  std::vector<Adopted> all_;
};

}  // namespace fusedopt
