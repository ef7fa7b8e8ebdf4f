#define FUSEDOPT_IMPORTS_NUMPY
#include "bindings/arrays.hpp"

#include "bindings/gil.hpp"

namespace fusedopt {
namespace {

std::string text_of(py::handle object) { return py::cast<std::string>(py::str(object)); }

std::string text_of(Shape shape) {
  py::tuple numbers(shape.size());
  for (std::size_t k = 0; k < shape.size(); ++k) numbers[k] = py::int_(shape[k]);
  return text_of(numbers);
}

const char* name_of(DType dtype) { return dtype == DType::float32 ? "float32" : "float64"; }

[[noreturn]] void throw_type(const Label& label, const std::string& what) {
  throw py::type_error(label.text() + ": " + what);
}
[[noreturn]] void throw_value(const Label& label, const std::string& what) {
  throw py::value_error(label.text() + ": " + what);
}

// Masks have no meaning to a kernel; going over them would update what the mask hides. Runs no
// Python code, as an import or an attribute could: callers hold borrowed references.
bool is_masked(py::handle object) {
  if (PyArray_CheckExact(object.ptr())) return false;
  PyObject* module = PyDict_GetItemString(PyImport_GetModuleDict(), "numpy.ma");
  if (!module || !PyModule_Check(module)) return false;  // nobody has made one
  PyObject* type = PyDict_GetItemString(PyModule_GetDict(module), "MaskedArray");
  return type && PyType_Check(type) &&
         PyType_IsSubtype(Py_TYPE(object.ptr()), reinterpret_cast<PyTypeObject*>(type)) != 0;
}

void require_array(py::handle object, const Label& label) {
  if (!PyArray_Check(object.ptr())) {
    throw_type(label, "expected a NumPy array, got " + type_name(object));
  }
  if (is_masked(object)) {
    throw_type(label, "expected a plain NumPy array, got a masked array");
  }
}

// -1 where the dtype is neither float32 nor float64 in this machine's byte order.
int dtype_number(py::handle array) {
  const PyArray_Descr* descr = PyArray_DESCR(as_array(array));
  if (!PyArray_ISNBO(descr->byteorder)) return -1;
  for (const DType dtype : {DType::float32, DType::float64}) {
    if (descr->type_num == numpy_type(dtype)) return static_cast<int>(dtype);
  }
  return -1;
}

std::string dtype_text(py::handle array) {
  PyArray_Descr* descr = PyArray_DESCR(as_array(array));
  const auto dtype = py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(descr));
  if (PyArray_ISNBO(descr->byteorder)) return text_of(dtype);
  return "byte-swapped " + text_of(dtype.attr("newbyteorder")("=")) + " (" + text_of(dtype) + ")";
}

void require_layout(py::handle array, const Label& label, Access access) {
  PyArrayObject* a = as_array(array);
  if (!PyArray_IS_C_CONTIGUOUS(a)) {
    const char* hint = access == Access::read ? "; np.ascontiguousarray makes one" : "";
    throw_value(label, "expected a C-contiguous array, got shape " + text_of(shape_of(array)) +
                           " with strides " +
                           text_of({PyArray_STRIDES(a), shape_of(array).size()}) + hint);
  }
  if (!PyArray_ISALIGNED(a)) {
    throw_value(label, "expected an array aligned to its item size, got a misaligned one");
  }
  if (access == Access::update && !PyArray_ISWRITEABLE(a)) {
    throw_value(label, "expected a writeable array, got a read-only one");
  }
}

py::object new_array(const std::shared_ptr<Arena>& arena, void* data, int type, Shape shape,
                     int flags) {
  using Owner = std::shared_ptr<Arena>;
  py::capsule owner(new Owner(arena), [](void* p) { delete static_cast<Owner*>(p); });
  return array_at(data, type, shape, flags, std::move(owner));
}

}  // namespace

py::object array_at(void* data, int type, Shape shape, int flags, py::object owner,
                    const npy_intp* strides) {
  auto array = py::reinterpret_steal<py::object>(
      PyArray_New(&PyArray_Type, static_cast<int>(shape.size()), shape.data(), type, strides, data,
                  0, flags, nullptr));
  if (!array) throw py::error_already_set();
  // Takes over the reference to the owner, also when it fails.
  if (owner && PyArray_SetBaseObject(as_array(array), owner.release().ptr()) != 0) {
    throw py::error_already_set();
  }
  return array;
}

bool is_plain_subclass(py::handle object) {
  return PyArray_Check(object.ptr()) && !is_masked(object);
}

void import_numpy() {
  if (PyArray_ImportNumPyAPI() < 0) throw py::error_already_set();
}

std::string Label::text() const {
  std::string text(argument);
  if (name) return text + "[" + py::cast<std::string>(py::repr(name)) + "]";
  return index < 0 ? text : text + "[" + std::to_string(index) + "]";
}

DType require_parameter(py::handle object, const Label& label) {
  const DType dtype = require_readable(object, label);
  require_layout(object, label, Access::update);
  return dtype;
}

DType require_readable(py::handle object, const Label& label) {
  require_array(object, label);
  const int dtype = dtype_number(object);
  if (dtype < 0) throw_type(label, "expected dtype float32 or float64, got " + dtype_text(object));
  require_layout(object, label, Access::read);
  return static_cast<DType>(dtype);
}

void require_usable(py::handle object, const Label& label, const Layout& layout, Access access) {
  // Putting an error together runs Python code, which may drop the caller's last reference.
  const Reference held = reference_to(object);
  const bool is_parameter = label.argument == layout.label.argument;
  const std::string like = is_parameter ? " as before" : ", as " + layout.label.text() + " has";
  require_array(object, label);
  if (dtype_number(object) != static_cast<int>(layout.dtype)) {
    throw_type(label, std::string("expected dtype ") + name_of(layout.dtype) + like + ", got " +
                          dtype_text(object));
  }
  if (!is_same(shape_of(object), layout.shape)) {
    throw_value(label, "expected shape " + text_of(layout.shape) + like + ", got " +
                           text_of(shape_of(object)));
  }
  require_layout(object, label, access);
}

void throw_overlap(const std::string& label, const std::string& other) {
  throw py::value_error(label + " overlaps " + other + " in memory; expected separate arrays");
}

std::string quantity(std::size_t count, const char* noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

std::string type_name(py::handle object) {
  const std::string name = Py_TYPE(object.ptr())->tp_name;
  return name.substr(name.rfind('.') + 1);
}

std::shared_ptr<Arena> allocate_arena(std::size_t bytes, const char* purpose) {
  try {
    return std::make_shared<Arena>(bytes);
  } catch (const std::bad_alloc&) {
    PyErr_Format(PyExc_MemoryError, "no memory for %s: %zu bytes", purpose, bytes);
    throw py::error_already_set();
  }
}

py::object array_over(const std::shared_ptr<Arena>& arena, void* data, DType dtype, Shape shape) {
  return new_array(arena, data, numpy_type(dtype), shape, NPY_ARRAY_CARRAY);
}

py::object counts_over(const std::shared_ptr<Arena>& arena, void* data, npy_intp size) {
  return new_array(arena, data, NPY_INT64, {&size, 1}, NPY_ARRAY_CARRAY_RO);
}

}  // namespace fusedopt
