// What a stepper is given: groups of parameters, their rules, and gradients that are bound.
#include <algorithm>
#include <stdexcept>
#include <utility>

#include "bindings/gil.hpp"
#include "bindings/stepper.hpp"

namespace fusedopt {

void Stepper::add_group(const py::list& params, const py::object& names, const GroupRule& rule,
                        py::handle grads, const Updates& updates,
                        std::optional<WrittenValues> written, std::optional<std::size_t> of) {
  const ParameterNames new_names(names, params.size());
  Reference given = py::none();
  if (!grads.is_none()) {
    given = py::tuple(as_list_or_tuple(grads, new_names));
    items_of(given, new_names);
  }
  const std::scoped_lock lock(mutex_);
  elsewhere_.require_home(of ? "add_params()" : "add_param_group()");
  const std::size_t others = count_of_groups();
  if (of.value_or(0) > others) throw py::index_error("of: there is no such group");
  if (!given.is_none() && bound_.is_none()) {
    throw py::value_error("grads: expected None, as the optimizer has no gradients bound to it");
  }
  if (given.is_none() && !bound_.is_none() && params.size() > 0) {
    throw py::value_error("grads: needed, as the optimizer has gradients bound to it");
  }
  const std::size_t before = parameters_.count();
  plan_is_regular_ = false;  // it refers to groups, which may move, even where this fails
  parameters_.add(params, names);
  const std::size_t count = parameters_.count();
  const auto old_arena = steps_arena_;
  std::int64_t* const old_steps = steps_;
  const std::size_t groups = groups_.size();
  try {
    const std::size_t bytes = count * sizeof(std::int64_t);
    const auto arena = allocate_arena(bytes, "step counts");
    auto* steps = static_cast<std::int64_t*>(arena->take_next(bytes));
    std::copy_n(steps_, before, steps);
    states_.resize(count);
    writable_.add(arena, parameters_);
    steps_arena_ = arena;
    steps_ = steps;
    groups_.push_back({.of = of.value_or(others),
                       .first = before,
                       .last = count,
                       .rule = LiveRule(std::move(written))});
    configure(groups_.back(), rule, std::nullopt);
    if (!given.is_none()) {
      const Reference all = bound_ + given;
      require_gradients(all);
      bound_ = all;
    }
  } catch (...) {
    groups_.erase(groups_.begin() + static_cast<std::ptrdiff_t>(groups), groups_.end());
    parameters_.truncate(before);
    translator_.truncate(before);
    states_.resize(before);
    steps_ = old_steps;
    if (steps_arena_ != old_arena) {
      writable_.remove(std::exchange(steps_arena_, old_arena), parameters_);
    }
    throw;
  }
  if (old_arena) writable_.remove(old_arena, parameters_);
  bring_up_to_date(updates);
}

void Stepper::rebind(const std::vector<std::pair<std::size_t, py::object>>& arrays,
                     const Updates& updates) {
  std::vector<std::pair<std::size_t, Parameter>> others;  // let go of after the lock
  const std::scoped_lock lock(mutex_);
  elsewhere_.require_home("rebind()");
  for (const auto& [i, array] : arrays) {
    if (i >= parameters_.count()) throw py::index_error("rebind(): there is no such parameter");
    others.emplace_back(i, parameters_.replacement(i, array));
  }
  plan_is_regular_ = false;
  const auto exchange = [&] {
    for (auto& [i, other] : others) parameters_.exchange(i, other);
  };
  exchange();
  try {
    parameters_.follow();
    writable_.find(parameters_);
    if (!bound_.is_none()) require_gradients(bound_);
  } catch (...) {
    exchange();
    writable_.find(parameters_);
    throw;
  }
  bring_up_to_date(updates);
}

void Stepper::configure(std::size_t group, const GroupRule& rule,
                        const std::optional<py::tuple>& made_of) {
  const std::scoped_lock lock(mutex_);  // a step on another thread may read what this writes
  configure(groups_.at(group), rule, made_of);
}

void Stepper::configure(Group& g, const GroupRule& next, const std::optional<py::tuple>& made_of) {
  const auto& [rule, ema_decay] = next;
  require_finite(g, rule);
  g.states = states_.select(rule.info->states);
  plan_is_regular_ &=
      rule.info == g.rule.rule().info && ema_decay.has_value() == g.average.has_value();
  g.average.reset();
  if (ema_decay) g.average = states_.index_of("ema");
  bool in_float32 = false;
  for (std::size_t i = g.first; i < g.last; ++i) {
    in_float32 |= parameters_[i].dtype == DType::float32;
  }
  g.rule.configure(next, made_of, in_float32);
}

void Stepper::require_finite(const Group& g, const ConfiguredRule& rule) const {
  for (std::size_t i = g.first; i < g.last; ++i) rule.require_finite(parameters_[i].dtype);
}

void Stepper::bind(py::handle grads) {
  const Reference given = py::tuple(as_list_or_tuple(grads, parameters_.names()));
  const std::scoped_lock lock(mutex_);
  require_gradients(given);
  bound_ = given;
}

// Throws where a step with these would.
void Stepper::require_gradients(const Reference& tuple) {
  GivenGradients given;
  given.given = tuple;
  find_items(given);
  translator_.translate_all(given, parameters_);
  parameters_.follow();
  translator_.follow_again(given, parameters_);
  gather(given.items);
}

void Stepper::zero_grad() {
  const std::scoped_lock lock(mutex_);
  if (bound_.is_none()) {
    throw std::runtime_error(
        "zero_grad(): no gradients are bound to the optimizer; give them as grads= when you make "
        "it");
  }
  GivenGradients given;
  given.given = bound_;
  find_items(given);
  translator_.translate_all(given, parameters_);
  translator_.follow_again(given, parameters_);
  PyObject* const* const grads = given.items;
  require_writeable(grads);
  require_writeable_cast(given, writable_);
  Plan work;
  for (std::size_t i = 0; i < parameters_.count(); ++i) {
    if (grads[i] == Py_None) continue;
    const Parameter& p = parameters_[i];
    work.add(groups_.front().rule.rule().kernel(p.dtype), 0, p.size).streams[1] = data_of(grads[i]);
  }
  run_for(work.elements(), [&work] { work.zero_gradients(); }, !has_foreign());
  zero_cast(given);
}

void Stepper::require_writeable(PyObject* const* grads) const {
  const ParameterNames& names = parameters_.names();
  for (std::size_t i = 0; i < parameters_.count(); ++i) {
    if (grads[i] == Py_None) continue;
    const Parameter& p = parameters_[i];
    if (is_usable(grads[i], p.dtype, p.shape, Access::update)) continue;
    require_usable(grads[i], names.label("grads", i), {p.dtype, p.shape, names.label("params", i)},
                   Access::update);
  }
}

}  // namespace fusedopt
