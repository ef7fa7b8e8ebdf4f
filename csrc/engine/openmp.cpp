#include "engine/openmp.hpp"

#include <algorithm>
#include <atomic>

#include "engine/forks.hpp"

#ifdef FUSEDOPT_OPENMP_MODULE
#include <dlfcn.h>
#include <link.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <new>
#endif

namespace fusedopt {
namespace openmp {

const char* const in_a_fork =
    "this process is a fork: threads of OpenMP may have stayed behind in its parent";

namespace {

std::atomic<const OpenMPRegion*> the_region{nullptr};

#ifdef FUSEDOPT_OPENMP_MODULE

std::string file_of(const void* symbol) {
  Dl_info info;
  return dladdr(symbol, &info) != 0 && info.dli_fname ? info.dli_fname : "";
}

// Beside the library that this is in.
std::string module_file() {
  const std::string own = file_of(&the_region);
  return own.substr(0, own.rfind('/') + 1) + FUSEDOPT_OPENMP_MODULE;
}

// Whether something in this process uses the very runtime that the module would bring. Where the
// runtime's name doesn't say so, only the module itself is known to.
bool runtime_is_loaded() {
#ifdef FUSEDOPT_OPENMP_RUNTIME
  const std::string file = FUSEDOPT_OPENMP_RUNTIME;
#else
  const std::string file = module_file();
#endif
  void* const handle = dlopen(file.c_str(), RTLD_LAZY | RTLD_NOLOAD);
  if (handle) dlclose(handle);
  return handle != nullptr;
}

#ifdef FUSEDOPT_OPENMP_RUNTIME
// How many libraries this process has loaded, now or before.
unsigned long long libraries() {
  unsigned long long count = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* result) {
        *static_cast<unsigned long long*>(result) = info->dlpi_adds;
        return 1;  // each knows
      },
      &count);
  return count;
}
#endif

// Whether this process is a copy of another one, and not a program that was started since.
bool is_fork() {
#ifdef __linux__
  // PF_FORKNOEXEC, among the flags: the 7th field behind the name, which may have spaces in it.
  std::ifstream file("/proc/self/stat");
  const std::string stat{std::istreambuf_iterator<char>(file), {}};
  std::size_t at = stat.rfind(')');
  for (int k = 0; k < 7 && at != std::string::npos; ++k) at = stat.find(' ', at + 1);
  return at == std::string::npos || (std::strtoul(&stat[at], nullptr, 10) & 0x40) != 0;
#else
  return fork_count() > 0;
#endif
}

// In a child, the threads of the parent's teams are missing; GCC's runtime waits for them for ever.
[[maybe_unused]] const bool drop_region = in_each_child([] { the_region = nullptr; });

#endif

}  // namespace

const OpenMPRegion* loaded() { return the_region.load(std::memory_order_acquire); }

#ifdef FUSEDOPT_OPENMP_MODULE

const bool is_built = true;

bool stayed_behind() { return !loaded() && runtime_is_loaded() && is_fork(); }

std::string load() {
  if (loaded()) return {};
  if (stayed_behind()) return in_a_fork;
  void* const module = dlopen(module_file().c_str(), RTLD_NOW | RTLD_LOCAL);
  const void* const region = module ? dlsym(module, openmp_region_name) : nullptr;
  if (!region) {
    const std::string error = dlerror();
    return runtime_is_loaded() ? error : error + " (where torch brings it, import torch first)";
  }
  the_region = static_cast<const OpenMPRegion*>(region);
  return {};
}

bool is_at_hand() noexcept {
  if (loaded()) return true;
#ifdef FUSEDOPT_OPENMP_RUNTIME
  // To look takes the time of many chunks, and is in vain where no library was loaded since.
  static std::atomic<unsigned long long> looked_among{0};
  const unsigned long long now = libraries();
  if (looked_among.exchange(now) == now) return false;
  try {
    if (runtime_is_loaded() && load().empty()) return true;
  } catch (const std::bad_alloc&) {  // then it can't be had now
  }
  looked_among = libraries();  // what was tried in vain may have loaded some
#endif
  return false;
}

std::string runtime_file() {
  const OpenMPRegion* const region = loaded();
  return region ? file_of(reinterpret_cast<const void*>(region->team)) : "";
}

#else

const bool is_built = false;

std::string load() { return {}; }
bool stayed_behind() { return false; }
bool is_at_hand() noexcept { return false; }
std::string runtime_file() { return {}; }

#endif

}  // namespace openmp

bool OpenMP::run(const Job& job, int threads, Pace& pace) noexcept {
  const OpenMPRegion* const region = openmp::loaded();
  const int most = region ? std::min(threads, region->team()) : 1;
  const int team = ranges_.grow(static_cast<int>(std::min<std::int64_t>(most, job.count)));
  if (team < 2) return job.run(0, job.count), false;
  pace.expect(job.count / team);
  ranges_.share(job.count, team);
  struct Shared {
    const Job& job;
    ChunkRanges& ranges;
    int team;
    Pace& pace;
  } shared{job, ranges_, team, pace};
  region->run(
      [](void* context, int self) {
        const Shared& s = *static_cast<Shared*>(context);
        const auto nothing = [] {};
        if (self == 0) {
          s.ranges.take(0, s.team, nothing, [&](std::int64_t k) { s.pace.run(s.job, k); });
        } else if (self < s.team) {
          s.ranges.take(self, s.team, nothing, [&](std::int64_t k) { s.job.run(k, k + 1); });
        }
      },
      &shared);
  return true;
}

}  // namespace fusedopt
