#include "bindings/foreign.hpp"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace fusedopt {
namespace {

// Types that have an exchange API: there are few, as torch's Tensor and Parameter, and subclasses.
// They stay, also at the interpreter's end.
struct KnownType {
  PyTypeObject* type;
  const dlpack::ExchangeApi* api;
};
std::vector<KnownType> known_types;

// What other libraries have for whoever asks; null without an error where they haven't.
Reference attribute_of(py::handle object, const char* name) {
  Reference found = py::reinterpret_steal<py::object>(
      call_python([=] { return PyObject_GetAttrString(object.ptr(), name); }));
  if (!found) {
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) throw py::error_already_set();
    PyErr_Clear();
  }
  return found;
}

const dlpack::ExchangeApi* find_exchange_api(PyTypeObject* type) {
  const Reference capsule =
      attribute_of(reinterpret_cast<PyObject*>(type), "__dlpack_c_exchange_api__");
  if (!capsule || !PyCapsule_IsValid(capsule.ptr(), dlpack::exchange_api_name)) return nullptr;
  const auto* api = static_cast<const dlpack::ExchangeApi*>(
      PyCapsule_GetPointer(capsule.ptr(), dlpack::exchange_api_name));
  while (api && api->version.major > dlpack::major_version) api = api->older;
  return api && api->version.major == dlpack::major_version ? api : nullptr;
}

[[noreturn]] void throw_unreadable(py::handle object, const Label& label, const std::string& why) {
  throw py::type_error(label.text() + ": expected an array in main memory, got " +
                       type_name(object) + why);
}

// What Python's exception says, in one line, as the end of an error of ours.
std::string reason_of(const py::error_already_set& error) {
  std::string text = py::cast<std::string>(py::str(error.value()));
  text = text.substr(0, text.find('\n'));
  return text.empty() ? "" : ": " + text;
}

void require_cpu(py::handle object, const Label& label) {
  const Reference ask = attribute_of(object, "__dlpack_device__");
  if (!ask) return;
  try {
    const py::tuple device = ask();
    if (device[0].cast<int>() == dlpack::cpu) return;
  } catch (const py::error_already_set& error) {
    if (!error.matches(PyExc_Exception)) throw;
    throw_unreadable(object, label, reason_of(error));
  }
  const Reference device = attribute_of(object, "device");
  throw_unreadable(object, label,
                   " on another device" +
                       (device ? ", " + py::cast<std::string>(py::str(device)) : std::string()));
}

// Of an object that has no exchange API, by its own methods.
Reference by_dlpack_method(py::handle object, const Label& label) {
  require_cpu(object, label);
  try {
    return py::module_::import("numpy").attr("from_dlpack")(object);
  } catch (const py::error_already_set& error) {
    if (!error.matches(PyExc_Exception)) throw;
    throw_unreadable(object, label, ", which can't be read" + reason_of(error));
  }
}

int numpy_type(const dlpack::DataType& dtype, bool any_floating = false) {
  if (dtype.lanes != 1) return -1;
  if (any_floating && dtype.bits == 16) {
    if (dtype.code == dlpack::bfloat) return NPY_UINT16;
    if (dtype.code == dlpack::floating) return NPY_HALF;
  }
  if (dtype.code != dlpack::floating) return -1;
  return dtype.bits == 32 ? NPY_FLOAT : dtype.bits == 64 ? NPY_DOUBLE : -1;
}

// Whether it has this shape and is C-contiguous.
bool is_laid_out(const dlpack::Tensor& tensor, Shape shape) {
  if (tensor.ndim != static_cast<std::int64_t>(shape.size())) return false;
  bool contiguous = true;
  std::int64_t expected = 1;
  for (std::size_t k = shape.size(); k-- > 0;) {
    const std::int64_t size = tensor.shape[k];
    if (size != shape[k]) return false;
    if (tensor.strides && size != 1 && tensor.strides[k] != expected) contiguous = false;
    expected *= size;
  }
  return contiguous || expected == 0;
}

// Where an array lies that has no element, or that nobody has looked at yet.
char* nowhere() {
  alignas(64) static char place[64];
  return place;
}

char* begin_of(const dlpack::Tensor& tensor) {
  return static_cast<char*>(tensor.data) + tensor.byte_offset;
}

bool has_memory(const dlpack::Tensor& tensor) {
  return tensor.data ||
         std::find(tensor.shape, tensor.shape + tensor.ndim, 0) != tensor.shape + tensor.ndim;
}

void delete_tensor(dlpack::ManagedTensor* tensor) {
  if (tensor->deleter) call_python([tensor] { tensor->deleter(tensor); });
}

// torch's functions hold on to a tensor, not to the memory that it lies in just now, which
// `tensor.data = other` lets go of. An alias that nobody else has does; who has none is taken at
// its word. Not detach(), which lets go of the GIL: another thread could be replacing what it
// reads.
Reference alias_of(py::handle object) {
  const Reference alias = attribute_of(object, "data");
  return alias && exchange_api_of(alias) ? alias : reference_to(object);
}

constexpr const char* owner_name = "fusedopt.foreign_memory";

