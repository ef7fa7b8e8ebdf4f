// What Python sees and sets of a process's threads, instruction set and the like.
#pragma once

#include <pybind11/pybind11.h>

namespace fusedopt {

void add_settings(pybind11::module_& module);

}  // namespace fusedopt
