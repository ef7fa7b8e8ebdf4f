#include "bindings/updates.hpp"

#include "bindings/gil.hpp"

namespace fusedopt {

// Keys are str: no line of Python code runs.
void bring_up_to_date(const Updates& updates) {
  for (const auto& [own, update] : updates) {
    // Named once more, as before version 16 Clang captures none of a structured binding's names.
    call_python([&own = own, &update = update] {
      return PyList_Check(own.ptr())
                 ? PyList_SetSlice(own.ptr(), 0, PyList_GET_SIZE(own.ptr()), update.ptr())
                 : PyDict_Update(own.ptr(), update.ptr());
    });
  }
}

}  // namespace fusedopt
