// What Optimizer.step was called with, where it is what it usually is.
#pragma once

#include <Python.h>

#include <optional>

#include "bindings/step_options.hpp"

namespace fusedopt {

struct StepArguments {
  PyObject* grads = Py_None;  // borrowed
  StepOptions options;
  bool has_options = false;
  bool completes = true;  // of step_some(): whether the optimizer completes a step by it
};

// Gradients, if they were given by position, else null, and arguments by name. Nothing where one is
// of an unusual type, as an option that is no float but can be read as one, or where one is wrong:
// Python says what it is. Runs no Python code.
std::optional<StepArguments> read_keywords(PyObject* grads, PyObject* const* values,
                                           PyObject* keywords);

// The same of step_some(), with itself and gradients by position.
std::optional<StepArguments> read_some(PyObject* const* arguments, Py_ssize_t count,
                                       PyObject* keywords);

}  // namespace fusedopt
