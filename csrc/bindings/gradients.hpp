// The gradients of a step as the caller gave them: a sequence, or a dict by parameters' names.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

#include "bindings/arrays.hpp"
#include "bindings/gil.hpp"

namespace fusedopt {

// What the parameters are called: a tuple of str, or None where they have no names.
class ParameterNames {
 public:
  ParameterNames() : ParameterNames(py::none(), 0) {}
  ParameterNames(py::object names, std::size_t parameters)
      : names_(std::move(names)), count_(given() ? py::len(names_) : parameters) {
    for (std::size_t i = 0; given() && i < count_; ++i) indices_[(*this)[i]] = i;
  }
  // These and then those of so many more parameters; and only the first of them.
  ParameterNames followed_by(const py::object& names, std::size_t parameters) const;
  ParameterNames first(std::size_t count) const;

  std::size_t count() const { return count_; }
  bool given() const { return !names_.is_none(); }
  bool contains(py::handle name) const;  // may run Python code
  // Which parameter is called so, by an exact str; none, if there is none.
  std::optional<std::size_t> index_of(PyObject* name) const {
    PyObject* const index = PyDict_GetItemWithError(indices_.ptr(), name);
    if (!index) return std::nullopt;
    return static_cast<std::size_t>(PyLong_AsSsize_t(index));
  }
  PyObject* operator[](std::size_t index) const {
    return PyTuple_GET_ITEM(names_.ptr(), static_cast<py::ssize_t>(index));
  }
  Label label(std::string_view argument, std::size_t index) const {
    return {argument, static_cast<py::ssize_t>(index), given() ? (*this)[index] : nullptr};
  }

 private:
  py::object names_;
  std::size_t count_;
  py::dict indices_;
};

// Whether it is one as Python has them, not a subclass, whose iterator may be another: then reading
// it runs no Python code.
inline bool is_list_or_tuple(py::handle object) {
  return PyList_CheckExact(object.ptr()) || PyTuple_CheckExact(object.ptr());
}

// A new list of what a sequence's iterator gives. May run Python code.
Reference list_of(py::handle sequence);

// The gradients as a list or tuple in the order of the parameters: the caller's own where it is
// one. May run Python code.
Reference as_list_or_tuple(py::handle grads, const ParameterNames& names);

// The items of that list or tuple, borrowed: as many as there are parameters, or an error.
PyObject* const* items_of(py::handle list_or_tuple, const ParameterNames& names);

}  // namespace fusedopt
