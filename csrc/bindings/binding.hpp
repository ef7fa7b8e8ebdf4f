// What a step has to look at again for each parameter, in one cache line: a step with a thousand
// small ones takes about as long as reading this.
#pragma once

#include <cstdint>

#include "bindings/arrays.hpp"

namespace fusedopt {

struct alignas(64) Binding {
  PyArrayObject* array = nullptr;  // of the plain array type; null for another, looked at in full
  const char* data = nullptr;      // as of the last step; it may change
  // A gradient that begins in this stretch holds no memory that a step writes.
  std::uintptr_t free_begin = 0, free_bytes = 0;
  const npy_intp* shape = nullptr;  // as it was bound; it may not change
  npy_intp first = 1, second = 1;   // the shape's first two numbers
  int type = 0;                     // NumPy's number for the dtype
  signed char ndim = 0;
  // Whether its arrays but the gradient lie behind those of the parameter before, and whether the
  // present plan has them in one piece, as the gradient does, too.
  bool follows = false;
  bool joined = false;

  void bind(py::handle parameter, DType dtype, Shape its_shape) {
    array = PyArray_CheckExact(parameter.ptr()) ? as_array(parameter) : nullptr;
    type = numpy_type(dtype);
    shape = its_shape.data();
    ndim = static_cast<signed char>(its_shape.size());
    if (its_shape.size() > 0) first = its_shape[0];
    if (its_shape.size() > 1) second = its_shape[1];
  }

  bool is_free(std::uintptr_t gradient) const { return gradient - free_begin < free_bytes; }

  bool has_shape_of(PyArrayObject* other) const {
    if (PyArray_NDIM(other) != ndim) return false;
    const npy_intp* dims = PyArray_DIMS(other);
    if (ndim > 0 && dims[0] != first) return false;
    if (ndim > 1 && dims[1] != second) return false;
    for (int k = 2; k < ndim; ++k) {
      if (dims[k] != shape[k]) return false;
    }
    return true;
  }

  // Whether a kernel can go over both as they are, and the parameter is where it was. True is an
  // answer; false asks for a look in full. Only where there is an array of the plain type, which
  // the caller passes because reading it anew each time costs.
  bool accepts(PyObject* gradient, const PyTypeObject* plain) const {
    if (Py_TYPE(gradient) != plain) return false;
    auto* g = reinterpret_cast<PyArrayObject*>(gradient);
    return PyArray_BYTES(array) == data && has_type(array, type) &&
           (PyArray_DESCR(g) == PyArray_DESCR(array) || has_type(g, type)) &&
           has_flags(array, Access::update) && has_flags(g, Access::read) && has_shape_of(array) &&
           has_shape_of(g);
  }
};

}  // namespace fusedopt
