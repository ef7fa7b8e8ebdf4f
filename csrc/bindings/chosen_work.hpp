// The work of a step of some parameters, at the cost of these.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "bindings/given_gradients.hpp"
#include "bindings/holdings.hpp"
#include "engine/plan.hpp"

namespace fusedopt {

class ChosenWork {
 public:
  // A parameter that has a gradient, that, and what stands for it; borrowed.
  struct Chosen {
    std::size_t parameter;
    PyObject *given, *grad;
  };

  // Finds the parameters that a dict has gradients for, by name, or all by index. False where one
  // isn't there. Runs no Python code: keys are exact, and found among exact ones.
  bool choose(py::handle grads, const Parameters& parameters);
  // In the order of the parameters: sums over them don't depend on the dict's.
  void sort() { std::ranges::sort(chosen_, {}, &Chosen::parameter); }
  // Lays out their work, each by itself. False where anything is unusual, as state that is missing,
  // or wrong: that takes a look at all.
  bool gather(Holdings& held, Translator& translator);

  const std::vector<Chosen>& chosen() const { return chosen_; }
  std::vector<Stepped> stepped() const;
  Plan& plan() { return plan_; }

 private:
  std::vector<Chosen> chosen_;
  Plan plan_;
};

}  // namespace fusedopt
