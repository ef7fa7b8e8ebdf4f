// The native half of an optimizer object: parameters, their state arrays and step counts, and the
// one call that steps all of them.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings/elsewhere.hpp"
#include "bindings/given_gradients.hpp"
#include "bindings/live_rule.hpp"
#include "bindings/native_type.hpp"
#include "bindings/parameters.hpp"
#include "bindings/rules.hpp"
#include "bindings/state_memory.hpp"
#include "bindings/states.hpp"
#include "bindings/step_mutex.hpp"
#include "bindings/step_options.hpp"
#include "bindings/writable_memory.hpp"
#include "engine/arena.hpp"
#include "engine/array_scan.hpp"
#include "engine/measures.hpp"
#include "engine/plan.hpp"

namespace fusedopt {

// Dicts of an optimizer's, each with what it is brought up to date by, or lists with their new
// items, at the moment when the native half changes, too: without a line of Python code, which a
// signal could interrupt.
using Updates = std::vector<std::pair<py::object, py::object>>;

class Stepper {
 public:
  // allocate: see StateMemory; casts: gradients of other floating dtypes.
  Stepper(py::object allocate, bool casts) : memory_(std::move(allocate)), translator_(casts) {}

  // Parameters with a rule and hyperparameters of their own. names: a tuple of str, or None where
  // no parameter has a name; grads: gradients of the new parameters where gradients are bound, else
  // None; of: which of Python's groups they are in, another one if none is given. Throws where an
  // array can't be updated in place, and changes nothing then.
  void add_group(const py::list& params, const py::object& names, const GroupRule& rule,
                 py::handle grads, const Updates& updates, std::optional<WrittenValues> written,
                 std::optional<std::size_t> of);

  // Puts other arrays in the place of some parameters, by index, which keep their state. Throws
  // where one isn't like the one before, or overlaps another, and changes nothing then.
  void rebind(const std::vector<std::pair<std::size_t, py::object>>& arrays,
              const Updates& updates);

  // From now on these are the gradients of every step.
  void bind(py::handle grads);
  // They as a tuple, or None.
  py::object bound() const { return bound_; }
  // Fills them with zeros.
  void zero_grad();

  // A group's rule and hyperparameters from the next step on, and what they were made of.
  void configure(std::size_t group, const GroupRule& rule, const std::optional<py::tuple>& made_of);
  // Whether the group's rule is what its hyperparameters mean, whatever step it is.
  bool is_current(std::size_t group) const { return groups_.at(group).rule.is_current(); }
  // Throws where a number of theirs isn't finite in the group's dtypes, and changes nothing.
  void check(std::size_t group, const GroupRule& rule) const {
    require_finite(groups_.at(group), rule.rule);
  }

  // Puts other state in the place of what there is: for each parameter a dict of arrays by name and
  // a number of steps, for each group a rule, and parameters, or None for those that there are.
  // Arrays are copied, or those of state adopted: they are the state from then on. Throws where an
  // array doesn't fit its parameter, and changes nothing then.
  void load(const py::list& states, const std::vector<std::int64_t>& steps,
            std::int64_t completed_steps, const std::vector<GroupRule>& rules,
            const std::optional<std::vector<py::object>>& params, const Updates& updates,
            bool adopts);

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
  void step_some(const std::vector<std::pair<std::size_t, py::object>>& grads, bool completes);
  // The same of a dict by names or indices, and at the cost of these; unless something is unusual:
  // then does nothing and says false, as step_if_readable() does.
  bool step_some_if_readable(py::handle grads, bool completes);

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
  std::int64_t completed_steps() const { return completed_steps_; }
  // The parameters as NumPy arrays.
  py::list arrays();
  // Steps taken by each parameter: a read-only int64 array, live until a group is added.
  py::object step_counts() const;

  // For the garbage collector, which may ask at any time that Python code runs.
  void visit(Visitor& visitor) const;
  // From here on there are no parameters.
  void let_go_of_objects();

 private:
  // What a step reads while other threads run, if they may.
  struct Kept {
    std::vector<Reference> objects;
    OwnedMemory memory;
    bool is_all = false;
  };

  // A parameter that a step of some is for, its gradient, and what stands for that; borrowed.
  struct Chosen {
    std::size_t parameter;
    PyObject *given, *grad;
  };

  // The coefficients that were folded last for a dtype, and for which step.
  struct Folded {
    std::int64_t step = 0;  // no parameter's, as steps count from 1
    bool fresh = false;
    std::size_t parameter = 0;  // the first one they are for
    std::size_t index = 0;      // in the plan
  };

  // Parameters with hyperparameters of their own: a group of Python's, or what was added to one.
  struct Group {
    std::size_t of;           // which one
    std::size_t first, last;  // its parameters, but for last
    LiveRule rule;
    States::Selection states = {};
    std::optional<std::size_t> average = {};  // where among the states
    Folded folded[dtype_count] = {};
  };

