#include "bindings/stepper.hpp"

#include <algorithm>
#include <mutex>
#include <new>

namespace fusedopt {
namespace {

std::uintptr_t address(const void* data) { return reinterpret_cast<std::uintptr_t>(data); }

}  // namespace

Stepper::Stepper(const py::list& params, const py::object& names) : names_(names, params.size()) {
  const std::size_t count = params.size();
  if (names_.given() && names_.count() != count) {
    throw py::value_error("names: expected one for each parameter");
  }
  parameters_.reserve(count);
  bindings_.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    const py::object array = params[i];
    const DType dtype = require_parameter(array, names_.label("params", i));
    const Shape shape = shape_of(array);
    parameters_.push_back({.array = array,
                           .dtype = dtype,
                           .shape = {shape.begin(), shape.end()},
                           .size = PyArray_SIZE(as_array(array)),
                           .fresh = false});
    bindings_.emplace_back().bind(array, dtype, parameters_.back().shape);
    elements_ += parameters_.back().size;
  }
  steps_arena_ = std::make_shared<Arena>(count * sizeof(std::int64_t));
  arenas_.push_back(steps_arena_);
  steps_ = static_cast<std::int64_t*>(steps_arena_->take_next(count * sizeof(std::int64_t)));
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
          found, {name, std::vector<char*>(count), std::vector<std::shared_ptr<Arena>>(count)});
    }
    indices.push_back(static_cast<std::size_t>(found - states_.begin()));
  }
  plan_is_regular_ = plan_is_regular_ && next.info == rule_.info;
  rule_ = next;
  rule_states_ = std::move(indices);
}

void Stepper::step(py::handle grads) {
  const py::object in_order = as_list_or_tuple(grads, names_);
  std::vector<py::object> kept;  // let go of after the lock: a gradient's finalizer may run then
  // Waiting for the lock lets other threads run, which may change the list: its items are looked at
  // afterwards, and from there until the GIL is released no Python code runs.
  const std::scoped_lock lock(mutex_);
  PyObject* const* items = items_of(in_order, names_);
  const bool repeats = refresh(items);
  if (!repeats && !gather(items)) {
    make_missing_state(items);
    gather(items);
  }
  kept = keep(items);
  // From here on nothing can fail.
  if (repeats) {
    for (std::size_t i = 0; i < parameters_.size(); ++i) ++steps_[i];
  } else {
    count_step(items);
  }
  run_plan(plan_, &Kernel::update);
}

void Stepper::traffic(py::handle grads) {
  const py::object in_order = as_list_or_tuple(grads, names_);
  std::vector<py::object> kept;
  const std::scoped_lock lock(mutex_);
  PyObject* const* items = items_of(in_order, names_);
  if (!refresh(items) && !gather(items)) throw py::value_error("grads: take a step first");
  kept = keep(items);
  run_plan(plan_, &Kernel::traffic);
}

// References to the gradients where the GIL will be released: another thread may empty the caller's
// list then.
std::vector<py::object> Stepper::keep(PyObject* const* grads) const {
  if (!releases_gil(plan_.elements())) return {};
  std::vector<py::object> kept;
  kept.reserve(parameters_.size());
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    kept.push_back(py::reinterpret_borrow<py::object>(grads[i]));
  }
  return kept;
}

void Stepper::count_step(PyObject* const* grads) {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (grads[i] == Py_None) continue;
    ++steps_[i];
    parameters_[i].fresh = false;
  }
}

// Whether a parameter is where and what it was. One that is not updated may be read-only.
bool Stepper::is_unchanged(std::size_t i, bool updated) const {
  const Parameter& p = parameters_[i];
  return data_of(p.array) == bindings_[i].data &&
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
  parameters_have_owners_ = true;
  parameter_owners_ = PointerFilter(parameters_.size());
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    PyArrayObject* array = as_array(parameters_[i].array);
    bindings_[i].data = PyArray_BYTES(array);
    bindings_[i].free_begin = bindings_[i].free_bytes = 0;
    const PyArrayObject* owner = owner_of(array);
    parameters_have_owners_ &= owner != nullptr;
    parameter_owners_.insert(owner);
  }
}

// The owner of what a gradient shares memory with and the step may write; if there is none,
// remembers the free stretch around it, where the gradient of the next step most likely lies too.
std::optional<std::size_t> Stepper::find_overlap(std::size_t i, const void* gradient) {
  Binding& binding = bindings_[i];
  if (binding.is_free(address(gradient))) return std::nullopt;
  const std::size_t bytes = parameters_[i].bytes();
  Interval free{};
  const auto owner = writable_.find_overlap(interval_of(gradient, bytes, i), &free);
  if (!owner) {
    binding.free_begin = free.begin;
    binding.free_bytes = free.end - bytes + 1 - free.begin;
  }
  return owner;
}

// Whether a gradient surely shares no memory with what a step writes, wherever it lies: quicker
// than a search where gradients move from step to step.
bool Stepper::is_apart(PyArrayObject* gradient) const {
  const PyArrayObject* owner = owner_of(gradient);
  return owner && parameters_have_owners_ && !parameter_owners_.may_contain(owner);
}

