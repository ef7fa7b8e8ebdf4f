#include "bindings/functional.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
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
class Argument {
 public:
  // One array, which the caller keeps, isn't referred to here: that would take time.
  Argument(std::string_view name, py::handle value)
      : name_(name), alone_(PyArray_Check(value.ptr()) ? value.ptr() : nullptr) {
    if (alone_) return;
    if (!PyList_Check(value.ptr()) && !PyTuple_Check(value.ptr())) {
      throw py::type_error(std::string(name) + ": expected an array or a list of arrays, got " +
                           (value.is_none() ? "None" : type_name(value)));
    }
    const Reference list = is_list_or_tuple(value) ? reference_to(value) : list_of(value);
    const py::ssize_t count = PySequence_Fast_GET_SIZE(list.ptr());
    arrays_.reserve(static_cast<std::size_t>(count));
    for (py::ssize_t i = 0; i < count; ++i) {
      arrays_.push_back(reference_to(PySequence_Fast_GET_ITEM(list.ptr(), i)));
    }
  }

  bool is_alone() const { return alone_ != nullptr; }
  std::size_t size() const { return alone_ ? 1 : arrays_.size(); }
  py::handle operator[](std::size_t index) const {
    return alone_ ? py::handle(alone_) : py::handle(arrays_[index]);
  }
  Label label(std::size_t index) const {
    return {name_, alone_ ? -1 : static_cast<py::ssize_t>(index)};
  }
  std::string name() const { return std::string(name_); }

 private:
  std::string_view name_;
  PyObject* alone_;
  std::vector<Reference> arrays_;
};

constexpr std::size_t most_arguments = 2 + max_states;

class Arguments {
 public:
  const Argument& operator[](std::size_t k) const { return *own_[k]; }
  std::size_t size() const { return count_; }

  void add(std::string_view name, py::handle value) {
    const Argument& next = own_[count_].emplace(name, value);
    const Argument& params = *own_[0];
    if (next.is_alone() != params.is_alone()) {
      throw py::type_error(next.name() + ": expected " +
                           (params.is_alone() ? "an array" : "a list of arrays") +
                           ", as params is, got " + type_name(value));
    }
    if (next.size() != params.size()) {
      throw py::value_error(next.name() + ": expected " + quantity(params.size(), "array") +
                            ", one for each parameter, got " + std::to_string(next.size()));
    }
    ++count_;
  }

 private:
  std::array<std::optional<Argument>, most_arguments> own_;
  std::size_t count_ = 0;
};

// An array among the arguments.
struct Place {
  std::size_t argument, index;
};

// Which argument holds gradients; none where the rule reads none.
constexpr std::size_t none = 0;
std::size_t gradients_of(const RuleInfo& rule) { return rule.reads_gradient ? 1 : none; }

