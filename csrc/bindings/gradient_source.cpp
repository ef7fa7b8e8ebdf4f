#include "bindings/gradient_source.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "bindings/gil.hpp"
#include "engine/plan.hpp"

namespace fusedopt {

void GradientSource::throw_bound_or_not() const {
  if (!bound_.is_none()) {
    throw py::type_error(
        "grads: expected step() without gradients, as they are bound to the optimizer");
  }
  throw py::type_error(std::string("grads: expected ") +
                       (held_.parameters.names().given() ? "a dict or list" : "a list") +
                       " of arrays, got NoneType, and none were bound to the optimizer as grads= "
                       "when it was made");
}

void GradientSource::zero() {
  if (bound_.is_none()) {
    throw std::runtime_error(
        "zero_grad(): no gradients are bound to the optimizer; give them as grads= when you make "
        "it");
  }
  GivenGradients given;
  given.given = bound_;
  find_items(given);
  translator_.translate_all(given, held_.parameters);
  translator_.follow_again(given, held_.parameters);
  const std::vector<Stepped> stepped = stepped_in(given, held_.parameters);
  require_writeable(stepped, held_.parameters);
  require_writeable_cast(given, held_.writable);
  Plan work;
  for (const auto& [i, grad] : stepped) {
    const Parameter& p = held_.parameters[i];
    const ConfiguredRule& any = held_.groups.front().rule.rule();
    work.add(any.kernel(p.dtype), 0, p.size).streams[1] = data_of(grad);
  }
  run_for(work.elements(), [&work] { work.zero_gradients(); }, !has_foreign());
  zero_cast(given);
}

// What can run Python code, or let other threads run, comes first: what is looked at last is what
// is. Whoever holds on to a library's memory may let go of the GIL meanwhile; as that takes a
// microsecond each, it is for large work.
void GradientSource::look_at_foreign(GivenGradients& grads, Kept& kept) {
  Parameters& parameters = held_.parameters;
  bool is_quiet = translator_.translate_all(grads, parameters);
  const std::size_t count = parameters.count();
  const std::int64_t elements = parameters.elements();
  const auto each = elements / static_cast<std::int64_t>(std::max<std::size_t>(count, 1));
  const bool holds = elements >= (std::int64_t(1) << 20) && each >= 16384;
  std::vector<const void*> held_params(holds ? count : 0), held_grads(holds ? count : 0);
  if (holds) {
    grads.given = py::tuple(grads.given);  // another thread may empty a list
    PyObject* const* const given = PySequence_Fast_ITEMS(grads.given.ptr());
    if (!translator_.has_translated(grads)) grads.items = given;
    for (std::size_t i = 0; i < count; ++i) {
      held_params[i] = kept.memory.own(parameters.given(i));
      held_grads[i] = kept.memory.own(given[i]);
    }
    is_quiet = false;
  }
  is_quiet &= parameters.follow();
  // No Python code and no other thread runs from here on.
  if (!is_quiet) translator_.follow_again(grads, parameters);
  for (std::size_t i = 0; i < held_params.size(); ++i) {
    const bool moved = (held_params[i] && held_params[i] != data_of(parameters[i].array)) ||
                       (held_grads[i] && held_grads[i] != data_of(grads.items[i]) &&
                        translator_.stands_in(grads, i));
    if (moved) {
      throw std::runtime_error(parameters.names().label("params", i).text() +
                               ": another thread has put it, or its gradient, elsewhere just now; "
                               "nothing was updated");
    }
  }
  kept.is_all = holds;
}

}  // namespace fusedopt
