#include "bindings/given_gradients.hpp"

#include <algorithm>

namespace fusedopt {

// Where all are NumPy arrays, None, or such as translate() has stood in for. Runs no Python code.
bool Translator::stand_in_for_all(GivenGradients& gradients, std::size_t count) {
  in_numpy_.resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    PyObject* item = gradients.items[i];
    if (item != Py_None && !stand_in_for(item, i, count)) return false;
    in_numpy_[i] = item;
  }
  gradients.items = in_numpy_.data();
  return true;
}

bool Translator::translate(GivenGradients& gradients, const Parameters& parameters) {
  const std::size_t count = parameters.count();
  PyObject* const* const own = PySequence_Fast_ITEMS(gradients.given.ptr());
  const auto is_numpy = [](PyObject* object) { return object == Py_None || PyArray_Check(object); };
  if (std::all_of(own, own + count, is_numpy)) {
    gradients.items = own;
    return false;
  }
  gradients.given = py::tuple(gradients.given);  // what runs below may change a list
  PyObject* const* const items = PySequence_Fast_ITEMS(gradients.given.ptr());
  in_numpy_.assign(items, items + count);
  py::list made;
  stand_ins_.resize(count);
  bool any = false;
  for (std::size_t i = 0; i < count; ++i) {
    PyObject* const item = items[i];
    if (is_numpy(item) || !is_foreign(item)) continue;
    any = true;
    const Parameter& p = parameters[i];
    StandIn& stand_in = stand_ins_[i];
    if (const dlpack::ExchangeApi* api = exchange_api_of(item)) {
      if (!stand_in) stand_in = StandIn(p.dtype, p.shape);
      if (stand_in.follow(item, *api)) {
        in_numpy_[i] = stand_in.array().ptr();
        continue;
      }
    }
    const Reference array = numpy_array_over(item, parameters.names().label("grads", i));
    made.append(array);
    in_numpy_[i] = array.ptr();
  }
  gradients.made = made;
  gradients.items = in_numpy_.data();
  return any;
}

}  // namespace fusedopt
