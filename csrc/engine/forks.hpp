// Forks of this process, where the system has any.
#pragma once

#include <cstdint>

namespace fusedopt {

// Has these called at each fork from now on: on the thread that forks, before and after it, and in
// the child. Any may be null.
struct AroundForks {
  AroundForks(void (*before)(), void (*after)(), void (*in_child)());
};
struct InEachChild : AroundForks {
  explicit InEachChild(void (*handle)()) : AroundForks(nullptr, nullptr, handle) {}
};

// How many times this process and its ancestors have forked since the library was loaded.
std::uint64_t fork_count();

}  // namespace fusedopt
