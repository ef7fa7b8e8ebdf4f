// Working without the GIL, and taking it back.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <cstdint>
#include <exception>
#include <thread>
#include <utility>

namespace fusedopt {

// Calls Python's C API where it may wait for the GIL: where it takes it back, or runs Python code.
//
// When the interpreter ends under a daemon thread, whoever waits for the GIL never gets it. Up to
// Python 3.13 that thread is ended by unwinding its stack, at any moment, and every destructor on
// the way runs without the GIL; so no look ahead at whether the interpreter is ending helps. From
// 3.14 on such a thread is left hanging, and so it is here: the unwinding is stopped at its first
// frame that is ours. call() may hold nothing that has a destructor.
template <typename Call>
auto call_python(const Call& call) {
  try {
    return call();
  } catch (...) {  // C code throws nothing else
    while (true) std::this_thread::sleep_for(std::chrono::hours(1));
  }
}

// A reference to an object of the caller's, such as an array. It may be the last one, and then to
// let go of it may run Python code or wait for the GIL, as the end of an array over a file does:
// pybind11's own would be unwound in its destructor, which ends the process.
class Reference : public pybind11::object {
 public:
  Reference() = default;
  Reference(pybind11::object object) : pybind11::object(std::move(object)) {}  // NOLINT: any is one
  Reference(const Reference&) = default;
  Reference(Reference&&) noexcept = default;
  Reference& operator=(Reference other) noexcept {
    std::swap(m_ptr, other.m_ptr);
    return *this;
  }
  ~Reference() {
    PyObject* const held = release().ptr();
    if (held) let_go(held);
  }

 private:
  // Not inlined: a step has some that are null.
  [[gnu::noinline]] static void let_go(PyObject* held) {
    call_python([held] { Py_DECREF(held); });
  }
};

inline Reference reference_to(pybind11::handle object) {
  return pybind11::reinterpret_borrow<pybind11::object>(object);
}

// What a function of Python's C API gives that may run code of the caller's, as its own error where
// there is one.
template <typename Call>
Reference result_of(const Call& call) {
  Reference result = pybind11::reinterpret_steal<pybind11::object>(call_python(call));
  if (!result) throw pybind11::error_already_set();
  return result;
}

// Whether the interpreter is ending: other threads will get the GIL no more.
inline bool is_finalizing() {
#if PY_VERSION_HEX >= 0x030D0000
  return Py_IsFinalizing() != 0;
#else
  return _Py_IsFinalizing() != 0;
#endif
}

// Runs work() without the GIL, and passes on what it throws. Not pybind11's gil_scoped_release,
// which takes the GIL back in a destructor.
template <typename Work>
void without_gil(const Work& work) {
  std::exception_ptr error;
  PyThreadState* thread = PyEval_SaveThread();
  try {
    work();
  } catch (...) {
    error = std::current_exception();
  }
  call_python([thread] { PyEval_RestoreThread(thread); });
  if (error) std::rethrow_exception(error);
}

// As NumPy does, small work keeps the GIL, here some 10 us of it: handing it over, and holding on
// to all gradients in the meantime, can cost more than the step itself.
constexpr bool releases_gil(std::int64_t elements) { return elements >= 32768; }

// Runs work() without the GIL where that is allowed: all that it works on has to stay where it is.
template <typename Work>
void without_gil_if(bool is_allowed, const Work& work) {
  if (is_allowed) {
    without_gil(work);
  } else {
    work();
  }
}

// Runs work() on so many elements.
template <typename Work>
void run_for(std::int64_t elements, const Work& work, bool may_release = true) {
  without_gil_if(may_release && releases_gil(elements), work);
}

}  // namespace fusedopt
