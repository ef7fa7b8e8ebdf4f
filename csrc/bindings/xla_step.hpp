// A step inside a program that XLA compiled, as JAX's are.
#pragma once

#include "bindings/xla_ffi.hpp"

namespace fusedopt {

// Takes a step over XLA's arrays. It runs on whichever thread runs the program, without the GIL.
//
// Attributes: "rule", its name; "hyperparameters", its numbers, float64; and of those numbers that
// the program computes "computed", their places, int64, with the bounds "low" and "high" and
// "expected", a line for each that says so.
//
// Arguments: the count of this step from 1, int32; the numbers that are computed, float32 or
// float64; all parameters; all arrays of each state; all gradients. Results are the parameters and
// states, in the same memory where XLA could arrange it.
xla::Error* xla_step(xla::CallFrame* frame) noexcept;

}  // namespace fusedopt
