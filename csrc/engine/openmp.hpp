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

enum class Bring { nothing, runtime };
// Loads it, and with it the runtime, if that may be brought; else only where another library has.
// Returns why it can't be had, or nothing.
std::string obstacle(Bring bring);
// Whether it can be had without bringing anything; cheap to ask again and again.
bool is_at_hand() noexcept;

// Where the runtime's file lies; empty where that isn't known.
std::string runtime_file();

}  // namespace openmp
}  // namespace fusedopt
