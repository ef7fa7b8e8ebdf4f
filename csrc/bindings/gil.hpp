// Working without the GIL.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <cstdint>
#include <exception>
#include <thread>

namespace fusedopt {

// Runs work() without the GIL, and passes on what it throws.
//
// Not pybind11's gil_scoped_release: when the interpreter shuts down under a daemon thread, taking
// the GIL back ends that thread by unwinding its stack, which may not pass through a destructor.
// As Python itself does from 3.14 on, such a thread is left hanging instead.
template <typename Work>
void without_gil(const Work& work) {
  std::exception_ptr error;
  PyThreadState* thread = PyEval_SaveThread();
  try {
    work();
  } catch (...) {
    error = std::current_exception();
  }
#if PY_VERSION_HEX >= 0x030D0000
  const bool finalizing = Py_IsFinalizing();
#else
  const bool finalizing = _Py_IsFinalizing();
#endif
  while (finalizing) std::this_thread::sleep_for(std::chrono::hours(1));
  PyEval_RestoreThread(thread);
  if (error) std::rethrow_exception(error);
}

// As NumPy does, small work keeps the GIL, here some 10 us of it: handing it over, and holding on
// to all gradients in the meantime, can cost more than the step itself.
constexpr bool releases_gil(std::int64_t elements) { return elements >= 32768; }

// Runs work() on so many elements.
template <typename Work>
void run_for(std::int64_t elements, const Work& work) {
  if (releases_gil(elements)) {
    without_gil(work);
  } else {
    work();
  }
}

}  // namespace fusedopt
