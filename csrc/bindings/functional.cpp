#include "bindings/functional.hpp"

#include <string>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/gil.hpp"
#include "bindings/gradients.hpp"
#include "bindings/rules.hpp"
#include "engine/array_scan.hpp"
#include "engine/overlap.hpp"
#include "engine/plan.hpp"

namespace fusedopt {
namespace {

// One argument: an array alone, or as many arrays as there are parameters.
struct Argument {
  std::string name;
  bool alone;
  std::vector<Reference> arrays;

  Label label(std::size_t index) const {
    return {name, alone ? -1 : static_cast<py::ssize_t>(index)};
  }
};

Argument read_argument(py::handle name, py::handle value) {
  Argument argument{py::cast<std::string>(name), PyArray_Check(value.ptr()) != 0, {}};
  if (argument.alone) {
    argument.arrays.push_back(reference_to(value));
    return argument;
  }
  if (!PyList_Check(value.ptr()) && !PyTuple_Check(value.ptr())) {
    throw py::type_error(argument.name + ": expected an array or a list of arrays, got " +
                         type_name(value));
  }
  const Reference list = is_list_or_tuple(value) ? reference_to(value) : list_of(value);
  const py::ssize_t count = PySequence_Fast_GET_SIZE(list.ptr());
  for (py::ssize_t i = 0; i < count; ++i) {
    argument.arrays.push_back(reference_to(PySequence_Fast_GET_ITEM(list.ptr(), i)));
  }
  return argument;
}

std::vector<Argument> read_arguments(const py::dict& arguments, const RuleInfo& rule) {
  std::vector<Argument> read;
  for (const auto& [name, value] : arguments) {
    const Argument& next = read.emplace_back(read_argument(name, value));
    const Argument& params = read.front();
    if (next.alone != params.alone) {
      throw py::type_error(next.name + ": expected " +
                           (params.alone ? "an array" : "a list of arrays") +
                           ", as params is, got " + type_name(value));
    }
    if (next.arrays.size() != params.arrays.size()) {
      throw py::value_error(next.name + ": expected " + quantity(params.arrays.size(), "array") +
                            ", one for each parameter, got " + std::to_string(next.arrays.size()));
    }
  }
  const auto expected = static_cast<std::size_t>((rule.reads_gradient ? 2 : 1) + rule.states.count);
  if (read.size() != expected) {
    throw py::value_error("arguments: expected " + std::to_string(expected));
  }
  return read;
}

// An array among the arguments.
struct Place {
  std::size_t argument, index;
};

// Which argument holds gradients; none where the rule reads none.
constexpr std::size_t none = 0;
std::size_t gradients_of(const RuleInfo& rule) { return rule.reads_gradient ? 1 : none; }

// Throws where memory that is written is also anything else. Gradients may share memory with each
// other.
void require_disjoint(const std::vector<Argument>& arguments, std::size_t gradients) {
  std::vector<Place> places;
  const auto text = [&](std::size_t owner) {
    const auto [argument, index] = places[owner];
    return arguments[argument].label(index).text();
  };
  std::vector<Interval> written, read;
  for (std::size_t k = 0; k < arguments.size(); ++k) {
    for (std::size_t i = 0; i < arguments[k].arrays.size(); ++i) {
      if (arguments[gradients].arrays[i].is_none()) continue;
      PyArrayObject* array = as_array(arguments[k].arrays[i]);
      const auto bytes = static_cast<std::size_t>(PyArray_NBYTES(array));
      (gradients != none && k == gradients ? read : written)
          .push_back(interval_of(PyArray_DATA(array), bytes, places.size()));
      places.push_back({k, i});
    }
  }
  DisjointIntervals writable;
  if (const auto clash = writable.assign(std::move(written))) {
    throw_overlap(text(clash->second), text(clash->first));
  }
  for (const Interval& gradient : read) {
    if (const auto other = writable.find_overlap(gradient)) {
      throw_overlap(text(gradient.owner), text(*other));
    }
  }
}

}  // namespace

void apply(std::string_view rule_name, const py::dict& hyperparameters, std::int64_t step,
           const py::dict& argument_dict) {
  const ConfiguredRule rule(rule_name, hyperparameters);
  const std::vector<Argument> arguments = read_arguments(argument_dict, *rule.info);
  if (step < 1) throw py::value_error("step: expected 1 or more, got " + std::to_string(step));
  const Argument& params = arguments[0];
  const std::size_t gradients = gradients_of(*rule.info), first_state = gradients + 1;

  Plan plan;
  const auto coefficients =
      plan.add_coefficients(*rule.info, rule.hyperparameters.data(), step, step == 1);
  for (std::size_t i = 0; i < params.arrays.size(); ++i) {
    const py::object& param = params.arrays[i];
    const DType dtype = require_parameter(param, params.label(i));
    rule.require_finite(dtype);
    const Layout layout{dtype, shape_of(param), params.label(i)};
    for (std::size_t k = first_state; k < arguments.size(); ++k) {
      require_usable(arguments[k].arrays[i], arguments[k].label(i), layout, Access::update);
    }
    if (gradients != none) {
      const Argument& grads = arguments[gradients];
      if (grads.arrays[i].is_none()) continue;
      require_usable(grads.arrays[i], grads.label(i), layout, Access::read);
    }
    Piece& piece = plan.add(rule.kernel(dtype), coefficients[static_cast<std::size_t>(dtype)],
                            PyArray_SIZE(as_array(param)));
    // What a rule doesn't read is asked for all the same, ahead: the parameter is there.
    piece.streams[0] = piece.streams[1] = data_of(param);
    if (gradients != none) piece.streams[1] = data_of(arguments[gradients].arrays[i]);
    for (std::size_t k = first_state; k < arguments.size(); ++k) {
      piece.streams[2 + k - first_state] = data_of(arguments[k].arrays[i]);
    }
  }
  require_disjoint(arguments, gradients);
  plan.fold();
  // The arrays stay alive in arguments, which holds references.
  run_for(plan.elements(), [&] { plan.run(&Kernel::update); });
}

double global_norm(py::handle list) {
  const Argument arrays = read_argument(py::str("arrays"), list);
  ArrayScan scan;
  scan.reserve(arrays.arrays.size());
  std::int64_t elements = 0;
  for (std::size_t i = 0; i < arrays.arrays.size(); ++i) {
    const py::object& array = arrays.arrays[i];
    if (array.is_none()) continue;
    const DType dtype = require_readable(array, arrays.label(i));
    const std::int64_t size = PyArray_SIZE(as_array(array));
    scan.add(array_kernel(dtype), data_of(array), size,
             static_cast<std::int64_t>(item_size(dtype)));
    elements += size;
  }
  scan.prepare();
  run_for(elements, [&] { scan.run(); });
  return scan.norm();
}

}  // namespace fusedopt
