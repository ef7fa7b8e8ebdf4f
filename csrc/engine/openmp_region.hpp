// What the module _openmp has, and all that there is of OpenMP.
#pragma once

namespace fusedopt {

struct OpenMPRegion {
  // Calls body(context, k) once on each thread k of the calling thread's team, and returns when all
  // of them have.
  void (*run)(void (*body)(void* context, int thread), void* context);
  // How large that team is, at most: a function of the runtime itself.
  int (*team)();
  // Whether the calling thread is inside of a parallel region, of whoever's.
  bool (*inside)();
  // Whether the system would give this process so many more threads, now. Where it doesn't, GCC's
  // runtime ends the process.
  bool (*can_have)(int threads);
};

// The name of the one of these in the module. Whenever the struct changes, so does the number: what
// is installed beside a process that runs isn't to be taken for what it was built with.
constexpr const char* openmp_region_name = "fusedopt_openmp_region_2";

}  // namespace fusedopt