FloatingArray by_exchange_api(py::handle object, const dlpack::ExchangeApi& api, const Label& label,
                              bool any_floating) {
  const Reference alias = alias_of(object);
  dlpack::ManagedTensor* managed = nullptr;
  if (call_python([&] { return api.own(alias.ptr(), &managed); }) != 0 || !managed) {
    throw_unreadable(object, label, PyErr_Occurred() ? reason_of(py::error_already_set()) : "");
  }
  const py::capsule owner(managed, owner_name, [](PyObject* capsule) {
    delete_tensor(static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule, owner_name)));
  });
  const dlpack::Tensor& tensor = managed->tensor;
  if (tensor.device.type != dlpack::cpu) {
    require_cpu(object, label);
    throw_unreadable(object, label, " on another device");
  }
  const int type = numpy_type(tensor.dtype, any_floating);
  if (type < 0) {
    const Reference dtype = attribute_of(object, "dtype");
    throw py::type_error(label.text() + ": expected dtype float32 or float64, got " +
                         (dtype ? py::cast<std::string>(py::str(dtype)) : "another"));
  }
  if (!has_memory(tensor)) throw_unreadable(object, label, " without memory");
  const int flags = (managed->flags & dlpack::read_only) != 0 ? 0 : NPY_ARRAY_WRITEABLE;
  const auto ndim = static_cast<std::size_t>(tensor.ndim);
  std::vector<npy_intp> shape(tensor.shape, tensor.shape + ndim), strides;
  const npy_intp bytes = tensor.dtype.bits / 8;
  for (std::size_t k = 0; tensor.strides && k < ndim; ++k) {
    strides.push_back(tensor.strides[k] * bytes);
  }
  char* const begin = tensor.data ? begin_of(tensor) : nowhere();
  return {array_at(begin, type, shape, flags, owner, strides.empty() ? nullptr : strides.data()),
          type == NPY_UINT16};
}

}  // namespace

const dlpack::ExchangeApi* known_exchange_api_of(py::handle object) {
  PyTypeObject* const type = Py_TYPE(object.ptr());
  for (const KnownType& known : known_types) {
    if (known.type == type) return known.api;
  }
  return nullptr;
}

const dlpack::ExchangeApi* exchange_api_of(py::handle object) {
  if (const dlpack::ExchangeApi* known = known_exchange_api_of(object)) return known;
  PyTypeObject* const type = Py_TYPE(object.ptr());
  const dlpack::ExchangeApi* api = find_exchange_api(type);
  if (!api) return nullptr;
  known_types.push_back({type, api});
  Py_INCREF(type);
  return api;
}

bool is_foreign(py::handle object) {
  if (object.is_none() || PyArray_Check(object.ptr())) return false;
  return exchange_api_of(object) || attribute_of(object, "__dlpack__");
}

Reference numpy_array_over(py::handle object, const Label& label) {
  const dlpack::ExchangeApi* api = exchange_api_of(object);
  return api ? by_exchange_api(object, *api, label, false).array : by_dlpack_method(object, label);
}

FloatingArray floating_array_over(py::handle object, const Label& label) {
  const dlpack::ExchangeApi* api = exchange_api_of(object);
  if (api) return by_exchange_api(object, *api, label, true);
  return {by_dlpack_method(object, label), false};
}

StandIn::StandIn(DType dtype, Shape shape)
    : array_(array_at(nowhere(), fusedopt::numpy_type(dtype), shape, NPY_ARRAY_CARRAY, {})),
      dtype_(dtype) {}

bool StandIn::follow(py::handle object, const dlpack::ExchangeApi& api) {
  dlpack::Tensor tensor{};
  if (api.look(object.ptr(), &tensor) != 0) {
    PyErr_Clear();  // another look will say what is wrong
    return false;
  }
  if (tensor.device.type != dlpack::cpu ||
      numpy_type(tensor.dtype) != fusedopt::numpy_type(dtype_) ||
      !is_laid_out(tensor, shape_of(array_)) || !has_memory(tensor)) {
    return false;
  }
  char* const begin = begin_of(tensor);
  if (reinterpret_cast<std::uintptr_t>(begin) % item_size(dtype_) != 0) return false;
  // An array without elements may be nowhere, where NumPy's is somewhere.
  if (begin) reinterpret_cast<PyArrayObject_fields*>(array_.ptr())->data = begin;
  return true;
}

OwnedMemory::~OwnedMemory() {
  for (dlpack::ManagedTensor* tensor : tensors_) delete_tensor(tensor);
}

const void* OwnedMemory::own(py::handle object) {
  if (object.is_none() || PyArray_Check(object.ptr()) || !exchange_api_of(object)) return nullptr;
  const Reference alias = alias_of(object);
  const dlpack::ExchangeApi* const api = exchange_api_of(alias);
  tensors_.reserve(tensors_.size() + 1);
  dlpack::ManagedTensor* managed = nullptr;
  if (!api || api->own(alias.ptr(), &managed) != 0 || !managed) {
    if (PyErr_Occurred()) throw py::error_already_set();
    throw py::value_error("step(): memory of " + type_name(object) + " can't be kept where it is");
  }
  tensors_.push_back(managed);
  return managed->tensor.data ? begin_of(managed->tensor) : nowhere();
}

}  // namespace fusedopt
