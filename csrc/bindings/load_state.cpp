// State of another optimizer, or of this one at another time.
#include <cstring>
#include <string>
#include <utility>

#include "bindings/gil.hpp"
#include "bindings/stepper.hpp"

namespace fusedopt {
namespace {

// An array of state that is loaded.
struct Entry {
  std::size_t state, parameter;
  py::object array;
};

py::object copy_of(const py::object& array) {
  auto copy = py::reinterpret_steal<py::object>(PyArray_NewCopy(as_array(array), NPY_CORDER));
  if (!copy) throw py::error_already_set();
  return copy;
}

// Unlike what a step uses it may be misaligned: it is only copied.
bool fits(const py::object& array, const Parameter& p) {
  return PyArray_Check(array.ptr()) && has_type(as_array(array), numpy_type(p.dtype)) &&
         PyArray_IS_C_CONTIGUOUS(as_array(array)) && is_same(shape_of(array), p.shape);
}

}  // namespace

void Stepper::load(const py::list& states, const std::vector<std::int64_t>& steps,
                   std::int64_t completed_steps, const std::vector<GroupRule>& rules,
                   std::optional<std::vector<py::object>> params,
                   const std::vector<std::pair<py::dict, py::dict>>& updates) {
  const std::scoped_lock lock(mutex_);
  require_home("load_state_dict()");
  memory_.require_own();
  const std::size_t count = parameters_.count();
  if (states.size() != count || steps.size() != count || rules.size() != groups_.size()) {
    throw std::runtime_error("load_state_dict(): parameters were added since it was called");
  }
  const bool has_params = params.has_value();
  std::vector<char*> written(count);  // the parameters that are
  std::vector<py::object> values = params ? std::move(*params) : std::vector<py::object>(count);
  for (std::size_t i = 0; i < count; ++i) {
    parameters_.require_usable(i, has_params);
    if (has_params) written[i] = static_cast<char*>(data_of(parameters_[i].array));
  }
  find_those_with(written);
  for (std::size_t k = 0; k < groups_.size(); ++k) require_finite(groups_[k], rules[k].rule);

  const auto require_fitting = [this](const py::object& array, std::size_t i) {
    if (fits(array, parameters_[i])) return;
    throw py::value_error(parameters_.names().label("state", i).text() +
                          ": expected arrays like the parameter, C-contiguous");
  };
  std::vector<Entry> entries;
  for (std::size_t i = 0; i < count; ++i) {
    for (const auto& [name, array] : states[i].cast<py::dict>()) {
      entries.push_back({states_.index_of(name.cast<std::string>()), i,
                         py::reinterpret_borrow<py::object>(array)});
      require_fitting(entries.back().array, i);
    }
    if (has_params) require_fitting(values.at(i), i);
  }
  // State by state, as it is laid out.
  std::ranges::stable_sort(entries, {}, &Entry::state);
  States::Missing missing;
  for (Entry& e : entries) {
    const char* place = states_.data(e.state, e.parameter);
    if (!place) {
      missing.places.push_back({e.state, e.parameter, 0.0});
      missing.bytes += Arena::room(parameters_[e.parameter].bytes());
    }
    // What is about to be overwritten is read before.
    if (data_of(e.array) != place && writable_.overlaps(as_array(e.array))) {
      e.array = copy_of(e.array);
    }
  }
  for (std::size_t i = 0; i < count && has_params; ++i) {
    if (data_of(values[i]) != written[i] && writable_.overlaps(as_array(values[i]))) {
      values[i] = copy_of(values[i]);
    }
  }
  std::vector<bool> kept(states_.count() * count);
  for (const Entry& e : entries) kept[e.state * count + e.parameter] = true;
  plan_is_regular_ = false;
  if (!missing.places.empty()) {
    missing.arena = memory_.allocate(missing.bytes, "the optimizer's state");
    writable_.add(missing.arena, parameters_);
    states_.add(missing, parameters_);
  }
  // From here on nothing can fail.
  for (std::size_t k = 0; k < states_.count(); ++k) {
    for (std::size_t i = 0; i < count; ++i) {
      if (!kept[k * count + i]) states_.remove(k, i);
    }
  }
  writable_.keep_only(
      [this](const Arena* arena) { return arena == steps_arena_.get() || states_.have(arena); },
      parameters_);
  without_gil([&] {
    for (const Entry& e : entries) {
      std::memmove(states_.data(e.state, e.parameter), data_of(e.array),
                   parameters_[e.parameter].bytes());
    }
    for (std::size_t i = 0; i < count && has_params; ++i) {
      std::memmove(written[i], data_of(values[i]), parameters_[i].bytes());
    }
  });
  for (std::size_t i = 0; i < count; ++i) {
    steps_[i] = steps[i];
    parameters_[i].fresh = false;
  }
  for (std::size_t k = 0; k < groups_.size(); ++k) configure(groups_[k], rules[k]);
  completed_steps_ = completed_steps;
  changed_ = true;
  // No Python code runs here, and so no signal's handler. The keys are there already.
  for (const auto& [own, loaded] : updates) PyDict_Update(own.ptr(), loaded.ptr());
}

}  // namespace fusedopt
