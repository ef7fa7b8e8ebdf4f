// OpenMP's threads, which other libraries of the process may use, too.
#pragma once

#include <string>

#include "engine/chunk_ranges.hpp"
#include "engine/layer.hpp"
#include "engine/openmp_region.hpp"

namespace fusedopt {

// A parallel region, whose threads take chunks as the pool's do. It ends when the last thread of
// its team has come: where a core is taken, after milliseconds.
//
// The team is the calling thread's, and belongs to all libraries that use the same runtime: where
// one of them has just computed, its threads are still awake, and in the way of any others.
class OpenMP final : public Layer {
 public:
  bool run(const Job& job, int threads, Pace& pace) noexcept override;

 private:
  ChunkRanges ranges_;
};

// The module that has the region, and the runtime that it needs: loaded once, and kept.
namespace openmp {

extern const bool is_built;

// What was loaded; nullptr where nothing was, or in the child of a fork.
const OpenMPRegion* loaded();

// Loads it, and with it the runtime where no other library has. Returns why that can't be done, or
// nothing.
std::string load();
// Loads it where another library has brought the runtime, and returns whether it is there. Cheap to
// ask again and again. Only GCC's runtime on Linux is found where load() hasn't been called.
bool is_at_hand() noexcept;

// Whether load() would refuse, as the runtime may wait for ever for threads that aren't here; and
// how that is said.
bool stayed_behind();
extern const char* const in_a_fork;

// Where the runtime's file lies; empty where that isn't known.
std::string runtime_file();

}  // namespace openmp
}  // namespace fusedopt
