#include "bindings/chosen_work.hpp"

#include <optional>

#include "bindings/step_work.hpp"

namespace fusedopt {

bool ChosenWork::choose(py::handle grads, const Parameters& parameters) {
  chosen_.clear();
  bool by_name = false, by_index = false;
  Py_ssize_t position = 0;
  PyObject *key = nullptr, *grad = nullptr;
  while (PyDict_Next(grads.ptr(), &position, &key, &grad)) {
    std::optional<std::size_t> index;
    if (PyUnicode_CheckExact(key)) {
      index = parameters.names().index_of(key);
      by_name = true;
    } else if (PyLong_CheckExact(key)) {
      int overflow = 0;
      const long number = PyLong_AsLongAndOverflow(key, &overflow);
      if (overflow == 0 && number >= 0) index = static_cast<std::size_t>(number);
      by_index = true;
    }
    if (!index || *index >= parameters.count()) return false;
    if (grad != Py_None) chosen_.push_back({*index, grad, grad});
  }
  return !(by_name && by_index);  // one may be there twice
}

std::vector<Stepped> ChosenWork::stepped() const {
  std::vector<Stepped> stepped;
  stepped.reserve(chosen_.size());
  for (const Chosen& chosen : chosen_) stepped.push_back({chosen.parameter, chosen.grad});
  return stepped;
}

bool ChosenWork::gather(Holdings& held, Translator& translator) {
  Parameters& parameters = held.parameters;
  plan_.clear();
  for (Chosen& chosen : chosen_) {
    const std::size_t i = chosen.parameter;
    if (!parameters.follow_known(i) || !parameters.is_unchanged(i, true)) return false;
    if (!translator.stand_in_for(chosen.grad, i, parameters)) return false;
    const Parameter& p = parameters[i];
    if (!is_usable(chosen.grad, p.dtype, p.shape, Access::read) ||
        held.writable.find_overlap(p, parameters.bindings()[i], data_of(chosen.grad))) {
      return false;
    }
    const Group& group = held.group_of(i);
    const std::size_t coefficients = add_coefficients(plan_, held, group, i);
    if (!add_piece(plan_, held, group, i, chosen.grad, coefficients)) return false;
  }
  return true;
}

}  // namespace fusedopt
