// One update of arrays whose state the caller owns.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string_view>

namespace fusedopt {

// arguments: argument name -> array, or list of arrays; the parameters, their gradients if the rule
// reads them, then its state arrays in its order. step is the count of this step, from 1.
void apply(std::string_view rule, const pybind11::dict& hyperparameters, std::int64_t step,
           const pybind11::dict& arguments);

// The root of the sum of all squares of arrays, as a step finds it.
double global_norm(pybind11::handle arrays);

}  // namespace fusedopt