// Throws where memory that is written is also anything else. Gradients may share memory with each
// other.
void require_disjoint(const Arguments& arguments, std::size_t gradients) {
  std::vector<Place> places;
  const auto text = [&](std::size_t owner) {
    const auto [argument, index] = places[owner];
    return arguments[argument].label(index).text();
  };
  std::vector<Interval> written, read;
  for (std::size_t k = 0; k < arguments.size(); ++k) {
    for (std::size_t i = 0; i < arguments[k].size(); ++i) {
      if (arguments[gradients][i].is_none()) continue;
      PyArrayObject* array = as_array(arguments[k][i]);
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

// How many steps each parameter has taken with this one.
class Steps {
 public:
  // So many parameters, or one that isn't in a list.
  Steps(py::handle given, std::optional<std::size_t> parameters, py::handle check) {
    if (PyLong_CheckExact(given.ptr()) || !is_list(given)) {
      one_ = read("step", given, check);
      return;
    }
    if (!parameters)
      throw py::type_error("step: expected an int, as params is one array, got a list");
    const Reference list = is_list_or_tuple(given) ? reference_to(given) : list_of(given);
    const auto count = static_cast<std::size_t>(PySequence_Fast_GET_SIZE(list.ptr()));
    if (count != *parameters) {
      throw py::value_error("step: expected " + quantity(*parameters, "count") +
                            ", one for each parameter, got " + std::to_string(count));
    }
    std::vector<Reference> items;  // checks may run Python code
    for (std::size_t i = 0; i < count; ++i) {
      items.push_back(
          reference_to(PySequence_Fast_GET_ITEM(list.ptr(), static_cast<py::ssize_t>(i))));
    }
    for (std::size_t i = 0; i < count; ++i) {
      each_.push_back(read("step[" + std::to_string(i) + "]", items[i], check));
    }
  }

  std::int64_t operator[](std::size_t index) const { return each_.empty() ? one_ : each_[index]; }

 private:
  static bool is_list(py::handle given) {
    return PyList_Check(given.ptr()) || PyTuple_Check(given.ptr()) ||
           (PyArray_Check(given.ptr()) && PyArray_NDIM(as_array(given)) == 1);
  }
  static std::int64_t read(const std::string& name, py::handle given, py::handle check) {
    if (PyLong_CheckExact(given.ptr())) {
      int overflow = 0;
      const long long count = PyLong_AsLongLongAndOverflow(given.ptr(), &overflow);
      if (overflow == 0 && count >= 1) return count;
    }
    const auto count = py::cast<std::int64_t>(check(name, given));
    if (count < 1) {
      throw py::value_error(name + ": expected 1 or more, got " + std::to_string(count));
    }
    return count;
  }

  std::int64_t one_ = 1;
  std::vector<std::int64_t> each_;
};

}  // namespace

ConfiguredRule RuleFunction::rule_of(const py::tuple& values) {
  if (!live_.take(values)) {
    if (!configure_) throw std::runtime_error("this function was let go of by the collector");
    const py::object meant = configure_(values);
    const auto [name, numbers] = py::cast<std::tuple<std::string, py::dict>>(meant);
    const ConfiguredRule made(name, numbers);
    chosen_ = arguments_of(*made.info);
    live_.configure({made, std::nullopt}, values, false);
  }
  return live_.rule();
}

RuleFunction::Chosen RuleFunction::arguments_of(const RuleInfo& rule) const {
  const std::size_t first_state = rule.reads_gradient ? 2 : 1;
  Chosen found;
  for (std::size_t k = 0; k < std::min(first_state, names_.size()); ++k) found.add(k);
  for (int k = 0; k < rule.states.count; ++k) {
    const auto name = std::ranges::find(names_, std::string(rule.states.items[k]) + 's');
    if (name != names_.end()) found.add(static_cast<std::size_t>(name - names_.begin()));
  }
  const std::size_t expected = first_state + static_cast<std::size_t>(rule.states.count);
  if (found.count != expected) {
    throw py::value_error("names: expected those of rule '" + std::string(rule.name) + "'");
  }
  return found;
}

void RuleFunction::operator()(const py::tuple& values, py::handle step, const py::args& arrays) {
  if (arrays.size() != names_.size()) {
    throw py::value_error("arguments: expected " + std::to_string(names_.size()));
  }
  // Both of this call's own: what runs while arrays are read may call the same function.
  const ConfiguredRule rule = rule_of(values);
  const Chosen chosen = chosen_;
  Arguments arguments;
  for (std::size_t j = 0; j < chosen.count; ++j) {
    const std::size_t k = chosen.places[j];
    arguments.add(names_[k], arrays[k]);
  }
  const Argument& params = arguments[0];
  const std::size_t gradients = gradients_of(*rule.info), first_state = gradients + 1;
  const Steps steps(step, params.is_alone() ? std::nullopt : std::optional(params.size()),
                    check_step_);

  // One for all calls of a thread: no other begins before it has run, and memory is there.
  thread_local Plan plan;
  plan.clear();
  std::array<std::size_t, dtype_count> coefficients{};
  std::int64_t step_before = 0;
  for (std::size_t i = 0; i < params.size(); ++i) {
    const DType dtype = require_parameter(params[i], params.label(i));
    rule.require_finite(dtype);
    const Layout layout{dtype, shape_of(params[i]), params.label(i)};
    for (std::size_t k = first_state; k < arguments.size(); ++k) {
      require_usable(arguments[k][i], arguments[k].label(i), layout, Access::update);
    }
    if (gradients != none) {
      const Argument& grads = arguments[gradients];
      if (grads[i].is_none()) continue;
      require_usable(grads[i], grads.label(i), layout, Access::read);
    }
    if (steps[i] != step_before) {
      step_before = steps[i];
      coefficients = plan.add_coefficients(*rule.info, rule.hyperparameters.data(), step_before,
                                           step_before == 1);
    }
    Piece& piece = plan.add(rule.kernel(dtype), coefficients[static_cast<std::size_t>(dtype)],
                            PyArray_SIZE(as_array(params[i])));
    // What a rule doesn't read is asked for all the same, ahead: the parameter is there.
    piece.streams[0] = piece.streams[1] = data_of(params[i]);
    if (gradients != none) piece.streams[1] = data_of(arguments[gradients][i]);
    for (std::size_t k = first_state; k < arguments.size(); ++k) {
      piece.streams[2 + k - first_state] = data_of(arguments[k][i]);
    }
  }
  require_disjoint(arguments, gradients);
  plan.fold();
  // The arrays stay alive: the caller has those that are arguments, and arguments has the others.
  run_for(plan.elements(), [&] { plan.run(&Kernel::update); });
}

void RuleFunction::visit(Visitor& visitor) const {
  live_.visit(visitor);
  visitor(configure_);
  visitor(check_step_);
}

void RuleFunction::let_go_of_objects() {
  live_ = LiveRule(std::nullopt);
  configure_ = check_step_ = py::object();
}

double global_norm(py::handle list) {
  const Argument arrays("arrays", list);
  ArrayScan scan;
  scan.reserve(arrays.size());
  std::int64_t elements = 0;
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    const py::handle array = arrays[i];
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
