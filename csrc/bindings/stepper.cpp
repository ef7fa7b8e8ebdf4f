#include "bindings/stepper.hpp"

#include <algorithm>
#include <mutex>
#include <new>

namespace fusedopt {

Stepper::Stepper(const py::list& params, const py::object& names) : names_(names, params.size()) {
  const std::size_t count = params.size();
  if (names_.given() && names_.count() != count) {
    throw py::value_error("names: expected one for each parameter");
  }
  parameters_.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    const py::object array = params[i];
    const DType dtype = require_parameter(array, names_.label("params", i));
    const Shape shape = shape_of(array);
    parameters_.push_back({.array = array,
                           .dtype = dtype,
                           .shape = {shape.begin(), shape.end()},
                           .size = PyArray_SIZE(as_array(array)),
                           .data = nullptr,
                           .free_stretch = {},
                           .fresh = false});
    elements_ += parameters_.back().size;
  }
  steps_arena_ = std::make_shared<Arena>(count * sizeof(std::int64_t));
  arenas_.push_back(steps_arena_);
  steps_ = static_cast<std::int64_t*>(steps_arena_->take(count * sizeof(std::int64_t)));
  find_writable_memory();
}

void Stepper::configure(std::string_view rule, const py::dict& hyperparameters) {
  const ConfiguredRule next(rule, hyperparameters);
  if (std::ranges::find(parameters_, DType::float32, &Parameter::dtype) != parameters_.end()) {
    next.require_finite(DType::float32);
  }
  std::vector<std::size_t> indices;
  for (int k = 0; k < next.info->states.count; ++k) {
    const std::string name = next.info->states.items[k];
    auto found = std::ranges::find(states_, name, &StateArrays::name);
    if (found == states_.end()) {
      const std::size_t count = parameters_.size();
      found = states_.insert(
          found, {name, std::vector<void*>(count), std::vector<std::shared_ptr<Arena>>(count)});
    }
    indices.push_back(static_cast<std::size_t>(found - states_.begin()));
  }
  rule_ = next;
  rule_states_ = std::move(indices);
}

void Stepper::step(py::handle grads) {
  const py::object in_order = as_list_or_tuple(grads, names_);
  std::vector<py::object> kept;  // let go of after the lock: a gradient's finalizer may run then
  // Waiting for the lock lets other threads run, which may change the list: its items are looked at
  // afterwards, and from there until the GIL is released no Python code runs.
  const std::scoped_lock lock(mutex_);
  step_all(items_of(in_order, names_), kept);
}

void Stepper::step_all(PyObject* const* grads, std::vector<py::object>& kept) {
  const std::size_t count = parameters_.size();
  if (releases_gil(elements_)) kept.reserve(count);
  if (!gather(grads)) {
    make_missing_state(grads);
    gather(grads);
  }
  // From here on nothing can fail.
  if (releases_gil(plan_.elements())) {
    // Without the GIL another thread may empty the caller's list.
    for (std::size_t i = 0; i < count; ++i) {
      kept.push_back(py::reinterpret_borrow<py::object>(grads[i]));
    }
  }
  run_plan(plan_);
  for (std::size_t i = 0; i < count; ++i) {
    const py::handle grad = kept.empty() ? py::handle(grads[i]) : kept[i];
    if (grad.is_none()) continue;
    ++steps_[i];
    parameters_[i].fresh = false;
  }
}

// Whether a parameter is where and what it was. One that is not updated may be read-only.
bool Stepper::is_unchanged(const Parameter& p, bool updated) const {
  return data_of(p.array) == p.data &&
         is_usable(p.array, p.dtype, p.shape, updated ? Access::update : Access::read);
}

// Parameters are the user's arrays, who can resize them, freeze them or change their shape. Throws
// where a kernel can't go along with that.
void Stepper::find_parameters(PyObject* const* grads) {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const Parameter& p = parameters_[i];
    const Label label = names_.label("params", i);
    require_usable(p.array, label, {p.dtype, p.shape, label},
                   grads[i] == Py_None ? Access::read : Access::update);
  }
  find_writable_memory();
}

// All memory that a step writes, with the parameters where they are now. Throws where two of them
// share some, and leaves everything as it was.
void Stepper::find_writable_memory() {
  std::vector<Interval> intervals;
  intervals.reserve(parameters_.size() + arenas_.size());
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const Parameter& p = parameters_[i];
    intervals.push_back(interval_of(data_of(p.array), p.bytes(), i));
  }
  for (const auto& arena : arenas_) {
    intervals.push_back(interval_of(arena->data(), arena->size(), parameters_.size()));
  }
  if (const auto clash = writable_.assign(std::move(intervals))) {
    throw_overlap(names_.label("params", clash->second).text(),
                  names_.label("params", clash->first).text());
  }
  for (Parameter& p : parameters_) {
    p.data = data_of(p.array);
    p.free_stretch = {};
  }
}

