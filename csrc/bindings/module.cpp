// fusedopt._core: see python/fusedopt/_core.pyi for what Python sees.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/contents.hpp"
#include "bindings/float_counts.hpp"
#include "bindings/functional.hpp"
#include "bindings/native_type.hpp"
#include "bindings/rule_arguments.hpp"
#include "bindings/rules.hpp"
#include "bindings/settings.hpp"
#include "bindings/step_method.hpp"
#include "bindings/stepper_type.hpp"
#include "bindings/xla_step.hpp"

namespace fusedopt {
namespace {

py::tuple to_tuple(const Names& names) {
  py::tuple result(names.count);
  for (int k = 0; k < names.count; ++k) {
    result[static_cast<std::size_t>(k)] = py::str(names.items[k]);
  }
  return result;
}

py::dict rules() {
  py::dict result;
  const KernelTable& table = *active_instruction_set().kernels;
  for (int k = 0; k < table.count; ++k) {
    const RuleInfo& rule = table.rules[k];
    result[rule.name] = py::make_tuple(to_tuple(rule.hyperparameters), to_tuple(rule.states));
  }
  return result;
}

// A decorator: what makes a method of a function, and of the types of what that returns.
using MakeMethod = py::object (*)(const py::object&, const py::type&, const py::type&);
void add_method(py::module_& module, const char* name, MakeMethod make) {
  module.def(
      name,
      [make](const py::type& result, const py::type& stats) {
        return py::cpp_function([make, result, stats](const py::object& function) {
          return make(function, result, stats);
        });
      },
      py::arg("result"), py::arg("stats"));
}

}  // namespace
}  // namespace fusedopt

// A name that other libraries don't have, for threadpoolctl to know this one by.
#if defined(__GNUC__)
extern "C" __attribute__((visibility("default"))) const char fusedopt_core;
const char fusedopt_core = 1;
#endif

PYBIND11_MODULE(_core, module) {
  using namespace fusedopt;
  module.attr("__version__") = FUSEDOPT_VERSION;
  import_numpy();
  activate_instruction_set();

  add_stepper_type(module);
  add_settings(module);
  add_method(module, "step_method", &make_step_method);
  add_method(module, "step_some_method", &make_step_some_method);
  py::class_<RuleFunction>(module, "RuleFunction", py::is_final(), plain(),
                           made_by_functions<RuleFunction>())
      .def("__call__", &RuleFunction::operator());
  module.def(
      "rule_function",
      [](std::vector<std::string> names, const Bounds& bounds, py::object configure,
         py::object check_step) {
        return std::make_unique<RuleFunction>(std::move(names), number_bounds(bounds),
                                              std::move(configure), std::move(check_step));
      },
      py::arg("names"), py::arg("bounds"), py::arg("configure"), py::arg("check_step"));
  module.def("global_norm", &global_norm, py::arg("arrays"));
  module.def("contents", &contents, py::arg("owner"));
  module.def("has_contents", &has_contents, py::arg("owner"), py::arg("contents"));
  module.def("are_counts", &are_counts, py::arg("floats"), py::arg("counts"));
  module.def("write_counts", &write_counts, py::arg("floats"), py::arg("counts"));
  module.def("attributes", &attributes, py::arg("objects"), py::arg("name"));

  module.def("rules", &rules);
  module.def("xla_step", [] { return py::capsule(reinterpret_cast<void*>(&xla_step)); });
}
