// The native half of an optimizer object: what it holds, and the calls that step it, one at a time.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "bindings/chosen_work.hpp"
#include "bindings/elsewhere.hpp"
#include "bindings/gradient_source.hpp"
#include "bindings/holdings.hpp"
#include "bindings/load_state.hpp"
#include "bindings/native_type.hpp"
#include "bindings/step_mutex.hpp"
#include "bindings/step_options.hpp"
#include "bindings/step_work.hpp"
#include "bindings/updates.hpp"

namespace fusedopt {

class Stepper {
 public:
  // allocate: see StateMemory; casts: gradients of other floating dtypes.
  Stepper(py::object allocate, bool casts) : held_(std::move(allocate)), source_(held_, casts) {}
  Stepper(const Stepper&) = delete;
  Stepper& operator=(const Stepper&) = delete;

  // grads: gradients of the new parameters where gradients are bound, else None. Throws where an
  // array can't be updated in place, and changes nothing then.
  void add_group(NewGroup group, py::handle grads, const Updates& updates);

  // Puts other arrays in the place of some parameters, by index, which keep their state. Throws
  // where one isn't like the one before, or overlaps another, and changes nothing then.
  void rebind(const std::vector<std::pair<std::size_t, py::object>>& arrays,
              const Updates& updates);

  // From now on these are the gradients of every step.
  void bind(py::handle grads);
  // They as a tuple, or None.
  py::object bound() const { return source_.bound(); }
  // Fills them with zeros.
  void zero_grad();

  // A group's rule and hyperparameters from the next step on, and what they were made of.
  void configure(std::size_t group, const GroupRule& rule, const std::optional<py::tuple>& made_of);
  // Whether the group's rule is what its hyperparameters mean, whatever step it is.
  bool is_current(std::size_t group) const { return held_.groups.at(group).rule.is_current(); }
  // Throws where a number of theirs isn't finite in the group's dtypes, and changes nothing.
  void check(std::size_t group, const GroupRule& rule) const {
    held_.require_finite(held_.groups.at(group), rule.rule);
  }

  // Puts other state in the place of what there is. Throws where an array doesn't fit its
  // parameter, and changes nothing then.
  void load(const SavedState& saved, const Updates& updates);

  // Between the two other threads wait with their steps, and this one may call what is here. An
  // action that changes what there is can't be meanwhile: throws in its name; null: it only looks.
  void hold(const char* action);
  void let_go() { mutex_.unlock(); }

  // Throws where parameters are elsewhere, in the name of an action that can't be meanwhile.
  void require_home(const char* action) const { elsewhere_.require_home(action); }

  // The same as step(), with the numbers that Python's hyperparameters are now; unless it takes
  // Python to say what these mean: then does nothing and says false. Not between hold() and
  // let_go().
  bool step_if_readable(py::handle grads);
  // So with options: nothing instead of what step_with() returns.
  std::optional<py::tuple> step_with_if_readable(py::handle grads, const StepOptions& options);

  // grads: a list or tuple, or a dict by name, with an array or None for every parameter; None
  // where gradients are bound.
  void step(py::handle grads);

  // The same with options. Returns the gradients' norm and what was measured in each group, if it
  // was asked for, and in between whether nothing was updated because an element isn't finite.
  py::tuple step_with(py::handle grads, const StepOptions& options);

  // A step of some parameters, by index; whether it is one that the optimizer completes.
  using Gradients = std::vector<std::pair<std::size_t, py::object>>;
  void step_some(const Gradients& grads, bool completes);
  py::tuple step_some_with(const Gradients& grads, bool completes, const StepOptions& options);
  // The same of a dict by names or indices, and at the cost of these; unless something is unusual:
  // then does nothing and says false or nothing, as step_if_readable() does.
  bool step_some_if_readable(py::handle grads, bool completes);
  std::optional<py::tuple> step_some_with_if_readable(py::handle grads, bool completes,
                                                      const StepOptions& options);

  // Loads and stores what step() would, over the same pieces on the same threads, and changes
  // nothing: the time that moving memory takes. Gradients must be finite, and state must exist.
  void traffic(py::handle grads);

  // Moves each parameter by so many times its velocity, a number for each group, while all rules
  // have a velocity; and back, bit for bit. Between the two a step is an error.
  void move_ahead(const std::vector<double>& momenta);
  // Exchanges each parameter with its average, where it has one.
  void move_to_averages();
  void move_back();

  // How many steps a parameter has taken, and the state arrays that it has, by name. Waits for a
  // step of another thread: what that makes may not be there to stay.
  py::tuple state(py::ssize_t index);
  std::int64_t completed_steps() const { return held_.completed_steps; }
  // The parameters as NumPy arrays.
  py::list arrays();
  // Steps taken by each parameter: a read-only int64 array, live until a group is added.
  py::object step_counts() const { return held_.steps.array(); }

  // For the garbage collector, which may ask at any time that Python code runs.
  void visit(Visitor& visitor) const {
    held_.visit(visitor);
    source_.visit(visitor);
  }
  // From here on there are no parameters.
  void let_go_of_objects();

 private:
  void require_and_bind(const Reference& tuple);
  bool read_hyperparameters();
  Reference read_once(py::handle grads);
  void require_steppable(const char* action) const;
  template <typename MayBegin>
  bool take_step(py::handle grads, const MayBegin& may_begin);
  template <typename MayBegin>
  std::optional<py::tuple> take_step_with(py::handle grads, const StepOptions& options,
                                          const MayBegin& may_begin);
  void run_step(GivenGradients& given, Kept& kept);
  py::tuple run_step_with(GivenGradients& given, Kept& kept, const StepOptions& options,
                          bool completes);
  py::tuple in_a_tuple(const Gradients& grads) const;
  bool choose_some(py::handle grads);
  bool gather_some(Kept& kept);
  void count_some(bool completes);
  template <typename CheckMore>
  bool prepare(GivenGradients& grads, Kept& kept, States::Missing& made, Pieces pieces,
               const CheckMore& check_more);
  void make_missing_state(const GivenGradients& grads, States::Missing& made, Pieces pieces);
  void keep(const GivenGradients& grads, Kept& kept);
  void count_step(const GivenGradients& grads, bool repeats) {
    repeats ? held_.count_step_again() : held_.count_step(grads.items);
  }
  bool keep_chosen(Kept& kept);

  Holdings held_;
  GradientSource source_;
  Elsewhere elsewhere_;
  StepWork work_{held_};
  ChosenWork some_;
  StepMutex mutex_;
};

}  // namespace fusedopt
