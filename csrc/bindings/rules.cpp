#include "bindings/rules.hpp"

#include <cmath>
#include <cstdlib>
#include <limits>
#include <stdexcept>
#include <string>

namespace fusedopt {

namespace py = pybind11;

namespace {
const InstructionSet* active = nullptr;
}

void activate_instruction_set() {
  const char* value = std::getenv("FUSEDOPT_ISA");
  const std::string_view forced = value ? value : "";  // empty is as good as unset
  try {
    active = &choose_instruction_set(forced);
  } catch (const std::invalid_argument& error) {
    throw py::import_error(error.what());
  }
}

const InstructionSet& active_instruction_set() { return *active; }

const RuleInfo& find_rule(std::string_view name) {
  const KernelTable& table = *active->kernels;
  for (int k = 0; k < table.count; ++k) {
    if (name == table.rules[k].name) return table.rules[k];
  }
  throw py::value_error("rule: there is none named '" + std::string(name) + "'");
}

ConfiguredRule::ConfiguredRule(std::string_view name, const py::dict& values)
    : info(&find_rule(name)) {
  const Names& names = info->hyperparameters;
  for (int k = 0; k < names.count; ++k) {
    PyObject* value = PyDict_GetItemString(values.ptr(), names.items[k]);
    if (!value) {
      throw py::value_error("hyperparameters: rule '" + std::string(name) + "' needs '" +
                            names.items[k] + "'");
    }
    hyperparameters[static_cast<std::size_t>(k)] = py::cast<double>(py::handle(value));
  }
  if (static_cast<int>(values.size()) != names.count) {
    throw py::value_error("hyperparameters: rule '" + std::string(name) + "' takes " +
                          std::to_string(names.count) + ", got " + std::to_string(values.size()));
  }
}

int ConfiguredRule::infinite_in(DType dtype) const {
  if (dtype == DType::float64) return -1;  // checked in Python
  for (int k = 0; k < info->hyperparameters.count; ++k) {
    const double value = hyperparameters[static_cast<std::size_t>(k)];
    if (!(std::abs(value) <= std::numeric_limits<float>::max())) return k;
  }
  return -1;
}

void ConfiguredRule::require_finite(DType dtype) const {
  const int k = infinite_in(dtype);
  if (k < 0) return;
  const double value = hyperparameters[static_cast<std::size_t>(k)];
  throw py::value_error(std::string(info->hyperparameters.items[k]) +
                        ": expected a number that is finite in float32, as parameters are, got " +
                        py::cast<std::string>(py::repr(py::float_(value))));
}

}  // namespace fusedopt
