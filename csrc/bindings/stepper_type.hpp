// The Python type of the native half of an optimizer.
#pragma once

#include <pybind11/pybind11.h>

namespace fusedopt {

void add_stepper_type(pybind11::module_& module);

}  // namespace fusedopt
