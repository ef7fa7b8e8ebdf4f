#include "bindings/step_method.hpp"

#include <structmember.h>

#include <exception>
#include <new>

#include "bindings/step_arguments.hpp"
#include "bindings/stepper.hpp"

namespace fusedopt {
namespace {

struct StepMethod {
  PyObject_HEAD vectorcallfunc call;
  PyObject* function;
  PyObject* result_type;  // of a step with options
  PyObject* stats_type;   // of what it measured in a group
  PyObject* attributes;   // __doc__, __wrapped__ and the like
  PyObject* weak_references;
};

StepMethod* as_method(PyObject* object) { return reinterpret_cast<StepMethod*>(object); }

void set_error_of_current_exception() {
  try {
    throw;
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
}

// An optimizer's stepper, where it has one; null without an error where it hasn't.
Stepper* stepper_of(PyObject* optimizer, Reference& engine) {
  static PyObject* const name = PyUnicode_InternFromString("_engine");
  static const auto* const type =
      reinterpret_cast<const PyTypeObject*>(py::type::of<Stepper>().release().ptr());
  engine = py::reinterpret_steal<py::object>(PyObject_GetAttr(optimizer, name));
  if (!engine) {
    // Of a class whose constructor wasn't called: the function says so.
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) throw py::error_already_set();
    PyErr_Clear();
    return nullptr;
  }
  if (Py_TYPE(engine.ptr()) != type) return nullptr;
  // Of that very type: pybind11's own cast looks for it among all types, which takes 10 ns.
  auto* const instance = reinterpret_cast<py::detail::instance*>(engine.ptr());
  return instance->get_value_and_holder().value_ptr<Stepper>();
}

// An object of a frozen dataclass, as its constructor makes it, with these values.
template <std::size_t count>
py::object make(PyObject* type, const char* const (&names)[count], const py::tuple& values) {
  auto* const native = reinterpret_cast<PyTypeObject*>(type);
  auto object = py::reinterpret_steal<py::object>(native->tp_alloc(native, 0));
  if (!object) throw py::error_already_set();
  for (std::size_t k = 0; k < count; ++k) {
    const auto name = py::reinterpret_steal<py::object>(PyUnicode_InternFromString(names[k]));
    const py::handle value = PyTuple_GET_ITEM(values.ptr(), static_cast<py::ssize_t>(k));
    if (PyObject_GenericSetAttr(object.ptr(), name.ptr(), value.ptr()) != 0) {
      throw py::error_already_set();
    }
  }
  return object;
}

py::object to_result(const StepMethod& method, const py::tuple& done) {
  py::object stats = done[2];
  if (!stats.is_none()) {
    const py::list groups = stats;
    py::tuple made(groups.size());
    for (std::size_t k = 0; k < groups.size(); ++k) {
      made[k] = make(method.stats_type, {"grad_norm", "update_norm", "param_norm", "nonfinite"},
                     groups[k]);
    }
    stats = made;
  }
  return make(method.result_type, {"grad_norm", "skipped", "stats"},
              py::make_tuple(done[0], done[1], stats));
}

// What the step returns; null where it takes Python.
[[gnu::noinline]] PyObject* step_with_keywords(const StepMethod& method, Stepper& stepper,
                                               PyObject* grads, PyObject* const* values,
                                               PyObject* keywords) {
  const auto given = read_keywords(grads, values, keywords);
  if (!given) return nullptr;
  if (!given->has_options) {
    return stepper.step_if_readable(given->grads) ? Py_NewRef(Py_None) : nullptr;
  }
  const auto done = stepper.step_with_if_readable(given->grads, given->options);
  return done ? to_result(method, *done).release().ptr() : nullptr;
}

PyObject* call(PyObject* method, PyObject* const* arguments, std::size_t flagged_count,
               PyObject* keywords) {
  const Py_ssize_t count = PyVectorcall_NARGS(flagged_count);
  if (count == 1 || count == 2) {
    PyObject* const grads = count == 2 ? arguments[1] : nullptr;
    try {
      Reference engine;
      Stepper* stepper = stepper_of(arguments[0], engine);
      if (stepper && !keywords) {
        if (stepper->step_if_readable(grads ? grads : Py_None)) Py_RETURN_NONE;
      } else if (stepper) {
        if (PyObject* result = step_with_keywords(*as_method(method), *stepper, grads,
                                                  arguments + count, keywords)) {
          return result;
        }
      }
    } catch (const std::exception&) {  // not the end of a thread, which unwinds as one, too
      set_error_of_current_exception();
      return nullptr;
    }
  }
  return PyObject_Vectorcall(as_method(method)->function, arguments, flagged_count, keywords);
}

PyObject* call_some(PyObject* method, PyObject* const* arguments, std::size_t flagged_count,
                    PyObject* keywords) {
  const auto given = read_some(arguments, PyVectorcall_NARGS(flagged_count), keywords);
  if (given) {
    try {
      Reference engine;
      Stepper* stepper = stepper_of(arguments[0], engine);
      if (stepper && !given->has_options) {
        if (stepper->step_some_if_readable(given->grads, given->completes)) Py_RETURN_NONE;
      } else if (stepper) {
        const auto done =
            stepper->step_some_with_if_readable(given->grads, given->completes, given->options);
        if (done) return to_result(*as_method(method), *done).release().ptr();
      }
    } catch (const std::exception&) {
      set_error_of_current_exception();
      return nullptr;
    }
  }
  return PyObject_Vectorcall(as_method(method)->function, arguments, flagged_count, keywords);
}

// Bound to an object, as a function is; itself where it is looked up on a class.
PyObject* bind(PyObject* method, PyObject* object, PyObject*) {
  if (!object) return Py_NewRef(method);
  return PyMethod_New(method, object);
}

int traverse(PyObject* method, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(method));
  Py_VISIT(as_method(method)->function);
  Py_VISIT(as_method(method)->result_type);
  Py_VISIT(as_method(method)->stats_type);
  Py_VISIT(as_method(method)->attributes);
  return 0;
}

int clear(PyObject* method) {
  Py_CLEAR(as_method(method)->function);
  Py_CLEAR(as_method(method)->result_type);
  Py_CLEAR(as_method(method)->stats_type);
  Py_CLEAR(as_method(method)->attributes);
  return 0;
}

void dealloc(PyObject* method) {
  PyTypeObject* type = Py_TYPE(method);
  PyObject_GC_UnTrack(method);
  PyObject_ClearWeakRefs(method);
  clear(method);
  type->tp_free(method);
  Py_DECREF(type);
}

template <typename Function>
void* slot(Function* function) {
  return reinterpret_cast<void*>(function);
}

py::object make_type() {
  static PyMemberDef members[] = {
      {"__vectorcalloffset__", T_PYSSIZET, offsetof(StepMethod, call), READONLY, nullptr},
      {"__weaklistoffset__", T_PYSSIZET, offsetof(StepMethod, weak_references), READONLY, nullptr},
      {"__dictoffset__", T_PYSSIZET, offsetof(StepMethod, attributes), READONLY, nullptr},
      {nullptr, 0, 0, 0, nullptr}};
  static PyGetSetDef getters[] = {
      {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, nullptr, nullptr},
      {nullptr, nullptr, nullptr, nullptr, nullptr}};
  PyType_Slot slots[] = {{Py_tp_members, members},
                         {Py_tp_getset, getters},
                         {Py_tp_call, slot(PyVectorcall_Call)},
                         {Py_tp_descr_get, slot(bind)},
                         {Py_tp_traverse, slot(traverse)},
                         {Py_tp_clear, slot(clear)},
                         {Py_tp_dealloc, slot(dealloc)},
                         {0, nullptr}};
  PyType_Spec spec = {"fusedopt._core.StepMethod", sizeof(StepMethod), 0,
                      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
                          Py_TPFLAGS_METHOD_DESCRIPTOR | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                      slots};
  auto type = py::reinterpret_steal<py::object>(PyType_FromSpec(&spec));
  if (!type) throw py::error_already_set();
  return type;
}

py::object make_method(const py::object& function, const py::type& result, const py::type& stats,
                       vectorcallfunc call) {
  const py::object type = make_type();
  auto* const native = reinterpret_cast<PyTypeObject*>(type.ptr());
  auto method = py::reinterpret_steal<py::object>(native->tp_alloc(native, 0));
  if (!method) throw py::error_already_set();
  as_method(method.ptr())->call = call;
  as_method(method.ptr())->function = Py_NewRef(function.ptr());
  as_method(method.ptr())->result_type = Py_NewRef(result.ptr());
  as_method(method.ptr())->stats_type = Py_NewRef(stats.ptr());
  return py::module_::import("functools").attr("update_wrapper")(method, function);
}

}  // namespace

py::object make_step_method(const py::object& function, const py::type& result,
                            const py::type& stats) {
  return make_method(function, result, stats, call);
}

py::object make_step_some_method(const py::object& function, const py::type& result,
                                 const py::type& stats) {
  return make_method(function, result, stats, call_some);
}

}  // namespace fusedopt
