// Optimizer.step, whose usual call goes straight to the native stepper.
#pragma once

#include <pybind11/pybind11.h>

namespace fusedopt {

class Stepper;

// A method like `function`, of an object that has its engine as `_engine`. Where it is called with
// nothing but gradients, or nothing at all, and the engine is a Stepper that has all it needs, the
// engine takes the step; all else goes to the function. Going through a Python function with
// keywords takes as long as a small step does.
pybind11::object make_step_method(const pybind11::object& function);

}  // namespace fusedopt
