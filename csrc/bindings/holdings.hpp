// What an optimizer holds: parameters, in groups with a rule each, their state and step counts.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "bindings/adopted_state.hpp"
#include "bindings/live_rule.hpp"
#include "bindings/native_type.hpp"
#include "bindings/parameters.hpp"
#include "bindings/state_memory.hpp"
#include "bindings/states.hpp"
#include "bindings/step_counts.hpp"
#include "bindings/writable_memory.hpp"

namespace fusedopt {

// Parameters with hyperparameters of their own: a group of Python's, or what was added to one.
struct Group {
  std::size_t of;           // which one
  std::size_t first, last;  // its parameters, but for last
  LiveRule rule;
  States::Selection states = {};
  std::optional<std::size_t> average = {};  // where among the states
};

// Such as they are given. names: a tuple of str, or None where no parameter has a name; of: none,
// if they are another group of Python's.
struct NewGroup {
  py::list params;
  py::object names;
  GroupRule rule;
  std::optional<WrittenValues> written;
  std::optional<std::size_t> of;
};

// Each part is a class with an order of its own, for whoever lays out work or steps to read and
// use; what concerns several of them at once is a function here.
struct Holdings {
  // allocate: see StateMemory.
  explicit Holdings(py::object allocate) : memory(std::move(allocate)) {}

  StateMemory memory;
  Parameters parameters;
  std::vector<Group> groups;
  States states;
  AdoptedState adopted;
  StepCounts steps;
  std::int64_t completed_steps = 0;
  WritableMemory writable;
  // How often anything has changed that work which was laid out rests on.
  std::uint64_t changes = 0;

  // Throws where an array can't be updated in place, or check() does, when all else is done, and
  // changes nothing then.
  void add(NewGroup group, const std::function<void()>& check);
  // How many groups Python has.
  std::size_t count_of_groups() const;
  const Group& group_of(std::size_t parameter) const {
    return *std::ranges::upper_bound(groups, parameter, {}, &Group::last);
  }

  // Puts other arrays in the place of some parameters, by index, which keep their state. Throws
  // where one isn't like the one before, or overlaps another, or check() does, and changes nothing
  // then. The arrays of before are in `others` afterwards, to be let go of.
  using Others = std::vector<std::pair<std::size_t, Parameter>>;
  void rebind(Others& others, const std::function<void()>& check);

  // A group's rule and hyperparameters from the next step on, and what they were made of.
  void configure(Group& group, const GroupRule& rule, const std::optional<py::tuple>& made_of);
  // Throws where a number of theirs isn't finite in the group's dtypes.
  void require_finite(const Group& group, const ConfiguredRule& rule) const;

  // Throws where there is state that can't be updated any more.
  void require_usable_state() const { adopted.require_usable(parameters, states); }

  // Parameters are the user's arrays, who can resize them, freeze them or change their shape.
  // Throws where a kernel can't go along with that. From here on all addresses are those of now.
  template <typename IsUpdated>
  void look_at_parameters(const IsUpdated& is_updated);
  // Looks at them again, also where other libraries' are now; those that have a partner are about
  // to be written. May run Python code first.
  void look_at_those_with(const std::vector<char*>& partners);

  // Whether all of a parameter's arrays but the gradient lie behind those of the one before.
  bool follows_previous(const Group& group, std::size_t i) const;

  // State that a step with these gradients needs and that doesn't exist.
  States::Missing find_missing_state(PyObject* const* grads) const;
  // Makes it, in that memory, and as if it had never been.
  void make(States::Missing& missing, std::shared_ptr<Arena> arena);
  void unmake(const States::Missing& made);

  // Those that have a gradient have taken a step more; or all, as at the step before.
  void count_step(PyObject* const* grads);
  void count_step_again() {
    for (std::size_t i = 0; i < parameters.count(); ++i) ++steps[i];
  }

  void visit(Visitor& visitor) const;
  // From here on there is nothing. What there was.
  Holdings let_go();
};

template <typename IsUpdated>
void Holdings::look_at_parameters(const IsUpdated& is_updated) {
  const std::size_t count = parameters.count();
  std::size_t same = 0;
  while (same < count && parameters.is_unchanged(same, is_updated(same))) ++same;
  if (same == count) return;
  for (std::size_t i = 0; i < count; ++i) parameters.require_usable(i, is_updated(i));
  ++changes;
  writable.find(parameters);
}

}  // namespace fusedopt
