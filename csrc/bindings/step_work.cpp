#include "bindings/step_work.hpp"

namespace fusedopt {
bool StepWork::gather(PyObject* const* grads, Pieces pieces) {
  plan_.clear();
  is_regular_ = false;
  // All of them before any gradient: one may lie where a parameter was.
  held_.look_at_parameters([grads](std::size_t i) { return grads[i] != Py_None; });
  bool complete = true, regular = pieces == Pieces::joined;
  folded_.assign(held_.groups.size(), {});
  std::size_t group_index = 0;
  std::uintptr_t last_distance = 0;
  std::size_t last_coefficients = 0;

  for (std::size_t i = 0; i < held_.parameters.count(); ++i) {
    while (i == held_.groups[group_index].last) ++group_index;
    const Group& group = held_.groups[group_index];
    const Parameter& p = held_.parameters[i];
    Binding& binding = held_.parameters.bindings()[i];
    PyObject* grad = grads[i];
    binding.follows = binding.joined = false;
    regular &= binding.array != nullptr;
    if (grad == Py_None) {
      regular = false;
      continue;
    }
    require_gradient(i, grad);

    // Most parameters are at the same step and share one set of coefficients.
    const std::int64_t step = held_.steps[i] + 1;
    Folded& folded = folded_[group_index][static_cast<std::size_t>(p.dtype)];
    if (folded.step != step || folded.fresh != p.fresh || pieces == Pieces::alone) {
      regular &= folded.step == 0;
      folded = {step, p.fresh, i, add_coefficients(plan_, held_, group, i)};
    }
    // What lies side by side in all streams is one piece of work.
    const std::uintptr_t distance = address(data_of(grad)) - address(binding.data);
    if (i > 0 && grads[i - 1] != Py_None && last_coefficients == folded.index) {
      binding.follows = pieces == Pieces::joined && held_.follows_previous(group, i);
      binding.joined = binding.follows && distance == last_distance;
    }
    last_distance = distance;
    last_coefficients = folded.index;
    if (binding.joined) {
      plan_.extend_last(p.size);
      continue;
    }
    complete &= add_piece(plan_, held_, group, i, grad, folded.index);
  }
  is_regular_ = regular && complete;
  changes_ = held_.changes;
  return complete;
}

// Throws where an array can't be a parameter's gradient.
void StepWork::require_gradient(std::size_t i, py::handle grad) const {
  const ParameterNames& names = held_.parameters.names();
  const Parameter& p = held_.parameters[i];
  if (!is_usable(grad, p.dtype, p.shape, Access::read)) {
    require_usable(grad, names.label("grads", i), {p.dtype, p.shape, names.label("params", i)},
                   Access::read);
  }
  Binding& binding = held_.parameters.bindings()[i];
  if (const auto owner = held_.writable.find_overlap(p, binding, data_of(grad))) {
    throw_overlap(names.label("grads", i).text(), *owner < held_.parameters.count()
                                                      ? names.label("params", *owner).text()
                                                      : "the optimizer's own state");
  }
}

std::size_t add_coefficients(Plan& plan, const Holdings& held, const Group& group, std::size_t i) {
  const Parameter& p = held.parameters[i];
  const ConfiguredRule& rule = group.rule.rule();
  FollowingAverage average;
  if (group.average) average = {&average_kernel(p.dtype), &group.rule.ema_decay()};
  return plan.add_coefficients(rule.kernel(p.dtype), rule.hyperparameters.data(), held.steps[i] + 1,
                               p.fresh, average);
}

bool add_piece(Plan& plan, const Holdings& held, const Group& group, std::size_t i, py::handle grad,
               std::size_t coefficients) {
  const Parameter& p = held.parameters[i];
  Piece& piece = plan.add(group.rule.rule().kernel(p.dtype), coefficients, p.size);
  piece.streams[0] = data_of(p.array);
  piece.streams[1] = data_of(grad);
  bool complete = true;
  for (std::size_t k = 0; k < group.states.size(); ++k) {
    char* state = held.states.data(group.states[k], i);
    complete &= state != nullptr;
    piece.streams[2 + k] = state;
  }
  if (group.average) {
    char* average = held.states.data(*group.average, i);
    complete &= average != nullptr;
    piece.streams[average_stream] = average;
  }
  return complete;
}

}  // namespace fusedopt
