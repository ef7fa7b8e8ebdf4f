// The native half of an optimizer object: parameters, their state arrays and step counts, and the
// one call that steps all of them.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/binding.hpp"
#include "bindings/gil.hpp"
#include "bindings/gradients.hpp"
#include "bindings/rules.hpp"
#include "bindings/step_mutex.hpp"
#include "engine/arena.hpp"
#include "engine/overlap.hpp"
#include "engine/plan.hpp"
#include "engine/pointer_filter.hpp"

namespace fusedopt {

class Stepper {
 public:
  // names: a tuple of str, or None where the parameters have no names.
  Stepper(const py::list& params, const py::object& names);

  // The rule and hyperparameters from the next step on.
  void configure(std::string_view rule, const py::dict& hyperparameters);

  // grads: a list or tuple, or a dict by name, with an array or None for every parameter.
  void step(py::handle grads);

  // Loads and stores what step() would, over the same pieces on the same threads, and changes
  // nothing: the time that moving memory takes. Gradients must be finite, and state must exist.
  void traffic(py::handle grads);

  // The state arrays that a parameter has, by name.
  py::dict state(py::ssize_t index) const;
  // Steps taken by each parameter: a live, read-only int64 array.
  py::object step_counts() const;

 private:
  struct Parameter {
    py::object array;
    DType dtype;
    std::vector<npy_intp> shape;  // as it was bound; it may not change
    std::int64_t size;
    bool fresh;  // has state that was made for the step under way

    std::size_t bytes() const { return static_cast<std::size_t>(size) * item_size(dtype); }
  };
  // One state array for each parameter; null until the parameter needs it.
  struct StateArrays {
    std::string name;
    std::vector<char*> data;
    std::vector<std::shared_ptr<Arena>> owners;
  };
  // The coefficients that were folded last for a dtype, and for which step.
  struct Folded {
    StepContext when{};         // no parameter's, as steps count from 1
    std::size_t parameter = 0;  // the first one they are for
    std::size_t index = 0;      // in the plan
  };

  bool refresh(PyObject* const* grads);
  bool gather(PyObject* const* grads);
  bool is_unchanged(std::size_t i, bool updated) const;
  bool is_behind_previous(std::size_t i) const;
  bool follows_previous(std::size_t i) const;
  void find_parameters(PyObject* const* grads);
  void find_writable_memory();
  std::optional<std::size_t> find_overlap(std::size_t i, const void* gradient);
  bool is_apart(PyArrayObject* gradient) const;
  void make_missing_state(PyObject* const* grads);
  std::vector<py::object> keep(PyObject* const* grads) const;
  void count_step(PyObject* const* grads);

  std::vector<Parameter> parameters_;
  std::vector<Binding> bindings_;
  ParameterNames names_;
  std::int64_t elements_ = 0;
  std::shared_ptr<Arena> steps_arena_;
  std::int64_t* steps_;

  ConfiguredRule rule_;
  std::vector<StateArrays> states_;             // all that any rule has asked for
  std::vector<std::size_t> rule_states_;        // those of the present rule, in its order
  std::vector<std::shared_ptr<Arena>> arenas_;  // step counts and state

  DisjointIntervals writable_;  // parameters, by index, then state arenas
  bool parameters_have_owners_ = false;
  PointerFilter parameter_owners_;
  Plan plan_;
  Folded folded_[dtype_count];
  // Whether the next step needs the same plan but for its gradients' addresses: every parameter had
  // a gradient, and those of one dtype were at the same step.
  bool plan_is_regular_ = false;
  StepMutex mutex_;
};

}  // namespace fusedopt
