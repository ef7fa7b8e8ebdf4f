// NumPy arrays at the border: what may pass, and what to say about the rest.
#pragma once

#include <pybind11/pybind11.h>

#define NPY_NO_DEPRECATED_API NPY_1_22_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL fusedopt_numpy_api
#ifndef FUSEDOPT_IMPORTS_NUMPY
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "engine/arena.hpp"
#include "kernels/table.hpp"

namespace fusedopt {

namespace py = pybind11;
using Shape = std::span<const npy_intp>;

void import_numpy();

// How an error calls an array: params, params[3] or params['weight']. Text is made only on demand.
struct Label {
  std::string_view argument;
  py::ssize_t index = -1;  // -1: the argument is one array, not a list
  py::handle name = {};    // a str where the parameter has a name
  std::string text() const;
};

enum class Access { read, update };

constexpr std::size_t item_size(DType dtype) { return dtype == DType::float32 ? 4 : 8; }

constexpr int numpy_type(DType dtype) { return dtype == DType::float32 ? NPY_FLOAT : NPY_DOUBLE; }

inline PyArrayObject* as_array(py::handle object) {
  return reinterpret_cast<PyArrayObject*>(object.ptr());
}
inline void* data_of(py::handle array) { return PyArray_DATA(as_array(array)); }
inline Shape shape_of(py::handle array) {
  PyArrayObject* a = as_array(array);
  return {PyArray_DIMS(a), static_cast<std::size_t>(PyArray_NDIM(a))};
}

// Not std::ranges::equal, which calls memcmp: most shapes have one or two numbers.
inline bool is_same(Shape a, Shape b) {
  if (a.size() != b.size()) return false;
  for (std::size_t k = 0; k < a.size(); ++k) {
    if (a[k] != b[k]) return false;
  }
  return true;
}

// What a parameter is, and therefore its gradient and its state must be.
struct Layout {
  DType dtype;
  Shape shape;
  Label label;  // of the parameter
};

// Whether it is an array of a subclass that means nothing special to a kernel, as np.memmap.
bool is_plain_subclass(py::handle object);

// Whether an array is of that type, by NumPy's number, in this machine's byte order.
inline bool has_type(PyArrayObject* array, int type) {
  const PyArray_Descr* descr = PyArray_DESCR(array);
  return descr->type_num == type && PyArray_ISNBO(descr->byteorder);
}

// Whether an array is laid out as kernels need it, and may be written if they will.
inline bool has_flags(PyArrayObject* array, Access access) {
  constexpr int readable = NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED;
  const int wanted = access == Access::update ? readable | NPY_ARRAY_WRITEABLE : readable;
  return (PyArray_FLAGS(array) & wanted) == wanted;
}

// Whether a kernel can work on the array as it is.
inline bool is_usable(py::handle object, DType dtype, Shape shape, Access access) {
  if (!PyArray_CheckExact(object.ptr()) && !is_plain_subclass(object)) return false;
  PyArrayObject* array = as_array(object);
  return has_type(array, numpy_type(dtype)) && has_flags(array, access) &&
         is_same(shape_of(object), shape);
}

// The array that owns an array's memory: itself, or the one that it is a view of; null where that
// is something else. An owner got its memory from an allocator: two of them share nothing.
inline const PyArrayObject* owner_of(PyArrayObject* array) {
  if (PyArray_CHKFLAGS(array, NPY_ARRAY_OWNDATA)) return array;
  PyObject* base = PyArray_BASE(array);
  if (!base || !PyArray_Check(base)) return nullptr;
  auto* viewed = reinterpret_cast<PyArrayObject*>(base);
  return PyArray_CHKFLAGS(viewed, NPY_ARRAY_OWNDATA) ? viewed : nullptr;
}

// The array's dtype, if it is one that parameters may have and the array can be updated in place.
// Throws TypeError or ValueError otherwise, as everything below does.
DType require_parameter(py::handle object, const Label& label);
// The same of one that is only read.
DType require_readable(py::handle object, const Label& label);

// Throws unless is_usable(), and says why it isn't.
void require_usable(py::handle object, const Label& label, const Layout& layout, Access access);

[[noreturn]] void throw_overlap(const std::string& label, const std::string& other);

std::string quantity(std::size_t count, const char* noun);  // "1 array", "2 arrays"
std::string type_name(py::handle object);

// Throws MemoryError, which says what the memory was wanted for.
std::shared_ptr<Arena> allocate_arena(std::size_t bytes, const char* purpose);

// An array over memory that the owner keeps; strides in bytes, if rows don't follow each other.
py::object array_at(void* data, int type, Shape shape, int flags, py::object owner,
                    const npy_intp* strides = nullptr);

// Arrays over arena memory. They keep the arena alive and don't own their data, so NumPy refuses to
// resize them: the address holds for the arena's lifetime.
py::object array_over(const std::shared_ptr<Arena>& arena, void* data, DType dtype, Shape shape);
py::object counts_over(const std::shared_ptr<Arena>& arena, void* data,
                       npy_intp size);  // read-only

}  // namespace fusedopt
