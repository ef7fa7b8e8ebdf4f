// Step counts as torch has them: floating-point numbers, beside the core's.
#pragma once

#include <pybind11/pybind11.h>

namespace fusedopt {

// Arrays of one dimension and the same length: float32 or float64, and int64.
bool are_counts(pybind11::handle floats, pybind11::handle counts);
void write_counts(pybind11::handle floats, pybind11::handle counts);

}  // namespace fusedopt
