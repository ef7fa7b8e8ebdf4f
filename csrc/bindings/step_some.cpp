// A step of some parameters, at the cost of these.
#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "bindings/gil.hpp"
#include "bindings/stepper.hpp"

namespace fusedopt {

void Stepper::step_some(const std::vector<std::pair<std::size_t, py::object>>& grads,
                        bool completes) {
  GivenGradients given;  // let go of after the lock: a gradient's finalizer may run then
  Kept kept;
  const std::scoped_lock lock(mutex_);
  elsewhere_.require_home("step_some()");
  memory_.require_own();
  py::tuple all(parameters_.count());
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = py::none();
  for (const auto& [i, grad] : grads) {
    if (i >= all.size()) throw py::index_error("step_some(): there is no such parameter");
    all[i] = grad;
  }
  given.given = all;
  run_step(given, kept);
  if (completes) ++completed_steps_;
}

bool Stepper::step_some_if_readable(py::handle grads, bool completes) {
  mutex_.require_outside("step_some()");
  Kept kept;  // its references are let go of after the lock
  const std::scoped_lock lock(mutex_);
  if (!PyDict_CheckExact(grads.ptr()) || !read_hyperparameters()) return false;
  elsewhere_.require_home("step_some()");
  memory_.require_own();
  require_adopted();
  if (!choose(grads) || !gather_chosen()) return false;
  if (releases_gil(some_.elements())) {
    // To hold on to other libraries' memory is for a look at all.
    if (has_foreign()) return false;
    for (const Chosen& chosen : chosen_) {
      if (chosen.grad != chosen.given) return false;
      kept.objects.push_back(reference_to(chosen.given));
    }
  }
  // From here on nothing can fail.
  for (const Chosen& chosen : chosen_) ++steps_[chosen.parameter];
  if (completes) ++completed_steps_;
  plan_is_regular_ = false;  // parameters are no longer at the same step
  some_.fold();
  run_for(some_.elements(), [this] { some_.run(&Kernel::update); });
  return true;
}

// The parameters that a dict has gradients for, by name, or all by index. False where one isn't
// there. Runs no Python code: keys are exact, and found among exact ones.
bool Stepper::choose(py::handle grads) {
  chosen_.clear();
  bool by_name = false, by_index = false;
  Py_ssize_t position = 0;
  PyObject *key = nullptr, *grad = nullptr;
  while (PyDict_Next(grads.ptr(), &position, &key, &grad)) {
    std::optional<std::size_t> index;
    if (PyUnicode_CheckExact(key)) {
      index = parameters_.names().index_of(key);
      by_name = true;
    } else if (PyLong_CheckExact(key)) {
      int overflow = 0;
      const long number = PyLong_AsLongAndOverflow(key, &overflow);
      if (overflow == 0 && number >= 0) index = static_cast<std::size_t>(number);
      by_index = true;
    }
    if (!index || *index >= parameters_.count()) return false;
    if (grad != Py_None) chosen_.push_back({*index, grad, grad});
  }
  return !(by_name && by_index);  // one may be there twice
}

// Lays out their work. False where anything is unusual, as state that is missing, or wrong: that
// takes a look at all.
bool Stepper::gather_chosen() {
  some_.clear();
  for (Chosen& chosen : chosen_) {
    const std::size_t i = chosen.parameter;
    if (!parameters_.follow_known(i) || !parameters_.is_unchanged(i, true)) return false;
    if (!translator_.stand_in_for(chosen.grad, i, parameters_)) return false;
    const Parameter& p = parameters_[i];
    if (!is_usable(chosen.grad, p.dtype, p.shape, Access::read) ||
        writable_.find_overlap(p, parameters_.bindings()[i], data_of(chosen.grad))) {
      return false;
    }
    const Group& group = *std::ranges::upper_bound(groups_, i, {}, &Group::last);
    if (!add_piece(some_, group, i, chosen.grad, add_coefficients(some_, group, i))) return false;
  }
  return true;
}

}  // namespace fusedopt
