// Optimizer.step, whose usual call goes straight to the native stepper.
#pragma once

#include <pybind11/pybind11.h>

namespace fusedopt {

class Stepper;

// A method like `function`, of an object that has its engine as `_engine`. Where the engine is a
// Stepper that has all it needs, and options are what they usually are, the engine takes the step;
// all else goes to the function. Going through a Python function with keywords takes several times
// as long as a small step. result and stats: the frozen dataclasses of what a step with options
// returns, and of what it measured in a group.
pybind11::object make_step_method(const pybind11::object& function, const pybind11::type& result,
                                  const pybind11::type& stats);

// The same for Optimizer.step_some.
pybind11::object make_step_some_method(const pybind11::object& function,
                                       const pybind11::type& result, const pybind11::type& stats);

}  // namespace fusedopt