// Checks everything again and brings the last plan up to date, where nothing is unusual about this
// step. This is what a step costs besides arithmetic: for one parameter some comparisons, and no
// look at anything that only errors need. False says nothing yet about what is wrong, if anything.
bool Stepper::refresh(PyObject* const* grads) {
  if (!plan_is_regular_) return false;
  const PyTypeObject* const plain = &PyArray_Type;
  Piece* piece = plan_.pieces();
  std::uintptr_t last_distance = 0;  // of the gradient before from its parameter
  for (std::size_t i = 0; i < bindings_.size(); ++i) {
    const Binding& b = bindings_[i];
    if (!b.accepts(grads[i], plain)) return false;
    auto* grad = reinterpret_cast<PyArrayObject*>(grads[i]);
    char* data = PyArray_BYTES(grad);
    if (!b.is_free(address(data)) && !is_apart(grad) && find_overlap(i, data)) return false;
    const std::uintptr_t distance = address(data) - address(b.data);
    if (b.follows && (distance == last_distance) != b.joined) return false;
    last_distance = distance;
    if (!b.joined) (piece++)->streams[1] = data;
  }
  for (int d = 0; d < dtype_count; ++d) {
    Folded& folded = folded_[d];
    if (folded.when.step == 0) continue;  // there is no parameter of that dtype
    folded.when = {steps_[folded.parameter] + 1, false};
    plan_.fold_again(folded.index, rule_.kernel(DType(d)), rule_.hyperparameters.data(),
                     folded.when);
  }
  return true;
}

// Looks at everything in full and lays out the work. False where a parameter needs state that it
// doesn't have yet; nothing but the plan has changed then.
bool Stepper::gather(PyObject* const* grads) {
  plan_.clear();
  plan_is_regular_ = false;
  bool complete = true, regular = true;
  for (Folded& folded : folded_) folded = {};
  std::uintptr_t last_distance = 0;
  std::size_t last_coefficients = 0;

  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const Parameter& p = parameters_[i];
    Binding& binding = bindings_[i];
    PyObject* grad = grads[i];
    if (!is_unchanged(i, grad != Py_None)) {
      find_parameters(grads);
      return gather(grads);
    }
    binding.follows = binding.joined = false;
    regular &= binding.array != nullptr;
    if (grad == Py_None) {
      regular = false;
      continue;
    }
    if (!is_usable(grad, p.dtype, p.shape, Access::read)) {
      require_usable(grad, names_.label("grads", i), {p.dtype, p.shape, names_.label("params", i)},
                     Access::read);
    }
    if (const auto owner = find_overlap(i, data_of(grad))) {
      throw_overlap(names_.label("grads", i).text(), *owner < parameters_.size()
                                                         ? names_.label("params", *owner).text()
                                                         : "the optimizer's own state");
    }

    // Most parameters are at the same step and share one set of coefficients.
    const Kernel& kernel = rule_.kernel(p.dtype);
    Folded& folded = folded_[static_cast<int>(p.dtype)];
    if (folded.when.step != steps_[i] + 1 || folded.when.fresh != p.fresh) {
      regular &= folded.when.step == 0;
      folded = {{steps_[i] + 1, p.fresh}, i, 0};
      folded.index = plan_.fold(kernel, rule_.hyperparameters.data(), folded.when);
    }
    // What lies side by side in all streams is one piece of work.
    const std::uintptr_t distance = address(data_of(grad)) - address(binding.data);
    if (i > 0 && grads[i - 1] != Py_None && last_coefficients == folded.index) {
      binding.follows = follows_previous(i);
      binding.joined = binding.follows && distance == last_distance;
    }
    last_distance = distance;
    last_coefficients = folded.index;
    if (binding.joined) {
      plan_.extend_last(p.size);
      continue;
    }
    Piece& piece = plan_.add(kernel, folded.index, p.size);
    piece.streams[0] = data_of(p.array);
    piece.streams[1] = data_of(grad);
    for (std::size_t k = 0; k < rule_states_.size(); ++k) {
      char* state = states_[rule_states_[k]].data[i];
      complete &= state != nullptr;
      piece.streams[2 + k] = state;
    }
  }
  plan_is_regular_ = regular && complete;
  return complete;
}

// Whether a parameter lies right behind the one before, and is of its dtype.
bool Stepper::is_behind_previous(std::size_t i) const {
  const Parameter& previous = parameters_[i - 1];
  return parameters_[i].dtype == previous.dtype &&
         bindings_[i].data == bindings_[i - 1].data + previous.bytes();
}

// Whether its state does so, too.
bool Stepper::follows_previous(std::size_t i) const {
  if (!is_behind_previous(i)) return false;
  const std::size_t bytes = parameters_[i - 1].bytes();
  return std::ranges::all_of(rule_states_, [&](std::size_t k) {
    const auto& data = states_[k].data;
    return data[i] && data[i - 1] && data[i] == data[i - 1] + bytes;
  });
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
      bytes += Arena::room(parameters_[i].bytes());
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
  const Missing* last = nullptr;
  for (const Missing& next : missing) {
    const auto [k, i] = next;
    const Parameter& p = parameters_[i];
    // Parameters that lie side by side have their state side by side.
    const bool follows =
        last && last->state == k && last->parameter + 1 == i && is_behind_previous(i);
    void* piece = follows ? arena->take_next(p.bytes())
                          : arena->take(p.bytes(), bindings_[i].data, static_cast<int>(k) + 1);
    states_[k].data[i] = static_cast<char*>(piece);
    states_[k].owners[i] = arena;
    parameters_[i].fresh = true;
    last = &next;
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
