// fusedopt._core: see python/fusedopt/_core.pyi for what Python sees.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/contents.hpp"
#include "bindings/float_counts.hpp"
#include "bindings/functional.hpp"
#include "bindings/native_type.hpp"
#include "bindings/rules.hpp"
#include "bindings/step_method.hpp"
#include "bindings/stepper.hpp"
#include "engine/float_mode.hpp"
#include "engine/layers.hpp"
#include "engine/openmp.hpp"
#include "engine/plan.hpp"
#include "engine/threads.hpp"

namespace fusedopt {
namespace {

std::string compiler() {
#if defined(__clang__)
  return "Clang " __clang_version__;
#elif defined(__GNUC__)
  return "GCC " __VERSION__;
#elif defined(_MSC_VER)
  return "MSVC " + std::to_string(_MSC_VER);
#else
  return "unknown";
#endif
}

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

// Only functions here make one.
template <typename T>
py::custom_type_setup made_by_functions() {
  return py::custom_type_setup([](PyHeapTypeObject* heap_type) {
    collected<T>().value(heap_type);
    heap_type->ht_type.tp_flags |= Py_TPFLAGS_DISALLOW_INSTANTIATION;
  });
}

// A rule's name, its hyperparameters, and the decay rate of an average.
using GroupRuleArguments = std::tuple<std::string, py::dict, std::optional<double>>;

GroupRule group_rule(const GroupRuleArguments& arguments) {
  const auto& [rule, hyperparameters, ema_decay] = arguments;
  return {{rule, hyperparameters}, ema_decay};
}

// Where a group's hyperparameters are kept, and for each of them the numbers that it stands for.
using Bounds = std::vector<std::vector<std::tuple<std::string, double, double>>>;
using WrittenArguments = std::tuple<py::list, Bounds>;

std::vector<std::vector<NumberBounds>> number_bounds(const Bounds& bounds) {
  std::vector<std::vector<NumberBounds>> found;
  for (const auto& numbers : bounds) {
    auto& own = found.emplace_back();
    for (const auto& [name, low, high] : numbers) own.push_back({name, low, high});
  }
  return found;
}

std::optional<WrittenValues> written_values(const std::optional<WrittenArguments>& arguments) {
  if (!arguments) return std::nullopt;
  const auto& [values, bounds] = *arguments;
  if (values.size() != bounds.size()) {
    throw py::value_error("written: expected bounds for each value");
  }
  return WrittenValues{values, number_bounds(bounds)};
}

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

// Names of files may be of any bytes.
py::str text_with_paths(const std::string& text) {
  return py::reinterpret_steal<py::str>(
      PyUnicode_DecodeFSDefaultAndSize(text.data(), static_cast<py::ssize_t>(text.size())));
}

void set_layer(std::string_view layer, bool even_if_stayed_behind) {
  const auto at = std::ranges::find(layer_names, layer);
  if (at == layer_names.end()) throw py::value_error("layer: unknown");
  const auto name = static_cast<LayerName>(at - layer_names.begin());
  const std::string obstacle = choose_layer(name, even_if_stayed_behind);
  if (!obstacle.empty()) {
    const py::str why =
        text_with_paths("threading layer '" + std::string(layer) + "': " + obstacle);
    PyErr_SetObject(PyExc_RuntimeError, why.ptr());
    throw py::error_already_set();
  }
}

py::dict threading_layers() {
  py::list built;
  for (const LayerName name : built_layers()) built.append(to_string(name));
  const std::string runtime = openmp::runtime_file();
  const bool fell_back = chosen_layer() == LayerName::openmp && !openmp::loaded();
  py::dict layers;
  layers["built"] = built;
  layers["chosen"] = to_string(chosen_layer());
  layers["active"] = to_string(layer_in_effect());
  layers["runtime"] = runtime.empty() ? py::object(py::none()) : text_with_paths(runtime);
  layers["fallback"] =
      fell_back ? py::str("openmp: " + std::string(openmp::in_a_fork)) : py::object(py::none());
  return layers;
}

py::dict config() {
  py::list built, available;
  for (const InstructionSet& set : built_instruction_sets()) {
    built.append(set.name);
    if (set.available) available.append(set.name);
  }
  py::dict sets, result;
  sets["built"] = built;
  sets["available"] = available;
  sets["active"] = active_instruction_set().name;
  result["compiler"] = compiler();
  result["instruction sets"] = sets;
  result["threading"] = has_threads();
  result["threading layers"] = threading_layers();
  result["threads"] = num_threads();
  result["flush denormals"] = ScopedFloatMode::can_flush && flush_denormal;
  return result;
}

void set_threads(const py::object& count) {
  if (py::isinstance<py::bool_>(count) || !PyIndex_Check(count.ptr())) {
    throw py::type_error("num_threads: expected an int, got " + type_name(count));
  }
  const auto number = py::reinterpret_steal<py::object>(PyNumber_Index(count.ptr()));
  if (!number) throw py::error_already_set();
  int overflow = 0;
  const long value = PyLong_AsLongAndOverflow(number.ptr(), &overflow);
  if (overflow != 0 || value < 1 || value > max_threads) {
    const std::string got = overflow != 0 ? "a number far outside" : std::to_string(value);
    throw py::value_error("num_threads: expected 1 to " + std::to_string(max_threads) + ", got " +
                          got);
  }
  set_num_threads(static_cast<int>(value));
}

void set_grid(std::int64_t chunk, std::int64_t serial_below) {
  if (chunk < 1) throw py::value_error("chunk: expected 1 or more");
  if (serial_below < 0) throw py::value_error("serial_below: expected 0 or more");
  grid.chunk = chunk;
  grid.serial_below = serial_below;
}

void set_asks_ahead(std::optional<bool> asks) {
  grid.asks_ahead = asks.value_or(cpu_gains_by_asking_ahead());
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

  // As the stub has it: there is nothing static to guard.
  const py::metaclass plain(reinterpret_cast<PyObject*>(&PyType_Type));
  py::class_<Block>(module, "Block", py::is_final(), plain, made_by_functions<Block>())
      .def("__enter__", &Block::enter)
      .def("__exit__", &Block::exit);
  py::class_<Stepper>(module, "Stepper", py::is_final(), plain, made_whole())
      .def(
          "add_group",
          [](Stepper& self, const py::list& params, const py::object& names,
             const GroupRuleArguments& rule, py::handle grads, const Updates& updates,
             const std::optional<WrittenArguments>& written, std::optional<std::size_t> of) {
            self.add_group(params, names, group_rule(rule), grads, updates, written_values(written),
                           of);
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
            self.load(states, steps, completed_steps, read, params, updates, adopts);
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
          [](Stepper& self, py::handle grads, double loss_scale, std::optional<double> max_norm,
             double clip_value, std::string_view on_nonfinite, bool zero_grads, bool stats,
             std::optional<double> max_array_norm) {
            const auto action = on_nonfinite == "skip"    ? OnNonfinite::skip
                                : on_nonfinite == "raise" ? OnNonfinite::raise
                                                          : OnNonfinite::propagate;
            return self.step_with(grads, {loss_scale, max_norm, max_array_norm, clip_value, action,
                                          zero_grads, stats});
          },
          py::arg("grads"), py::kw_only(), py::arg("loss_scale"), py::arg("max_norm"),
          py::arg("clip_value"), py::arg("on_nonfinite"), py::arg("zero_grads"), py::arg("stats"),
          py::arg("max_array_norm") = py::none())
      .def("step_some", &Stepper::step_some, py::arg("grads"), py::arg("completes"))
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
  module.def(
      "step_method",
      [](const py::type& result, const py::type& stats) {
        return py::cpp_function([result, stats](const py::object& function) {
          return make_step_method(function, result, stats);
        });
      },
      py::arg("result"), py::arg("stats"));
  module.def("step_some_method", &make_step_some_method, py::arg("function"));
  py::class_<RuleFunction>(module, "RuleFunction", py::is_final(), plain,
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
  module.def("config", &config);
  module.def("get_num_threads", &num_threads);
  module.def("set_num_threads", &set_threads, py::arg("num_threads"));
  module.def("get_threading_layer", [] { return to_string(chosen_layer()); });
  module.def("set_threading_layer", &set_layer, py::arg("layer"), py::kw_only(),
             py::arg("even_if_stayed_behind") = false);
  module.def(
      "set_flush_denormal",
      [](bool mode) {
        flush_denormal = mode;
        return ScopedFloatMode::can_flush;
      },
      py::arg("mode"));
  module.def("set_grid", &set_grid, py::kw_only(), py::arg("chunk"), py::arg("serial_below"));
  module.def("set_asks_ahead", &set_asks_ahead, py::arg("asks"));
}