// Throws where a gradient lies in memory that the step may write; otherwise remembers the free
// stretch around it, where the gradient of the next step most likely lies too.
void Stepper::check_gradient_memory(const Interval& gradient) {
  const std::size_t i = gradient.owner;
  const auto other = writable_.find_overlap(gradient, &parameters_[i].free_stretch);
  if (!other) return;
  throw_overlap(names_.label("grads", i).text(), *other < parameters_.size()
                                                     ? names_.label("params", *other).text()
                                                     : "the optimizer's own state");
}

// Checks everything and lays out the work. False where a parameter needs state that it doesn't have
// yet; nothing but the plan has changed then. This is what a step costs besides arithmetic: for one
// parameter a few comparisons, and no look at anything that errors alone need.
bool Stepper::gather(PyObject* const* grads) {
  plan_.clear();
  bool complete = true;
  struct {
    StepContext when{};  // no parameter's, as steps count from 1
    std::size_t coefficients = 0;
  } latest[dtype_count];

  const std::size_t count = parameters_.size();
  for (std::size_t i = 0; i < count; ++i) {
    const Parameter& p = parameters_[i];
    PyObject* grad = grads[i];
    if (!is_unchanged(p, grad != Py_None)) {
      find_parameters(grads);
      return gather(grads);
    }
    if (grad == Py_None) continue;
    if (!is_usable(grad, p.dtype, p.shape, Access::read)) {
      require_usable(grad, names_.label("grads", i), {p.dtype, p.shape, names_.label("params", i)},
                     Access::read);
    }
    const Interval gradient = interval_of(data_of(grad), p.bytes(), i);
    if (!p.free_stretch.contains(gradient)) check_gradient_memory(gradient);

    // Most parameters are at the same step and share one set of coefficients.
    const Kernel& kernel = rule_.kernel(p.dtype);
    auto& [when, coefficients] = latest[static_cast<int>(p.dtype)];
    if (when.step != steps_[i] + 1 || when.fresh != p.fresh) {
      when = {steps_[i] + 1, p.fresh};
      coefficients = plan_.fold(kernel, rule_.hyperparameters.data(), when);
    }
    Segment& segment = plan_.add(kernel, coefficients, p.size);
    segment.streams[0] = p.data;
    segment.streams[1] = data_of(grad);
    for (std::size_t k = 0; k < rule_states_.size(); ++k) {
      void* state = states_[rule_states_[k]].data[i];
      complete &= state != nullptr;
      segment.streams[2 + k] = state;
    }
  }
  return complete;
}

// Zeros for all state arrays that this step needs and that don't exist, in one block. Either all
// of them are made or none.
void Stepper::make_missing_state(PyObject* const* grads) {
  struct Missing {
    std::size_t state, parameter;
  };
  std::vector<Missing> missing;
  std::size_t bytes = 0;
  for (const std::size_t k : rule_states_) {
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      if (grads[i] == Py_None || states_[k].data[i]) continue;
      missing.push_back({k, i});
      bytes += Arena::padded(parameters_[i].bytes());
    }
  }
  std::shared_ptr<Arena> arena;
  try {
    arena = std::make_shared<Arena>(bytes);
  } catch (const std::bad_alloc&) {
    PyErr_Format(PyExc_MemoryError, "no memory for the optimizer's state: %zu bytes", bytes);
    throw py::error_already_set();
  }
  arenas_.push_back(arena);
  find_writable_memory();
  plan_.reserve_coefficients(parameters_.size());
  for (const auto& [k, i] : missing) {
    states_[k].data[i] = arena->take(parameters_[i].bytes());
    states_[k].owners[i] = arena;
    parameters_[i].fresh = true;
  }
}

py::dict Stepper::state(py::ssize_t index) const {
  const auto i = static_cast<std::size_t>(index);
  const Parameter& p = parameters_.at(i);
  py::dict arrays;
  for (const StateArrays& s : states_) {
    if (s.data[i]) arrays[s.name.c_str()] = array_over(s.owners[i], s.data[i], p.dtype, p.shape);
  }
  return arrays;
}

py::object Stepper::step_counts() const {
  return counts_over(steps_arena_, steps_, static_cast<npy_intp>(parameters_.size()));
}

}  // namespace fusedopt
