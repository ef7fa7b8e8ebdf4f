// What of Python's is brought up to date at the moment when the native half changes.
#pragma once

#include <utility>
#include <vector>

#include "bindings/arrays.hpp"

namespace fusedopt {

// Dicts, each with what it is brought up to date by, or lists with their new items: without a line
// of Python code, which a signal could interrupt.
using Updates = std::vector<std::pair<py::object, py::object>>;

void bring_up_to_date(const Updates& updates);

}  // namespace fusedopt
