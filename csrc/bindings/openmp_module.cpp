// fusedopt._openmp: all that needs a runtime of OpenMP. See engine/openmp.hpp, which loads it.
#include <Python.h>
#include <omp.h>

#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/openmp_region.hpp"

namespace {

void run(void (*body)(void*, int), void* context) {
  // Of whatever size the team is: to ask for a smaller one ends its other threads, and whoever uses
  // the same runtime waits for new ones.
#pragma omp parallel
  body(context, omp_get_thread_num());
}

bool inside() { return omp_in_parallel() != 0; }

// Makes them, all at once, and ends them.
bool can_have(int threads) {
  std::mutex gate;
  std::vector<std::thread> made;
  try {
    const std::lock_guard closed(gate);
    made.reserve(static_cast<std::size_t>(threads));
    for (int k = 0; k < threads; ++k) {
      made.emplace_back([&gate] { const std::lock_guard passes(gate); });
    }
  } catch (const std::exception&) {  // no memory, or as many as the system allows
  }
  for (std::thread& thread : made) thread.join();
  return made.size() == static_cast<std::size_t>(threads);
}

constexpr const char* doc =
    "A parallel region of OpenMP, for the threading layer 'openmp'. There is nothing to call.";

PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_openmp", doc, 0, nullptr, nullptr, nullptr, nullptr, nullptr};

}  // namespace

extern "C" __attribute__((visibility("default")))
const fusedopt::OpenMPRegion fusedopt_openmp_region_2;
const fusedopt::OpenMPRegion fusedopt_openmp_region_2 = {&run, &omp_get_max_threads, &inside,
                                                         &can_have};

PyMODINIT_FUNC PyInit__openmp() { return PyModule_Create(&definition); }
