// What pybind11 leaves to its users: types that the garbage collector can look into, and whose
// objects can't be had half made.
#pragma once

#include <pybind11/pybind11.h>

namespace fusedopt {

// A visitor of the garbage collector, which ends where it finds what it looks for.
class Visitor {
 public:
  Visitor(visitproc visit, void* argument) : visit_(visit), argument_(argument) {}

  void operator()(pybind11::handle object) {
    if (object && found_ == 0) found_ = visit_(object.ptr(), argument_);
  }
  int found() const { return found_; }

 private:
  visitproc visit_;
  void* argument_;
  int found_ = 0;
};

template <typename T>
int traverse(PyObject* self, visitproc visit, void* argument) {
  Visitor visitor(visit, argument);
  visitor(pybind11::type::handle_of(self));
  // Not yet while it is being made.
  if (pybind11::detail::is_holder_constructed(self)) {
    pybind11::cast<const T&>(pybind11::handle(self)).visit(visitor);
  }
  return visitor.found();
}

template <typename T>
int let_go(PyObject* self) {
  if (pybind11::detail::is_holder_constructed(self)) {
    pybind11::cast<T&>(pybind11::handle(self)).let_go_of_objects();
  }
  return 0;
}

// Of a class with visit(), which shows the collector every object that it refers to, and
// let_go_of_objects(), after which it refers to none.
template <typename T>
pybind11::custom_type_setup collected() {
  return pybind11::custom_type_setup([](PyHeapTypeObject* heap_type) {
    PyTypeObject& type = heap_type->ht_type;
    type.tp_flags |= Py_TPFLAGS_HAVE_GC;
    type.tp_traverse = &traverse<T>;
    type.tp_clear = &let_go<T>;
  });
}

// Such a class that only functions make objects of.
template <typename T>
pybind11::custom_type_setup made_by_functions() {
  return pybind11::custom_type_setup([](PyHeapTypeObject* heap_type) {
    collected<T>().value(heap_type);
    heap_type->ht_type.tp_flags |= Py_TPFLAGS_DISALLOW_INSTANTIATION;
  });
}

// The metaclass of types that the stub shows as plain ones: there is nothing static to guard.
inline pybind11::metaclass plain() {
  return pybind11::metaclass(reinterpret_cast<PyObject*>(&PyType_Type));
}

}  // namespace fusedopt
