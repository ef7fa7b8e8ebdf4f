#include "engine/openmp.hpp"

#include <algorithm>
#include <atomic>

#include "engine/forks.hpp"

#ifdef FUSEDOPT_OPENMP_MODULE
#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <optional>
#endif

#ifdef FUSEDOPT_OPENMP_RUNTIME
#include <link.h>  // Linux's own
#endif

namespace fusedopt {
namespace openmp {

const char* const in_a_fork =
    "this process is a fork, as far as can be told: threads of OpenMP may have stayed behind in "
    "its "
    "parent";

namespace {

std::atomic<const OpenMPRegion*> the_region{nullptr};

#ifdef FUSEDOPT_OPENMP_MODULE

// Held by whoever asks the dynamic linker for something. A fork waits for that: its child would
// otherwise find the linker's own locks taken for ever.
std::mutex linking;
const AroundForks link_between_forks([] { linking.lock(); }, [] { linking.unlock(); },
                                     [] { linking.unlock(); });

std::string file_of(const void* symbol) {
  Dl_info info;
  return dladdr(symbol, &info) != 0 && info.dli_fname ? info.dli_fname : "";
}

// Beside the library that this is in.
std::string module_file() {
  const std::lock_guard lock(linking);
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
  const std::lock_guard lock(linking);
  void* const handle = dlopen(file.c_str(), RTLD_LAZY | RTLD_NOLOAD);
  if (handle) dlclose(handle);
  return handle != nullptr;
}

#ifdef FUSEDOPT_OPENMP_RUNTIME
// How many libraries this process has loaded, now or before.
unsigned long long libraries() {
  const std::lock_guard lock(linking);
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

// What Linux says of this process: the field so far behind its name, which may have spaces in it.
std::optional<unsigned long> process_field(int place) noexcept {
  char stat[1024] = "";
  const int file = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
  const bool known = file >= 0 && read(file, stat, sizeof stat - 1) > 0;
  if (file >= 0) close(file);
  if (!known) return std::nullopt;
  const char* at = std::strrchr(stat, ')');
  for (int k = 0; k < place && at; ++k) at = std::strchr(at + 1, ' ');
  if (!at) return std::nullopt;
  return std::strtoul(at, nullptr, 10);
}

unsigned long thread_count() noexcept { return process_field(18).value_or(0); }

// Whether this process is a copy of another one, and not a program that was started since.
bool is_fork() {
#ifdef __linux__
  constexpr unsigned long forked_and_not_started = 0x40;  // PF_FORKNOEXEC
  return (process_field(7).value_or(forked_and_not_started) & forked_and_not_started) != 0;
#else
  return fork_count() > 0;
#endif
}

// The calling thread's team: for how many there are threads, and whether it is there because of us.
struct Team {
  int size = 1;
  bool is_ours = false;
};
thread_local Team own_team;

// omp_pause_resource_all(), where the runtime has it.
std::atomic<int (*)(int)> pause_all{nullptr};
constexpr int pause_soft = 1;

// Calls body(context, k) on each thread k of the calling thread's team, and returns true; or false,
// where the threads for it can't be had.
bool run_region(const OpenMPRegion& region, void (*body)(void*, int), void* context) noexcept {
  const int size = region.team();
  if (size <= own_team.size) return region.run(body, context), true;
  const unsigned long before = thread_count();
  if (!region.can_have(size - own_team.size)) return false;
  region.run(body, context);
  own_team = {size, own_team.is_ours || thread_count() > before};
  return true;
}

// A team that the thread has when it forks makes its child hang, in the next region of whoever's,
// or when the thread ends. If it is another library's, so be it; but none is to have it from us.
// The next region makes a new one.
void end_own_team() {
  const auto pause = pause_all.load();
  if (!own_team.is_ours || !pause) return;
  pause(pause_soft);
  own_team = {};
}
const AroundForks fork_without_own_team(&end_own_team, nullptr, nullptr);

// In a child, the threads of the parent's teams are missing; GCC's runtime waits for them for ever.
const InEachChild drop_region([] { the_region = nullptr; });

#endif

}  // namespace

const OpenMPRegion* loaded() { return the_region.load(std::memory_order_acquire); }

#ifdef FUSEDOPT_OPENMP_MODULE

const bool is_built = true;

bool stayed_behind() { return runtime_is_loaded() && is_fork(); }

std::string load() {
  if (loaded()) return {};
  if (stayed_behind()) return in_a_fork;
  const std::string file = module_file();
  const std::unique_lock lock(linking);
  void* const module = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  const void* const region = module ? dlsym(module, openmp_region_name) : nullptr;
  if (!region) {
    const char* const error = dlerror();
    return std::string(error ? error : "its module has nothing in it") +
           " (if its runtime is missing: torch brings one, if it is imported first)";
  }
  pause_all = reinterpret_cast<int (*)(int)>(dlsym(module, "omp_pause_resource_all"));
  the_region = static_cast<const OpenMPRegion*>(region);
  return {};
}

bool is_at_hand() noexcept {
  if (loaded()) return true;
#ifdef FUSEDOPT_OPENMP_RUNTIME
  if (fork_count() > 0) return false;  // load() would refuse
  // To look takes the time of many chunks, and is in vain where no library was loaded since.
  static std::atomic<unsigned long long> looked_among{0};
  const unsigned long long now = libraries();
  if (looked_among.exchange(now) == now) return false;
  try {
    if (!runtime_is_loaded()) return false;
    if (load().empty()) return true;
    looked_among = libraries();      // to try in vain may load some
  } catch (const std::exception&) {  // no memory: then it can't be had now
  }
#endif
  return false;
}

std::string runtime_file() {
  const OpenMPRegion* const region = loaded();
  const std::lock_guard lock(linking);
  return region ? file_of(reinterpret_cast<const void*>(region->team)) : "";
}

#else

const bool is_built = false;

std::string load() { return {}; }
bool stayed_behind() { return false; }
bool is_at_hand() noexcept { return false; }
std::string runtime_file() { return {}; }

namespace {
bool run_region(const OpenMPRegion&, void (*)(void*, int), void*) noexcept { return false; }
}  // namespace

#endif

}  // namespace openmp

bool OpenMP::run(const Job& job, int threads, Pace& pace) noexcept {
  const OpenMPRegion& region = *openmp::loaded();  // or no job would come here
  const int most = std::min(threads, region.team());
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
  const auto take_part = [](void* context, int self) {
    const Shared& s = *static_cast<Shared*>(context);
    const auto nothing = [] {};
    if (self == 0) {
      s.ranges.take(0, s.team, nothing, [&](std::int64_t k) { s.pace.run(s.job, k); });
    } else if (self < s.team) {
      s.ranges.take(self, s.team, nothing, [&](std::int64_t k) { s.job.run(k, k + 1); });
    }
  };
  if (openmp::run_region(region, take_part, &shared)) return true;
  return job.run(0, job.count), false;
}

}  // namespace fusedopt
