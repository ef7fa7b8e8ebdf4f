#include "bindings/stepper_type.hpp"

#include <pybind11/stl.h>

#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings/native_type.hpp"
#include "bindings/rule_arguments.hpp"
#include "bindings/step_method.hpp"
#include "bindings/stepper.hpp"

namespace fusedopt {
namespace {

// What a with statement does to a stepper. Native, so that no signal's handler, as that of Ctrl-C,
// can run between a move and what the with statement knows of it.
struct Block {
  Reference stepper;
  std::function<void(Stepper&)> begin;
  void (Stepper::*end)();

  void enter() const { begin(stepper.cast<Stepper&>()); }
  void exit(const py::args&) const { (stepper.cast<Stepper&>().*end)(); }

  void visit(Visitor& visitor) const { visitor(stepper); }
  void let_go_of_objects() { stepper = py::none(); }
};

// Stepper(allocate=None, cast_grads=False). All of it happens here, and __init__ does nothing: what
// __new__ alone gives is a whole one, too, and none is made twice.
PyObject* new_stepper(PyTypeObject*, PyObject* arguments, PyObject* keywords) {
  static const char* const names[] = {"allocate", "cast_grads", nullptr};
  PyObject* allocate = Py_None;
  PyObject* casts = Py_False;
  if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|OO!:Stepper",
                                   const_cast<char**>(names),  // NOLINT: as C has it
                                   &allocate, &PyBool_Type, &casts)) {
    return nullptr;
  }
  try {
    return py::cast(std::make_unique<Stepper>(py::reinterpret_borrow<py::object>(allocate),
                                              casts == Py_True))
        .release()
        .ptr();
  } catch (const std::bad_alloc&) {
    return PyErr_NoMemory();
  } catch (py::error_already_set& error) {
    error.restore();
    return nullptr;
  }
}

int init_nothing(PyObject*, PyObject*, PyObject*) { return 0; }

py::custom_type_setup made_whole() {
  return py::custom_type_setup([](PyHeapTypeObject* heap_type) {
    collected<Stepper>().value(heap_type);
    heap_type->ht_type.tp_new = &new_stepper;
    heap_type->ht_type.tp_init = &init_nothing;
  });
}

// Python's StepOptions.
using StepOptionArguments = std::tuple<double, std::optional<double>, std::optional<double>, double,
                                       std::string, bool, bool>;

StepOptions step_options(const StepOptionArguments& arguments) {
  const auto& [loss_scale, max_norm, max_array_norm, clip_value, on_nonfinite, zero_grads, stats] =
      arguments;
  const auto action = on_nonfinite == "skip"    ? OnNonfinite::skip
                      : on_nonfinite == "raise" ? OnNonfinite::raise
                                                : OnNonfinite::propagate;
  return {loss_scale, max_norm, max_array_norm, clip_value, action, zero_grads, stats};
}

}  // namespace

void add_stepper_type(py::module_& module) {
  py::class_<Block>(module, "Block", py::is_final(), plain(), made_by_functions<Block>())
      .def("__enter__", &Block::enter)
      .def("__exit__", &Block::exit);
  py::class_<Stepper>(module, "Stepper", py::is_final(), plain(), made_whole())
      .def(
          "add_group",
          [](Stepper& self, const py::list& params, const py::object& names,
             const GroupRuleArguments& rule, py::handle grads, const Updates& updates,
             const std::optional<WrittenArguments>& written, std::optional<std::size_t> of) {
            self.add_group({params, names, group_rule(rule), written_values(written), of}, grads,
                           updates);
          },
          py::arg("params"), py::arg("names"), py::arg("rule"), py::arg("grads"),
          py::arg("updates") = Updates{}, py::arg("written") = py::none(),
          py::arg("of") = py::none())
      .def(
          "configure",
          [](Stepper& self, std::size_t group, const GroupRuleArguments& rule,
             const std::optional<py::tuple>& made_of) {
            self.configure(group, group_rule(rule), made_of);
          },
          py::arg("group"), py::arg("rule"), py::arg("made_of") = py::none())
      .def("is_current", &Stepper::is_current, py::arg("group"))
      .def(
          "check",
          [](const Stepper& self, std::size_t group, const GroupRuleArguments& rule) {
            self.check(group, group_rule(rule));
          },
          py::arg("group"), py::arg("rule"))
      .def(
          "load",
          [](Stepper& self, const py::list& states, const std::vector<std::int64_t>& steps,
             std::int64_t completed_steps, const std::vector<GroupRuleArguments>& rules,
             const std::optional<std::vector<py::object>>& params, const Updates& updates,
             bool adopts) {
            std::vector<GroupRule> read;
            for (const GroupRuleArguments& rule : rules) read.push_back(group_rule(rule));
            self.load({states, steps, completed_steps, std::move(read), params, adopts}, updates);
          },
          py::arg("states"), py::arg("steps"), py::arg("completed_steps"), py::arg("rules"),
          py::arg("params"), py::arg("updates"), py::arg("adopts") = false)
      .def(
          "require_home",
          [](const Stepper& self, const std::string& action) { self.require_home(action.c_str()); },
          py::arg("action"))
      .def("rebind", &Stepper::rebind, py::arg("arrays"), py::arg("updates"))
      .def("bind", &Stepper::bind, py::arg("grads"))
      .def_property_readonly("bound", &Stepper::bound)
      .def("zero_grad", &Stepper::zero_grad)
      .def("step", &Stepper::step, py::arg("grads"))
      .def(
          "step_with",
          [](Stepper& self, py::handle grads, const StepOptionArguments& options) {
            return self.step_with(grads, step_options(options));
          },
          py::arg("grads"), py::arg("options"))
      .def("step_some", &Stepper::step_some, py::arg("grads"), py::arg("completes"))
      .def(
          "step_some_with",
          [](Stepper& self, const Stepper::Gradients& grads, bool completes,
             const StepOptionArguments& options) {
            return self.step_some_with(grads, completes, step_options(options));
          },
          py::arg("grads"), py::arg("completes"), py::arg("options"))
      .def("traffic", &Stepper::traffic, py::arg("grads"))
      .def(
          "lookahead",
          [](py::object self, std::vector<double> momenta) {
            return Block{
                std::move(self),
                [momenta = std::move(momenta)](Stepper& stepper) { stepper.move_ahead(momenta); },
                &Stepper::move_back};
          },
          py::arg("momenta"))
      .def("swap_ema",
           [](py::object self) {
             return Block{std::move(self), &Stepper::move_to_averages, &Stepper::move_back};
           })
      .def(
          "held",
          [](py::object self, std::optional<std::string> action) {
            return Block{std::move(self),
                         [action = std::move(action)](Stepper& stepper) {
                           stepper.hold(action ? action->c_str() : nullptr);
                         },
                         &Stepper::let_go};
          },
          py::arg("action"))
      // Also for protocols 0 and 1, which would try to make one without its arguments.
      .def(
          "__reduce_ex__",
          [](const Stepper&, int) -> py::object {
            throw py::type_error("the native half of an optimizer can't be copied or pickled");
          },
          py::arg("protocol"))
      .def("state", &Stepper::state, py::arg("index"))
      .def_property_readonly("arrays", &Stepper::arrays)
      .def_property_readonly("completed_steps", &Stepper::completed_steps)
      .def_property_readonly("step_counts", &Stepper::step_counts);
}

}  // namespace fusedopt
