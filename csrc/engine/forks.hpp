// Forks of this process, where the system has any.
#pragma once

#include <cstdint>

namespace fusedopt {

// Has this called in the child of each fork from now on. Returns whether there can be any.
bool in_each_child(void (*handle)());

// How many times this process and its ancestors have forked since the library was loaded.
std::uint64_t fork_count();

}  // namespace fusedopt
