// Forks of this process, where the system has any.
#pragma once

#include <cstdint>

namespace fusedopt {

// Has these called at each fork from now on: on the thread that forks, before and after it, and in
// the child. Any may be null. Returns whether there can be forks.
bool around_forks(void (*before)(), void (*after)(), void (*in_child)());
inline bool in_each_child(void (*handle)()) { return around_forks(nullptr, nullptr, handle); }

// How many times this process and its ancestors have forked since the library was loaded.
std::uint64_t fork_count();

}  // namespace fusedopt
