#include "bindings/functional.hpp"

#include <string>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/rules.hpp"
#include "engine/overlap.hpp"
#include "engine/plan.hpp"

namespace fusedopt {
namespace {

// One argument: an array alone, or as many arrays as there are parameters.
struct Argument {
  std::string name;
  bool alone;
  std::vector<py::object> arrays;

  Label label(std::size_t index) const {
    return {name, alone ? -1 : static_cast<py::ssize_t>(index)};
  }
};

Argument read_argument(py::handle name, py::handle value) {
  Argument argument{py::cast<std::string>(name), PyArray_Check(value.ptr()) != 0, {}};
  if (argument.alone) {
    argument.arrays.push_back(py::reinterpret_borrow<py::object>(value));
    return argument;
  }
  if (!PyList_Check(value.ptr()) && !PyTuple_Check(value.ptr())) {
    throw py::type_error(argument.name + ": expected an array or a list of arrays, got " +
                         type_name(value));
  }
  for (const py::handle array : py::reinterpret_borrow<py::sequence>(value)) {
    argument.arrays.push_back(py::reinterpret_borrow<py::object>(array));
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
      const auto expected = static_cast<py::ssize_t>(params.arrays.size());
      throw py::value_error(next.name + ": expected " + quantity(expected, "array") +
                            ", one for each parameter, got " + std::to_string(next.arrays.size()));
    }
  }
  const auto expected = static_cast<std::size_t>(2 + rule.states.count);
  if (read.size() != expected) {
    throw py::value_error("arguments: expected " + std::to_string(expected));
  }
  return read;
}

// Throws where memory that is written is also anything else. Owners are counted argument by
// argument, gradients (which may share memory with each other) left out.
void require_disjoint(const std::vector<Argument>& arguments, const std::vector<Segment>& segments,
                      const std::vector<std::size_t>& indices, const std::vector<DType>& dtypes) {
  const auto text = [&](std::size_t owner) {
    return arguments[owner / segments.size()].label(indices[owner % segments.size()]).text();
  };
  const auto interval = [&](std::size_t stream, std::size_t s) {
    const auto bytes = static_cast<std::size_t>(segments[s].size) * item_size(dtypes[s]);
    return interval_of(segments[s].streams[stream], bytes, stream * segments.size() + s);
  };
  std::vector<Interval> written;
  for (std::size_t stream = 0; stream < arguments.size(); ++stream) {
    if (stream == 1) continue;
    for (std::size_t s = 0; s < segments.size(); ++s) written.push_back(interval(stream, s));
  }
  DisjointIntervals writable;
  if (const auto clash = writable.assign(std::move(written))) {
    throw_overlap(text(clash->second), text(clash->first));
  }
  for (std::size_t s = 0; s < segments.size(); ++s) {
    const Interval gradient = interval(1, s);
    if (const auto owner = writable.find_overlap(gradient)) {
      throw_overlap(text(gradient.owner), text(*owner));
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
  const Argument& grads = arguments[1];

  Plan plan;
  std::size_t coefficients[dtype_count];
  for (int d = 0; d < dtype_count; ++d) {
    coefficients[d] = plan.add_coefficients();
    rule.kernel(DType(d)).fold(rule.hyperparameters.data(), {step, step == 1},
                               plan.coefficients(coefficients[d]));
  }
  std::vector<Segment> segments;
  std::vector<std::size_t> indices;
  std::vector<DType> dtypes;
  for (std::size_t i = 0; i < params.arrays.size(); ++i) {
    const py::object& param = params.arrays[i];
    const DType dtype = require_parameter(param, params.label(i));
    const Layout layout{dtype, shape_of(param), params.label(i)};
    const bool skipped = grads.arrays[i].is_none();
    Segment segment{&rule.kernel(dtype),
                    PyArray_SIZE(as_array(param)),
                    coefficients[static_cast<int>(dtype)],
                    {data_of(param)}};
    for (std::size_t k = 1; k < arguments.size(); ++k) {
      if (k == 1 && skipped) continue;
      segment.streams[k] = require_like(arguments[k].arrays[i], arguments[k].label(i), layout,
                                        k == 1 ? Access::read : Access::update);
    }
    if (skipped) continue;
    segments.push_back(segment);
    indices.push_back(i);
    dtypes.push_back(dtype);
    plan.add(segment);
  }
  require_disjoint(arguments, segments, indices, dtypes);
  // The arrays stay alive in arguments, which holds references.
  const py::gil_scoped_release without_gil;
  plan.run();
}

}  // namespace fusedopt
