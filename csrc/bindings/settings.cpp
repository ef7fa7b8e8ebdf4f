#include "bindings/settings.hpp"

#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "bindings/arrays.hpp"
#include "bindings/rules.hpp"
#include "engine/float_mode.hpp"
#include "engine/layers.hpp"
#include "engine/openmp.hpp"
#include "engine/plan.hpp"
#include "engine/threads.hpp"
#include "kernels/dispatch.hpp"

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

void add_settings(py::module_& module) {
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

}  // namespace fusedopt
