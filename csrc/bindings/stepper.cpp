#include "bindings/stepper.hpp"

#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>

#include "bindings/gil.hpp"
#include "bindings/step_with_options.hpp"

namespace fusedopt {

void Stepper::add_group(NewGroup group, py::handle grads, const Updates& updates) {
  const ParameterNames names(group.names, group.params.size());
  Reference given = py::none();
  if (!grads.is_none()) {
    given = py::tuple(as_list_or_tuple(grads, names));
    items_of(given, names);
  }
  const std::scoped_lock lock(mutex_);
  elsewhere_.require_home(group.of ? "add_params()" : "add_param_group()");
  const Reference bound = source_.bound();
  if (!given.is_none() && bound.is_none()) {
    throw py::value_error("grads: expected None, as the optimizer has no gradients bound to it");
  }
  if (given.is_none() && !bound.is_none() && group.params.size() > 0) {
    throw py::value_error("grads: needed, as the optimizer has gradients bound to it");
  }
  held_.add(std::move(group), [&] {
    if (given.is_none()) return;
    require_and_bind(bound + given);
  });
  bring_up_to_date(updates);
}

void Stepper::rebind(const std::vector<std::pair<std::size_t, py::object>>& arrays,
                     const Updates& updates) {
  Holdings::Others others;  // let go of after the lock
  const std::scoped_lock lock(mutex_);
  elsewhere_.require_home("rebind()");
  for (const auto& [i, array] : arrays) {
    if (i >= held_.parameters.count()) {
      throw py::index_error("rebind(): there is no such parameter");
    }
    others.emplace_back(i, held_.parameters.replacement(i, array));
  }
  held_.rebind(others, [this] {
    if (!source_.bound().is_none()) require_and_bind(source_.bound());
  });
  bring_up_to_date(updates);
}

void Stepper::bind(py::handle grads) {
  const Reference given = py::tuple(as_list_or_tuple(grads, held_.parameters.names()));
  const std::scoped_lock lock(mutex_);
  require_and_bind(given);
}

// Throws where a step with these would.
void Stepper::require_and_bind(const Reference& tuple) {
  source_.bind(tuple, [this](const GivenGradients& g) { work_.gather(g.items); });
}

void Stepper::zero_grad() {
  const std::scoped_lock lock(mutex_);
  source_.zero();
}

void Stepper::configure(std::size_t group, const GroupRule& rule,
                        const std::optional<py::tuple>& made_of) {
  const std::scoped_lock lock(mutex_);  // a step on another thread may read what this writes
  held_.configure(held_.groups.at(group), rule, made_of);
}

void Stepper::load(const SavedState& saved, const Updates& updates) {
  std::vector<StateArray> given_up;  // let go of after the lock
  const std::scoped_lock lock(mutex_);
  require_home("load_state_dict()");
  held_.memory.require_own();
  load_state(held_, saved, given_up);
  bring_up_to_date(updates);
}

void Stepper::hold(const char* action) {
  if (action) mutex_.require_outside(action);
  mutex_.lock_reentrant();
}

// As they are at this moment. False where Python has to say what they mean.
bool Stepper::read_hyperparameters() {
  for (Group& g : held_.groups) {
    if (g.rule.is_current()) continue;
    // A schedule may look at the optimizer.
    const StepMutex::Reentry open(mutex_);
    if (!g.rule.read(held_.completed_steps)) return false;
  }
  return true;
}

// Under the lock, where what runs may look at the optimizer. An iterator is asked once.
Reference Stepper::read_once(py::handle grads) {
  const StepMutex::Reentry open(mutex_);
  return source_.read(grads);
}

void Stepper::require_steppable(const char* action) const {
  elsewhere_.require_home(action);
  held_.memory.require_own();
}

void Stepper::step(py::handle grads) {
  take_step(grads, [] { return true; });
}

bool Stepper::step_if_readable(py::handle grads) {
  mutex_.require_outside("step()");
  return take_step(grads, [this] { return read_hyperparameters(); });
}

template <typename MayBegin>
bool Stepper::take_step(py::handle grads, const MayBegin& may_begin) {
  GivenGradients given;  // let go of after the lock: a gradient's finalizer may run then
  Kept kept;
  const std::scoped_lock lock(mutex_);
  if (!may_begin()) return false;
  given.given = read_once(grads);
  require_steppable("step()");
  // From here until the GIL is released no Python code runs, or the list is ours.
  if (held_.memory.is_elsewhere() && !given.given.is_none()) given.given = py::tuple(given.given);
  run_step(given, kept);
  ++held_.completed_steps;
  return true;
}

void Stepper::run_step(GivenGradients& given, Kept& kept) {
  source_.find_items(given);
  States::Missing made;
  const bool repeats = prepare(given, kept, made, Pieces::joined, [] {});
  // From here on nothing can fail.
  count_step(given, repeats);
  Plan& plan = work_.plan();
  plan.fold();
  run_for(plan.elements(), [&plan] { plan.run(&Kernel::update); }, kept.is_all);
}

py::tuple Stepper::step_with(py::handle grads, const StepOptions& options) {
  return *take_step_with(grads, options, [] { return true; });
}

std::optional<py::tuple> Stepper::step_with_if_readable(py::handle grads,
                                                        const StepOptions& options) {
  mutex_.require_outside("step()");
  return take_step_with(grads, options, [this] { return read_hyperparameters(); });
}

template <typename MayBegin>
std::optional<py::tuple> Stepper::take_step_with(py::handle grads, const StepOptions& options,
                                                 const MayBegin& may_begin) {
  GivenGradients given;  // let go of after the lock: a gradient's finalizer may run then
  Kept kept;
  const std::scoped_lock lock(mutex_);
  if (!may_begin()) return std::nullopt;
  given.given = read_once(grads);
  require_steppable("step()");
  // A tuple of our own: gradients are looked at again after the GIL was released, when the caller's
  // list may be another. No Python code runs for it.
  if (!given.given.is_none()) given.given = py::tuple(given.given);
  return run_step_with(given, kept, options, true);
}

py::tuple Stepper::run_step_with(GivenGradients& given, Kept& kept, const StepOptions& options,
                                 bool completes) {
  source_.find_items(given);
  StepWithOptions step(options, held_);
  States::Missing made;
  Plan& plan = work_.plan();
  const bool repeats =
      prepare(given, kept, made, step.pieces(), [&] { step.prepare(given, plan); });
  // From here on nothing can fail but by what gradients hold.
  run_for(plan.elements(), [&] { step.run(plan); }, kept.is_all);
  step.zero_cast(given);
  if (step.moves()) {
    count_step(given, repeats);
    if (completes) ++held_.completed_steps;
  } else {
    held_.unmake(made);
    step.require_finite();
  }
  return step.result();
}

void Stepper::step_some(const Gradients& grads, bool completes) {
  GivenGradients given;  // let go of after the lock: a gradient's finalizer may run then
  Kept kept;
  const std::scoped_lock lock(mutex_);
  require_steppable("step_some()");
  given.given = in_a_tuple(grads);
  run_step(given, kept);
  if (completes) ++held_.completed_steps;
}

py::tuple Stepper::step_some_with(const Gradients& grads, bool completes,
                                  const StepOptions& options) {
  GivenGradients given;
  Kept kept;
  const std::scoped_lock lock(mutex_);
  require_steppable("step_some()");
  given.given = in_a_tuple(grads);
  return run_step_with(given, kept, options, completes);
}

// None for all other parameters.
py::tuple Stepper::in_a_tuple(const Gradients& grads) const {
  py::tuple all(held_.parameters.count());
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = py::none();
  for (const auto& [i, grad] : grads) {
    if (i >= all.size()) throw py::index_error("step_some(): there is no such parameter");
    all[i] = grad;
  }
  return all;
}

bool Stepper::step_some_if_readable(py::handle grads, bool completes) {
  mutex_.require_outside("step_some()");
  Kept kept;  // its references are let go of after the lock
  const std::scoped_lock lock(mutex_);
  if (!choose_some(grads) || !gather_some(kept)) return false;
  // From here on nothing can fail.
  count_some(completes);
  Plan& plan = some_.plan();
  plan.fold();
  run_for(plan.elements(), [&plan] { plan.run(&Kernel::update); });
  return true;
}

std::optional<py::tuple> Stepper::step_some_with_if_readable(py::handle grads, bool completes,
                                                             const StepOptions& options) {
  mutex_.require_outside("step_some()");
  Kept kept;
  const std::scoped_lock lock(mutex_);
  if (!choose_some(grads)) return std::nullopt;
  some_.sort();
  if (!gather_some(kept)) return std::nullopt;
  StepWithOptions step(options, held_);
  Plan& plan = some_.plan();
  step.prepare(some_.stepped(), plan);
  // From here on nothing can fail but by what gradients hold.
  run_for(plan.elements(), [&] { step.run(plan); });
  if (step.moves()) count_some(completes);
  step.require_finite();
  return step.result();
}

bool Stepper::choose_some(py::handle grads) {
  if (!PyDict_CheckExact(grads.ptr()) || !read_hyperparameters()) return false;
  require_steppable("step_some()");
  held_.require_usable_state();
  return some_.choose(grads, held_.parameters);
}

bool Stepper::gather_some(Kept& kept) {
  return some_.gather(held_, source_.translator()) && keep_chosen(kept);
}

void Stepper::count_some(bool completes) {
  for (const ChosenWork::Chosen& chosen : some_.chosen()) ++held_.steps[chosen.parameter];
  if (completes) ++held_.completed_steps;
  ++held_.changes;  // parameters are no longer at the same step
}

// Where the GIL will be released. False where that takes more than references: to hold on to other
// libraries' memory is for a look at all.
bool Stepper::keep_chosen(Kept& kept) {
  if (!releases_gil(some_.plan().elements())) return true;
  if (source_.has_foreign()) return false;
  for (const ChosenWork::Chosen& chosen : some_.chosen()) {
    if (chosen.grad != chosen.given) return false;
    kept.objects.push_back(reference_to(chosen.given));
  }
  return true;
}

void Stepper::traffic(py::handle grads) {
  GivenGradients given;
  Kept kept;
  given.given = source_.read(grads);
  const std::scoped_lock lock(mutex_);
  source_.find_items(given);
  if (!work_.refresh(given.items) && !work_.gather(given.items)) {
    throw py::value_error("grads: take a step first");
  }
  keep(given, kept);
  Plan& plan = work_.plan();
  run_for(plan.elements(), [&plan] { plan.run(&Kernel::traffic); }, kept.is_all);
}

// Checks everything, and whatever else check_more() does, and lays out the work with all state that
// it needs: `made`, if there was none. Whether the work is that of the step before. Where anything
// throws there is no trace of it.
template <typename CheckMore>
bool Stepper::prepare(GivenGradients& grads, Kept& kept, States::Missing& made, Pieces pieces,
                      const CheckMore& check_more) {
  held_.require_usable_state();
  const auto is_refreshed = [&] { return pieces == Pieces::joined && work_.refresh(grads.items); };
  bool repeats = false;
  if (!source_.has_foreign()) {
    repeats = is_refreshed();
    if (!repeats) source_.finds_foreign(grads);
  }
  if (source_.has_foreign()) {
    source_.look_at_foreign(grads, kept);
    repeats = is_refreshed();
  }
  try {
    if (!repeats && !work_.gather(grads.items, pieces)) make_missing_state(grads, made, pieces);
    keep(grads, kept);
    check_more();
  } catch (...) {
    held_.unmake(made);
    throw;
  }
  return repeats;
}

// Makes all state that the step needs, and lays out the work anew.
void Stepper::make_missing_state(const GivenGradients& grads, States::Missing& made,
                                 Pieces pieces) {
  made = held_.find_missing_state(grads.items);
  auto arena = held_.memory.allocate(made.bytes, "the optimizer's state");
  // Python code may have run: what was looked at before may be something else.
  if (held_.memory.is_elsewhere()) {
    source_.follow_again(grads);
    work_.gather(grads.items, pieces);
  }
  work_.plan().reserve_coefficients(held_.parameters.count());
  held_.make(made, std::move(arena));
  work_.gather(grads.items, pieces);
}

// Where the GIL will be released: another thread may empty the caller's list then.
void Stepper::keep(const GivenGradients& grads, Kept& kept) {
  if (!releases_gil(work_.plan().elements())) return;
  PyObject* const* const given = PySequence_Fast_ITEMS(grads.given.ptr());
  kept.objects.reserve(held_.parameters.count());
  for (std::size_t i = 0; i < held_.parameters.count(); ++i) {
    kept.objects.push_back(reference_to(given[i]));
  }
  if (!source_.has_foreign()) kept.is_all = true;
}

void Stepper::move_ahead(const std::vector<double>& momenta) {
  mutex_.require_outside("lookahead()");
  const std::scoped_lock lock(mutex_);
  elsewhere_.move_ahead(held_, momenta);
}

void Stepper::move_to_averages() {
  mutex_.require_outside("swap_ema()");
  const std::scoped_lock lock(mutex_);
  elsewhere_.move_to_averages(held_);
}

void Stepper::move_back() {
  const std::scoped_lock lock(mutex_);
  elsewhere_.move_back(held_);
}

py::tuple Stepper::state(py::ssize_t index) {
  const std::scoped_lock lock(mutex_);
  const auto i = static_cast<std::size_t>(index);
  if (i >= held_.parameters.count()) throw py::index_error("state: there is no such parameter");
  held_.require_usable_state();
  const Parameter& p = held_.parameters[i];
  return py::make_tuple(held_.steps[i], held_.states.of(i, p.dtype, p.shape));
}

// New ones over the memory of other libraries' arrays.
py::list Stepper::arrays() {
  const std::scoped_lock lock(mutex_);
  const StepMutex::Reentry open(mutex_);
  const Parameters& parameters = held_.parameters;
  py::list arrays;
  for (std::size_t i = 0; i < parameters.count(); ++i) {
    const Parameter& p = parameters[i];
    arrays.append(p.foreign ? numpy_array_over(p.foreign, parameters.names().label("params", i))
                            : p.array);
  }
  return arrays;
}

void Stepper::let_go_of_objects() {
  // What was held is let go of last, as finalizers may look at this.
  const Reference bound = source_.let_go();
  elsewhere_ = {};
  const Holdings held = held_.let_go();
}

}  // namespace fusedopt
