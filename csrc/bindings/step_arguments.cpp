#include "bindings/step_arguments.hpp"

#include <cmath>
#include <limits>

namespace fusedopt {
namespace {

// Interned, as the names in a call are: names that are equal are then one object.
struct OptionNames {
  PyObject* const grads = PyUnicode_InternFromString("grads");
  PyObject* const completes = PyUnicode_InternFromString("completes");
  PyObject* const loss_scale = PyUnicode_InternFromString("loss_scale");
  PyObject* const max_norm = PyUnicode_InternFromString("max_norm");
  PyObject* const max_array_norm = PyUnicode_InternFromString("max_array_norm");
  PyObject* const clip_value = PyUnicode_InternFromString("clip_value");
  PyObject* const on_nonfinite = PyUnicode_InternFromString("on_nonfinite");
  PyObject* const zero_grads = PyUnicode_InternFromString("zero_grads");
  PyObject* const stats = PyUnicode_InternFromString("stats");
};

// A number above 0 up to the largest one; None leaves what there is.
template <typename Number>
bool read_number(PyObject* value, double largest, Number& number, bool& has_options) {
  if (value == Py_None) return true;
  if (!PyFloat_CheckExact(value)) return false;
  const double x = PyFloat_AS_DOUBLE(value);
  if (!(x > 0 && x <= largest)) return false;
  number = x;
  has_options = true;
  return true;
}

bool read_flag(PyObject* value, bool& flag, bool& has_options) {
  if (!PyBool_Check(value)) return false;
  flag = value == Py_True;
  has_options |= flag;
  return true;
}

bool read_action(PyObject* value, OnNonfinite& action, bool& has_options) {
  if (!PyUnicode_CheckExact(value)) return false;
  const auto is = [value](const char* name) {
    return PyUnicode_CompareWithASCIIString(value, name) == 0;
  };
  if (is("propagate")) return true;
  if (!is("skip") && !is("raise")) return false;
  action = is("skip") ? OnNonfinite::skip : OnNonfinite::raise;
  has_options = true;
  return true;
}

bool read_option(StepArguments& read, const OptionNames& names, PyObject* name, PyObject* value) {
  constexpr double finite = std::numeric_limits<double>::max();
  StepOptions& options = read.options;
  bool& any = read.has_options;
  if (name == names.max_norm) return read_number(value, HUGE_VAL, options.max_norm, any);
  if (name == names.max_array_norm) return read_number(value, finite, options.max_array_norm, any);
  if (name == names.loss_scale) return read_number(value, finite, options.loss_scale, any);
  if (name == names.clip_value) return read_number(value, finite, options.clip_value, any);
  if (name == names.on_nonfinite) return read_action(value, options.on_nonfinite, any);
  if (name == names.zero_grads) return read_flag(value, options.zero_grads, any);
  if (name == names.stats) return read_flag(value, options.stats, any);
  return false;
}

const OptionNames& option_names() {
  static const OptionNames names;
  return names;
}

bool go_together(const StepOptions& options) {
  return !options.max_norm || !options.max_array_norm;
}

}  // namespace

std::optional<StepArguments> read_keywords(PyObject* grads, PyObject* const* values,
                                           PyObject* keywords) {
  const OptionNames& names = option_names();
  StepArguments read;
  if (grads) read.grads = grads;
  for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(keywords); ++k) {
    PyObject* const name = PyTuple_GET_ITEM(keywords, k);
    if (name == names.grads && !grads) {
      read.grads = values[k];
    } else if (!read_option(read, names, name, values[k])) {
      return std::nullopt;
    }
  }
  if (!go_together(read.options)) return std::nullopt;
  return read;
}

std::optional<StepArguments> read_some(PyObject* const* arguments, Py_ssize_t count,
                                       PyObject* keywords) {
  if (count != 2) return std::nullopt;
  StepArguments read;
  read.grads = arguments[1];
  const Py_ssize_t named = keywords ? PyTuple_GET_SIZE(keywords) : 0;
  for (Py_ssize_t k = 0; k < named; ++k) {
    PyObject* const name = PyTuple_GET_ITEM(keywords, k);
    PyObject* const value = arguments[2 + k];
    bool is_given = false;
    const bool is_read = name == option_names().completes
                             ? read_flag(value, read.completes, is_given)
                             : read_option(read, option_names(), name, value);
    if (!is_read) return std::nullopt;
  }
  if (!go_together(read.options)) return std::nullopt;
  return read;
}

}  // namespace fusedopt