  static void bring_up_to_date(const Updates& updates);
  // How many Python has.
  std::size_t count_of_groups() const {
    std::size_t count = 0;
    for (const Group& g : groups_) count = std::max(count, g.of + 1);
    return count;
  }
  bool read_hyperparameters();
  template <typename MayBegin>
  bool take_step(py::handle grads, const MayBegin& may_begin);
  template <typename MayBegin>
  std::optional<py::tuple> take_step_with(py::handle grads, const StepOptions& options,
                                          const MayBegin& may_begin);
  Reference read(py::handle grads) const;
  Reference read_once(py::handle grads);
  void find_items(GivenGradients& grads) const;
  // Whether what lies side by side is one piece of work, or each parameter by itself; that, too,
  // with coefficients of its own, in the order of those that have a gradient.
  enum class Pieces { joined, apart, alone };
  void run_step(GivenGradients& given, Kept& kept);
  bool choose(py::handle grads);
  bool gather_chosen();
  void require_gradient(std::size_t i, py::handle grad);
  std::size_t add_coefficients(Plan& plan, const Group& group, std::size_t i) const;
  bool add_piece(Plan& plan, const Group& group, std::size_t i, py::handle grad,
                 std::size_t coefficients) const;
  template <typename CheckMore>
  bool prepare(GivenGradients& grads, Kept& kept, States::Missing& made, Pieces pieces,
               const CheckMore& check_more);
  void look_at_foreign(GivenGradients& grads, Kept& kept);
  // Whether there are arrays of other libraries, or were at the last look.
  bool has_foreign() const { return parameters_.have_foreign() || translator_.expects(); }
  void require_gradients(const Reference& tuple);
  void require_writeable(PyObject* const* grads) const;
  void require_apart(PyObject* const* grads) const;
  ArrayScan scan_of(PyObject* const* arrays, PyObject* const* grads) const;
  py::list stats_of_groups(const std::vector<Measures::Sums>& sums, double loss_scale) const;
  [[noreturn]] void throw_nonfinite(const ArrayScan& scan) const;
  bool refresh(PyObject* const* grads);
  bool gather(PyObject* const* grads, Pieces pieces = Pieces::joined);
  void configure(Group& group, const GroupRule& rule, const std::optional<py::tuple>& made_of);
  void require_finite(const Group& group, const ConfiguredRule& rule) const;
  void look_at_those_with(const std::vector<char*>& partners);
  template <typename IsUpdated>
  void look_at_parameters(const IsUpdated& is_updated);
  bool follows_previous(const Group& group, std::size_t i) const;
  void make_missing_state(const GivenGradients& grads, States::Missing& missing, Pieces pieces);
  void unmake(const States::Missing& made);
  // An array that is loaded: a state's, or a parameter itself.
  static constexpr std::size_t no_state = std::size_t(-1);
  struct Loaded {
    std::size_t state, parameter;
    Reference array;
  };
  std::vector<Loaded> read_states(const py::list& states);
  // A state's array that is the user's own, and where it lay when it was adopted.
  struct Adopted {
    Reference array;
    const void* data;
    std::size_t state, parameter;
  };
  // Throws where one can no longer be updated there.
  void require_adopted() const {
    for (const Adopted& a : adopted_) {
      if (!is_usable_still(a)) throw_lost(a);
    }
  }
  bool is_usable_still(const Adopted& a) const;
  [[noreturn]] void throw_lost(const Adopted& a) const;
  std::string name_of(const Loaded& loaded) const;
  void require_apart(const std::vector<Loaded>& adopted) const;
  void make_room(const std::vector<Loaded>& loaded, States::Missing& missing) const;
  std::vector<std::shared_ptr<Arena>> adopt(const std::vector<Loaded>& loaded);
  void keep(const GivenGradients& grads, Kept& kept) const;
  void count_step(PyObject* const* grads, bool repeats);

  StateMemory memory_;
  Parameters parameters_;
  States states_;
  std::vector<Adopted> adopted_;
  WritableMemory writable_;
  std::shared_ptr<Arena> steps_arena_;
  std::int64_t* steps_ = nullptr;
  std::int64_t completed_steps_ = 0;

  Reference bound_ = py::none();  // a tuple of gradients, or None
  Elsewhere elsewhere_;

  std::vector<Group> groups_;
  Translator translator_;
  Plan plan_;
  std::vector<Chosen> chosen_;
  Plan some_;  // their work
  // Whether the next step needs the same plan but for its gradients' addresses: every parameter had
  // a gradient, and those of one group and dtype were at the same step.
  bool plan_is_regular_ = false;
  StepMutex mutex_;
};

// Checks everything, and whatever else check_more() does, and lays out the work with all state that
// it needs: `made`, if there was none. Whether the work is that of the step before. Where anything
// throws there is no trace of it.
template <typename CheckMore>
bool Stepper::prepare(GivenGradients& grads, Kept& kept, States::Missing& made, Pieces pieces,
                      const CheckMore& check_more) {
  require_adopted();
  const auto is_refreshed = [&] { return pieces == Pieces::joined && refresh(grads.items); };
  bool repeats = false;
  if (!has_foreign()) {
    repeats = is_refreshed();
    if (!repeats) translator_.translate_unexpected(grads, parameters_);
  }
  if (has_foreign()) {
    look_at_foreign(grads, kept);
    repeats = is_refreshed();
  }
  try {
    if (!repeats && !gather(grads.items, pieces)) make_missing_state(grads, made, pieces);
    keep(grads, kept);
    check_more();
  } catch (...) {
    unmake(made);
    throw;
  }
  return repeats;
}

}  // namespace fusedopt
