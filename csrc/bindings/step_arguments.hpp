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
};

// Gradients, if they were given by position, else null, and arguments by name. Nothing where one is
// of an unusual type, as an option that is no float but can be read as one, or where one is wrong:
// Python says what it is. Runs no Python code.
std::optional<StepArguments> read_keywords(PyObject* grads, PyObject* const* values,
                                           PyObject* keywords);

// Of step_some(): gradients and whether the optimizer completes a step by it. Nothing as above.
struct SomeArguments {
  PyObject* grads;
  bool completes = true;
};
std::optional<SomeArguments> read_some(PyObject* const* arguments, Py_ssize_t count,
                                       PyObject* keywords);

}  // namespace fusedopt
