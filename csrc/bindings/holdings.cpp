#include "bindings/holdings.hpp"

#include <stdexcept>

namespace fusedopt {

void Holdings::add(NewGroup group, const std::function<void()>& check) {
  const std::size_t others = count_of_groups();
  if (group.of.value_or(0) > others) throw py::index_error("of: there is no such group");
  const std::size_t before = parameters.count(), groups_before = groups.size();
  ++changes;  // groups may move in memory, even where this fails
  parameters.add(group.params, group.names);
  const StepCounts steps_before = steps;
  try {
    states.resize(parameters.count());
    StepCounts more(steps, parameters.count());
    writable.exchange(steps.arena(), more.arena(), parameters);
    steps = std::move(more);
    groups.push_back({.of = group.of.value_or(others),
                      .first = before,
                      .last = parameters.count(),
                      .rule = LiveRule(std::move(group.written))});
    configure(groups.back(), group.rule, std::nullopt);
    check();
  } catch (...) {
    groups.erase(groups.begin() + static_cast<std::ptrdiff_t>(groups_before), groups.end());
    parameters.truncate(before);
    states.resize(before);
    if (steps.arena() != steps_before.arena()) {
      const StepCounts given_up = std::exchange(steps, steps_before);
      writable.exchange(given_up.arena(), steps.arena(), parameters);
    }
    throw;
  }
}

std::size_t Holdings::count_of_groups() const {
  std::size_t count = 0;
  for (const Group& g : groups) count = std::max(count, g.of + 1);
  return count;
}

void Holdings::rebind(Others& others, const std::function<void()>& check) {
  ++changes;
  const auto exchange = [&] {
    for (auto& [i, other] : others) parameters.exchange(i, other);
  };
  exchange();
  try {
    parameters.follow();
    writable.find(parameters);
    check();
  } catch (...) {
    exchange();
    writable.find(parameters);
    throw;
  }
}

void Holdings::configure(Group& g, const GroupRule& next, const std::optional<py::tuple>& made_of) {
  const auto& [rule, ema_decay] = next;
  require_finite(g, rule);
  g.states = states.select(rule.info->states);
  if (rule.info != g.rule.rule().info || ema_decay.has_value() != g.average.has_value()) ++changes;
  g.average.reset();
  if (ema_decay) g.average = states.index_of("ema");
  bool in_float32 = false;
  for (std::size_t i = g.first; i < g.last; ++i) {
    in_float32 |= parameters[i].dtype == DType::float32;
  }
  g.rule.configure(next, made_of, in_float32);
}

void Holdings::require_finite(const Group& g, const ConfiguredRule& rule) const {
  for (std::size_t i = g.first; i < g.last; ++i) rule.require_finite(parameters[i].dtype);
}

void Holdings::look_at_those_with(const std::vector<char*>& partners) {
  parameters.follow();
  look_at_parameters([&](std::size_t i) { return partners[i] != nullptr; });
}

bool Holdings::follows_previous(const Group& group, std::size_t i) const {
  const std::size_t bytes = parameters[i - 1].bytes();
  return parameters.is_behind_previous(i) && states.follow_previous(group.states, i, bytes) &&
         (!group.average || states.follow_previous({*group.average}, i, bytes));
}

States::Missing Holdings::find_missing_state(PyObject* const* grads) const {
  States::Missing missing;
  for (const Group& g : groups) {
    states.find_missing(missing, g.rule.rule(), g.states, g.average, parameters, g.first, g.last,
                        grads);
  }
  return missing;
}

void Holdings::make(States::Missing& missing, std::shared_ptr<Arena> arena) {
  writable.add(arena, parameters);
  missing.arena = std::move(arena);
  states.add(missing, parameters);
}

void Holdings::unmake(const States::Missing& made) {
  if (!made.arena) return;
  ++changes;
  states.remove(made, parameters);
  writable.remove(made.arena, parameters);
}

void Holdings::count_step(PyObject* const* grads) {
  for (std::size_t i = 0; i < parameters.count(); ++i) {
    if (grads[i] == Py_None) continue;
    ++steps[i];
    parameters[i].fresh = false;
  }
}

void Holdings::visit(Visitor& visitor) const {
  for (std::size_t i = 0; i < parameters.count(); ++i) {
    visitor(parameters[i].array);
    visitor(parameters[i].foreign);
  }
  for (const Group& g : groups) g.rule.visit(visitor);
  adopted.visit(visitor);
  memory.visit(visitor);
}

Holdings Holdings::let_go() {
  Holdings empty{py::none()};
  empty.changes = changes + 1;
  return std::exchange(*this, std::move(empty));
}

}  // namespace fusedopt
