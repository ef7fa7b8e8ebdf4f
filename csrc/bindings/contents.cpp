#include "bindings/contents.hpp"

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace py = pybind11;

namespace fusedopt {
namespace {

constexpr int most_levels = 4;

enum class Kind : char { leaf, dict, list };  // a tuple with other items is another tuple

Kind kind_of(PyObject* object) {
  if (PyDict_Check(object)) return Kind::dict;
  if (PyList_Check(object)) return Kind::list;
  return Kind::leaf;
}

// Shows a visitor each object as it is met, which says of what kind it is, and one with others in
// it again behind these; until the visitor has seen enough. No code of Python's runs, so nothing
// changes meanwhile.
template <typename Visitor>
bool walk(PyObject* object, int levels, Visitor& visitor) {
  Kind kind{};
  if (!visitor.meet(object, levels, kind)) return false;
  switch (kind) {
    case Kind::leaf:
      return true;
    case Kind::dict: {
      PyObject* key = nullptr;
      PyObject* value = nullptr;
      for (Py_ssize_t place = 0; PyDict_Next(object, &place, &key, &value);) {
        if (!visitor.pass(key) || !walk(value, levels - 1, visitor)) return false;
      }
      break;
    }
    case Kind::list:
      for (Py_ssize_t k = 0; k < PyList_GET_SIZE(object); ++k) {
        if (!walk(PyList_GET_ITEM(object, k), levels - 1, visitor)) return false;
      }
      break;
  }
  return visitor.pass(object);
}

// Held from here on, as asking for memory may collect garbage.
class Collector {
 public:
  bool meet(PyObject* object, int levels, Kind& kind) {
    kind = levels == 0 ? Kind::leaf : kind_of(object);
    return note(object, kind);
  }
  bool pass(PyObject* object) { return note(object, Kind::leaf); }

  py::tuple result() {
    py::tuple items(found_.size() + 1);
    items[0] = py::bytes(kinds_);
    for (std::size_t k = 0; k < found_.size(); ++k) items[k + 1] = std::move(found_[k]);
    return items;
  }

 private:
  bool note(PyObject* object, Kind kind) {
    found_.push_back(py::reinterpret_borrow<py::object>(object));
    kinds_.push_back(static_cast<char>(kind));
    return true;
  }

  std::vector<py::object> found_;
  std::string kinds_;
};

// What lies in no other is compared by its address, and not read: with a thousand parameters that
// would be thousands of cache misses.
class Comparer {
 public:
  explicit Comparer(const py::tuple& contents)
      : items_(contents.ptr()),
        kinds_(PyBytes_AS_STRING(PyTuple_GET_ITEM(items_, 0))),
        size_(PyTuple_GET_SIZE(items_)) {
    for (Py_ssize_t place = 1; place < far; ++place) fetch_dict(place);
    for (Py_ssize_t place = 1; place < near; ++place) fetch_keys(place);
  }

  bool meet(PyObject* object, int, Kind& kind) {
    if (!pass(object)) return false;
    kind = static_cast<Kind>(kinds_[place_ - 2]);
    return true;
  }
  bool pass(PyObject* object) {
    fetch_dict(place_ + far);
    fetch_keys(place_ + near);
    return place_ < size_ && PyTuple_GET_ITEM(items_, place_++) == object;
  }
  bool is_at_end() const { return place_ == size_; }

 private:
  // Reads what is compared soon: of a dict two stretches of memory, one after the other.
  void fetch_dict(Py_ssize_t place) const {
    if (place < size_ && is_dict(place)) fetch(PyTuple_GET_ITEM(items_, place));
  }
  void fetch_keys(Py_ssize_t place) const {
    if (place >= size_ || !is_dict(place)) return;
    const auto* dict = reinterpret_cast<PyDictObject*>(PyTuple_GET_ITEM(items_, place));
    const auto* keys = reinterpret_cast<const char*>(dict->ma_keys);
    for (int line = 0; line < 3; ++line) fetch(keys + 64 * line);
  }
  static void fetch([[maybe_unused]] const void* address) {
#ifdef __GNUC__
    __builtin_prefetch(address);
#endif
  }
  bool is_dict(Py_ssize_t place) const { return kinds_[place - 1] == char(Kind::dict); }

  static constexpr Py_ssize_t far = 80, near = 40;  // in items; there are nine for each of Adam's

  PyObject* items_;
  const char* kinds_;
  Py_ssize_t size_;
  Py_ssize_t place_ = 1;
};

}  // namespace

py::tuple contents(py::handle owner) {
  Collector collector;
  walk(owner.ptr(), most_levels, collector);
  return collector.result();
}

bool has_contents(py::handle owner, const py::tuple& contents) {
  if (contents.empty() || !PyBytes_Check(PyTuple_GET_ITEM(contents.ptr(), 0)) ||
      PyBytes_GET_SIZE(PyTuple_GET_ITEM(contents.ptr(), 0)) + 1 !=
          PyTuple_GET_SIZE(contents.ptr())) {
    throw py::type_error("contents: expected what contents() gave");
  }
  Comparer comparer(contents);
  return walk(owner.ptr(), most_levels, comparer) && comparer.is_at_end();
}

py::tuple attributes(const py::list& objects, const py::str& name) {
  py::list found;
  py::list owners;
  bool all = true;
  // By number and not by iterator: what gives an attribute may change the list.
  for (std::size_t k = 0; k < objects.size(); ++k) {
    const py::object object = objects[k];
    py::object attribute = object.attr(name);
    if (all && attribute.is_none()) {
      all = false;
      for (std::size_t before = 0; before < k; ++before) owners.append(objects[before]);
    } else if (!all && !attribute.is_none()) {
      owners.append(object);
    }
    found.append(std::move(attribute));
  }
  if (all) return py::make_tuple(found, objects);
  return py::make_tuple(found, owners);
}

}  // namespace fusedopt
