#include "bindings/gradients.hpp"

#include <string>

#include "bindings/foreign.hpp"
#include "bindings/gil.hpp"

namespace fusedopt {

namespace {

// The values of a dict, for exactly the names that parameters have. The tuple holds references:
// looking up a name can run a key's own __eq__, which could drop what was found before.
Reference values_by_name(const py::dict& grads, const ParameterNames& names) {
  if (!names.given()) {
    throw py::type_error("grads: expected a list, as params was given, got a dict");
  }
  const Reference found = py::tuple(names.count());
  for (std::size_t i = 0; i < names.count(); ++i) {
    PyObject* value = call_python([&] { return PyDict_GetItemWithError(grads.ptr(), names[i]); });
    if (value) {
      PyTuple_SET_ITEM(found.ptr(), static_cast<py::ssize_t>(i), Py_NewRef(value));
      continue;
    }
    if (PyErr_Occurred()) throw py::error_already_set();
    throw py::value_error(names.label("grads", i).text() +
                          ": missing; expected an array or None for " +
                          names.label("params", i).text());
  }
  if (grads.size() != names.count()) {
    // Over a copy of the keys, for the same reason.
    const auto keys = py::reinterpret_steal<py::list>(PyDict_Keys(grads.ptr()));
    for (const py::handle key : keys) {
      if (names.contains(key)) continue;
      const Reference text = result_of([key] { return PyObject_Repr(key.ptr()); });
      throw py::value_error("grads[" + py::cast<std::string>(text) +
                            "]: there is no parameter of that name");
    }
  }
  return found;
}

}  // namespace

bool ParameterNames::contains(py::handle name) const {
  const int found = call_python([&] { return PyDict_Contains(indices_.ptr(), name.ptr()); });
  if (found < 0) throw py::error_already_set();
  return found == 1;
}

ParameterNames ParameterNames::followed_by(const py::object& names, std::size_t parameters) const {
  if (names.is_none()) return {py::none(), count_ + parameters};
  return {given() ? py::object(names_ + names) : names, 0};
}

ParameterNames ParameterNames::first(std::size_t count) const {
  if (!given()) return {py::none(), count};
  return {names_[py::slice(0, static_cast<py::ssize_t>(count), 1)], 0};
}

Reference list_of(py::handle sequence) {
  PyObject* object = sequence.ptr();
  return result_of([object] { return PySequence_List(object); });
}

Reference as_list_or_tuple(py::handle grads, const ParameterNames& names) {
  PyObject* object = grads.ptr();
  if (is_list_or_tuple(grads)) return reference_to(grads);
  if (PyDict_Check(object)) return values_by_name(py::reinterpret_borrow<py::dict>(grads), names);
  const auto has_keys = [object] { return PyObject_HasAttrString(object, "keys"); };
  if (PyMapping_Check(object) && call_python(has_keys)) {
    auto* const dict = reinterpret_cast<PyObject*>(&PyDict_Type);
    return values_by_name(result_of([=] { return PyObject_CallOneArg(dict, object); }), names);
  }
  const bool is_array = PyArray_Check(object) || is_foreign(grads);
  if (is_array || PyUnicode_Check(object) || !PySequence_Check(object)) {
    const char* expected = names.given() ? "a dict or list of arrays" : "a list of arrays";
    const char* hint = is_array ? "; for one array, write [array]" : "";
    throw py::type_error(std::string("grads: expected ") + expected + ", got " + type_name(grads) +
                         hint);
  }
  return list_of(grads);
}

PyObject* const* items_of(py::handle list_or_tuple, const ParameterNames& names) {
  const auto count = static_cast<std::size_t>(PySequence_Fast_GET_SIZE(list_or_tuple.ptr()));
  if (count != names.count()) {
    throw py::value_error("grads: expected " + quantity(names.count(), "gradient") +
                          ", one for each parameter, got " + std::to_string(count));
  }
  return PySequence_Fast_ITEMS(list_or_tuple.ptr());
}

}  // namespace fusedopt
