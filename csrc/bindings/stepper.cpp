#include "bindings/stepper.hpp"

#include <algorithm>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>

namespace fusedopt {
namespace {

std::uintptr_t address(const void* data) { return reinterpret_cast<std::uintptr_t>(data); }

}  // namespace

// What a caller gave as gradients, as a list or tuple in the order of the parameters; None where
// they are bound. May run Python code.
Reference Stepper::read(py::handle grads) const {
  if (!bound_.is_none()) {
    if (grads.is_none()) return py::none();
    throw py::type_error(
        "grads: expected step() without gradients, as they are bound to the optimizer");
  }
  if (grads.is_none()) {
    throw py::type_error(std::string("grads: expected ") +
                         (parameters_.names().given() ? "a dict or list" : "a list") +
                         " of arrays, got NoneType, and none were bound to the optimizer as grads= "
                         "when it was made");
  }
  return as_list_or_tuple(grads, parameters_.names());
}

// The same under the lock, where what runs may look at the optimizer. An iterator is asked once.
Reference Stepper::read_once(py::handle grads) {
  const StepMutex::Reentry open(mutex_);
  return read(grads);
}

// Of what was read.
void Stepper::find_items(GivenGradients& grads) const {
  if (grads.given.is_none()) grads.given = bound_;
  grads.items = items_of(grads.given, parameters_.names());
}

void Stepper::step(py::handle grads) {
  take_step(grads, [] { return true; });
}

void Stepper::hold(const char* action) {
  if (action) mutex_.require_outside(action);
  mutex_.lock_reentrant();
}

bool Stepper::step_if_readable(py::handle grads) {
  mutex_.require_outside("step()");
  return take_step(grads, [this] { return read_hyperparameters(); });
}

// As they are at this moment. False where Python has to say what they mean.
bool Stepper::read_hyperparameters() {
  for (Group& g : groups_) {
    if (g.rule.is_current()) continue;
    // A schedule may look at the optimizer.
    const StepMutex::Reentry open(mutex_);
    if (!g.rule.read(completed_steps_)) return false;
  }
  return true;
}

template <typename MayBegin>
bool Stepper::take_step(py::handle grads, const MayBegin& may_begin) {
  GivenGradients given;  // let go of after the lock: a gradient's finalizer may run then
  Kept kept;
  const std::scoped_lock lock(mutex_);
  if (!may_begin()) return false;
  given.given = read_once(grads);
  elsewhere_.require_home("step()");
  memory_.require_own();
  // From here until the GIL is released no Python code runs, or the list is ours.
  if (memory_.is_elsewhere() && !given.given.is_none()) given.given = py::tuple(given.given);
  run_step(given, kept);
  ++completed_steps_;
  return true;
}

void Stepper::run_step(GivenGradients& given, Kept& kept) {
  find_items(given);
  States::Missing made;
  const bool repeats = prepare(given, kept, made, Pieces::joined, [] {});
  // From here on nothing can fail.
  count_step(given.items, repeats);
  plan_.fold();
  run_for(plan_.elements(), [this] { plan_.run(&Kernel::update); }, kept.is_all);
}

void Stepper::traffic(py::handle grads) {
  GivenGradients given;
  Kept kept;
  given.given = read(grads);
  const std::scoped_lock lock(mutex_);
  find_items(given);
  if (!refresh(given.items) && !gather(given.items)) {
    throw py::value_error("grads: take a step first");
  }
  keep(given, kept);
  run_for(plan_.elements(), [this] { plan_.run(&Kernel::traffic); }, kept.is_all);
}

// Makes all state that the step needs, and lays out the work anew.
void Stepper::make_missing_state(const GivenGradients& given, States::Missing& missing,
                                 Pieces pieces) {
  PyObject* const* const grads = given.items;
  for (const Group& g : groups_) {
    states_.find_missing(missing, g.rule.rule(), g.states, g.average, parameters_, g.first, g.last,
                         grads);
  }
  auto arena = memory_.allocate(missing.bytes, "the optimizer's state");
  // Python code may have run: what was looked at before may be something else.
  if (memory_.is_elsewhere()) {
    parameters_.follow_again();
    translator_.follow_again(given, parameters_);
    gather(grads, pieces);
  }
  writable_.add(arena, parameters_);
  missing.arena = std::move(arena);
  plan_.reserve_coefficients(parameters_.count());
  states_.add(missing, parameters_);
  gather(grads, pieces);
}

// As if state that was made for a step had never been.
void Stepper::unmake(const States::Missing& made) {
  if (!made.arena) return;
  plan_is_regular_ = false;
  states_.remove(made, parameters_);
  writable_.remove(made.arena, parameters_);
}

// Where the GIL will be released: another thread may empty the caller's list then.
void Stepper::keep(const GivenGradients& grads, Kept& kept) const {
  if (!releases_gil(plan_.elements())) return;
  PyObject* const* const given = PySequence_Fast_ITEMS(grads.given.ptr());
  kept.objects.reserve(parameters_.count());
  for (std::size_t i = 0; i < parameters_.count(); ++i) {
    kept.objects.push_back(reference_to(given[i]));
  }
  if (!has_foreign()) kept.is_all = true;
}

// Puts NumPy arrays in the place of other libraries', and has them lie where these do. What can run
// Python code, or let other threads run, comes first: what is looked at last is what is. Whoever
// holds on to a library's memory may let go of the GIL meanwhile; as that takes a microsecond each,
// it is for large work.
void Stepper::look_at_foreign(GivenGradients& grads, Kept& kept) {
  bool is_quiet = translator_.translate_all(grads, parameters_);
  const std::size_t count = parameters_.count();
  const std::int64_t elements = parameters_.elements();
  const auto each = elements / static_cast<std::int64_t>(std::max<std::size_t>(count, 1));
  const bool holds = elements >= (std::int64_t(1) << 20) && each >= 16384;
  std::vector<const void*> held_params(holds ? count : 0), held_grads(holds ? count : 0);
  if (holds) {
    grads.given = py::tuple(grads.given);  // another thread may empty a list
    PyObject* const* const given = PySequence_Fast_ITEMS(grads.given.ptr());
    if (!translator_.has_translated(grads)) grads.items = given;
    for (std::size_t i = 0; i < count; ++i) {
      held_params[i] = kept.memory.own(parameters_.given(i));
      held_grads[i] = kept.memory.own(given[i]);
    }
    is_quiet = false;
  }
  is_quiet &= parameters_.follow();
  // No Python code and no other thread runs from here on.
  if (!is_quiet) translator_.follow_again(grads, parameters_);
  for (std::size_t i = 0; i < held_params.size(); ++i) {
    const bool moved = (held_params[i] && held_params[i] != data_of(parameters_[i].array)) ||
                       (held_grads[i] && held_grads[i] != data_of(grads.items[i]) &&
                        translator_.stands_in(grads, i));
    if (moved) {
      throw std::runtime_error(parameters_.names().label("params", i).text() +
                               ": another thread has put it, or its gradient, elsewhere just now; "
                               "nothing was updated");
    }
  }
  kept.is_all = holds;
}

void Stepper::count_step(PyObject* const* grads, bool repeats) {
  if (repeats) {  // then every parameter has a gradient
    for (std::size_t i = 0; i < parameters_.count(); ++i) ++steps_[i];
    return;
  }
  for (std::size_t i = 0; i < parameters_.count(); ++i) {
    if (grads[i] == Py_None) continue;
    ++steps_[i];
    parameters_[i].fresh = false;
  }
}

// Parameters are the user's arrays, who can resize them, freeze them or change their shape. Throws
// where a kernel can't go along with that. From here on all addresses are those of now.
template <typename IsUpdated>
void Stepper::look_at_parameters(const IsUpdated& is_updated) {
  const std::size_t count = parameters_.count();
  std::size_t same = 0;
  while (same < count && parameters_.is_unchanged(same, is_updated(same))) ++same;
  if (same == count) return;
  for (std::size_t i = 0; i < count; ++i) parameters_.require_usable(i, is_updated(i));
  plan_is_regular_ = false;
  writable_.find(parameters_);
}

// Checks everything again and brings the last plan up to date, where nothing is unusual about this
// step. This is what a step costs besides arithmetic: for one parameter some comparisons, and no
// look at anything that only errors need. False says nothing yet about what is wrong, if anything.
bool Stepper::refresh(PyObject* const* grads) {
  if (!plan_is_regular_) return false;
  const PyTypeObject* const plain = &PyArray_Type;
  std::vector<Binding>& bindings = parameters_.bindings();
  Piece* piece = plan_.pieces().data();
  std::uintptr_t last_distance = 0;  // of the gradient before from its parameter
  for (std::size_t i = 0; i < bindings.size(); ++i) {
    Binding& b = bindings[i];
    if (!b.accepts(grads[i], plain)) return false;
    auto* grad = reinterpret_cast<PyArrayObject*>(grads[i]);
    char* data = PyArray_BYTES(grad);
    if (!b.is_free(address(data)) && !writable_.is_apart(grad) &&
        writable_.find_overlap(parameters_[i], b, data)) {
      return false;
    }
    const std::uintptr_t distance = address(data) - address(b.data);
    if (b.follows && (distance == last_distance) != b.joined) return false;
    last_distance = distance;
    if (!b.joined) (piece++)->streams[1] = data;
  }
  for (Group& g : groups_) {
    for (int d = 0; d < dtype_count; ++d) {
      Folded& folded = g.folded[d];
      if (folded.step == 0) continue;  // there is no parameter of that dtype
      folded.step = steps_[folded.parameter] + 1;
      folded.fresh = false;
      plan_.set_step(folded.index, folded.step);
    }
  }
  return true;
}

// Looks at everything in full and lays out the work. False where a parameter needs state that it
// doesn't have yet; nothing but the plan has changed then.
bool Stepper::gather(PyObject* const* grads, Pieces pieces) {
  plan_.clear();
  plan_is_regular_ = false;
  // All of them before any gradient: one may lie where a parameter was.
  look_at_parameters([grads](std::size_t i) { return grads[i] != Py_None; });
  bool complete = true, regular = pieces == Pieces::joined;
  for (Group& g : groups_) {
    for (Folded& folded : g.folded) folded = {};
  }
  auto group = groups_.begin();
  std::uintptr_t last_distance = 0;
  std::size_t last_coefficients = 0;

  for (std::size_t i = 0; i < parameters_.count(); ++i) {
    while (i == group->last) ++group;
    const Parameter& p = parameters_[i];
    Binding& binding = parameters_.bindings()[i];
    PyObject* grad = grads[i];
    binding.follows = binding.joined = false;
    regular &= binding.array != nullptr;
    if (grad == Py_None) {
      regular = false;
      continue;
    }
    require_gradient(i, grad);

    // Most parameters are at the same step and share one set of coefficients.
    Folded& folded = group->folded[static_cast<int>(p.dtype)];
    if (folded.step != steps_[i] + 1 || folded.fresh != p.fresh || pieces == Pieces::alone) {
      regular &= folded.step == 0;
      folded = {steps_[i] + 1, p.fresh, i, add_coefficients(plan_, *group, i)};
    }
    // What lies side by side in all streams is one piece of work.
    const std::uintptr_t distance = address(data_of(grad)) - address(binding.data);
    if (i > 0 && grads[i - 1] != Py_None && last_coefficients == folded.index) {
      binding.follows = pieces == Pieces::joined && follows_previous(*group, i);
      binding.joined = binding.follows && distance == last_distance;
    }
    last_distance = distance;
    last_coefficients = folded.index;
    if (binding.joined) {
      plan_.extend_last(p.size);
      continue;
    }
    complete &= add_piece(plan_, *group, i, grad, folded.index);
  }
  plan_is_regular_ = regular && complete;
  return complete;
}

// Throws where an array can't be a parameter's gradient.
void Stepper::require_gradient(std::size_t i, py::handle grad) {
  const ParameterNames& names = parameters_.names();
  const Parameter& p = parameters_[i];
  if (!is_usable(grad, p.dtype, p.shape, Access::read)) {
    require_usable(grad, names.label("grads", i), {p.dtype, p.shape, names.label("params", i)},
                   Access::read);
  }
  if (const auto owner = writable_.find_overlap(p, parameters_.bindings()[i], data_of(grad))) {
    throw_overlap(names.label("grads", i).text(), *owner < parameters_.count()
                                                      ? names.label("params", *owner).text()
                                                      : "the optimizer's own state");
  }
}

// For the next step of a parameter of that group.
std::size_t Stepper::add_coefficients(Plan& plan, const Group& group, std::size_t i) const {
  const Parameter& p = parameters_[i];
  const ConfiguredRule& rule = group.rule.rule();
  FollowingAverage average;
  if (group.average) average = {&average_kernel(p.dtype), &group.rule.ema_decay()};
  return plan.add_coefficients(rule.kernel(p.dtype), rule.hyperparameters.data(), steps_[i] + 1,
                               p.fresh, average);
}

// A piece of work for itself. False where state of it is missing.
bool Stepper::add_piece(Plan& plan, const Group& group, std::size_t i, py::handle grad,
                        std::size_t coefficients) const {
  const Parameter& p = parameters_[i];
  Piece& piece = plan.add(group.rule.rule().kernel(p.dtype), coefficients, p.size);
  piece.streams[0] = data_of(p.array);
  piece.streams[1] = data_of(grad);
  bool complete = true;
  for (std::size_t k = 0; k < group.states.size(); ++k) {
    char* state = states_.data(group.states[k], i);
    complete &= state != nullptr;
    piece.streams[2 + k] = state;
  }
  if (group.average) {
    char* average = states_.data(*group.average, i);
    complete &= average != nullptr;
    piece.streams[average_stream] = average;
  }
  return complete;
}

void Stepper::move_ahead(const std::vector<double>& momenta) {
  mutex_.require_outside("lookahead()");
  const std::scoped_lock lock(mutex_);
  elsewhere_.require_home("lookahead()");
  require_adopted();
  if (momenta.size() != groups_.size()) {
    throw std::runtime_error("lookahead(): parameters were added since it was called");
  }
  std::vector<char*> velocities(parameters_.count());
  std::vector<double> momentum_of(parameters_.count());
  for (std::size_t k = 0; k < groups_.size(); ++k) {
    const Group& g = groups_[k];
    for (std::size_t i = g.first; i < g.last; ++i) {
      velocities[i] = states_.data(g.states.at(0), i);
      momentum_of[i] = momenta.at(k);
    }
  }
  // First, as it may run Python code.
  elsewhere_.make_room(parameters_, velocities, memory_);
  look_at_those_with(velocities);
  elsewhere_.move_ahead(parameters_, std::move(velocities), momentum_of);
}

void Stepper::move_to_averages() {
  mutex_.require_outside("swap_ema()");
  const std::scoped_lock lock(mutex_);
  elsewhere_.require_home("swap_ema()");
  require_adopted();
  memory_.require_own();
  std::vector<char*> averages = states_.arrays_of("ema");
  look_at_those_with(averages);
  elsewhere_.exchange(parameters_, std::move(averages));
}

// Looks at parameters again, of which those that have a partner are about to be written.
void Stepper::look_at_those_with(const std::vector<char*>& partners) {
  parameters_.follow();
  look_at_parameters([&](std::size_t i) { return partners[i] != nullptr; });
}

void Stepper::move_back() {
  const std::scoped_lock lock(mutex_);
  elsewhere_.move_back(parameters_);
}

// Whether all of a parameter's arrays but the gradient lie behind those of the one before.
bool Stepper::follows_previous(const Group& group, std::size_t i) const {
  const std::size_t bytes = parameters_[i - 1].bytes();
  return parameters_.is_behind_previous(i) && states_.follow_previous(group.states, i, bytes) &&
         (!group.average || states_.follow_previous({*group.average}, i, bytes));
}

py::tuple Stepper::state(py::ssize_t index) {
  const std::scoped_lock lock(mutex_);
  const auto i = static_cast<std::size_t>(index);
  if (i >= parameters_.count()) throw py::index_error("state: there is no such parameter");
  require_adopted();
  const Parameter& p = parameters_[i];
  return py::make_tuple(steps_[i], states_.of(i, p.dtype, p.shape));
}

// New ones over the memory of other libraries' arrays.
py::list Stepper::arrays() {
  const std::scoped_lock lock(mutex_);
  const StepMutex::Reentry open(mutex_);
  py::list arrays;
  for (std::size_t i = 0; i < parameters_.count(); ++i) {
    const Parameter& p = parameters_[i];
    arrays.append(p.foreign ? numpy_array_over(p.foreign, parameters_.names().label("params", i))
                            : p.array);
  }
  return arrays;
}

py::object Stepper::step_counts() const {
  return counts_over(steps_arena_, steps_, static_cast<npy_intp>(parameters_.count()));
}

void Stepper::visit(Visitor& visitor) const {
  for (std::size_t i = 0; i < parameters_.count(); ++i) {
    visitor(parameters_[i].array);
    visitor(parameters_[i].foreign);
  }
  for (const Group& g : groups_) g.rule.visit(visitor);
  visitor(bound_);
  for (const Adopted& a : adopted_) visitor(a.array);
  memory_.visit(visitor);
}

void Stepper::let_go_of_objects() {
  plan_is_regular_ = false;
  states_.resize(0);
  writable_ = {};
  elsewhere_ = {};
  adopted_.clear();
  // Last, as their finalizers may look at this.
  const std::vector<Group> groups = std::exchange(groups_, {});
  const Parameters parameters = std::exchange(parameters_, {});
  const Reference bound = std::exchange(bound_, py::none());
  const StateMemory memory = std::exchange(memory_, StateMemory(py::none()));
}

}  // namespace fusedopt
