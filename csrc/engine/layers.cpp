#include "engine/layers.hpp"

#include <algorithm>
#include <atomic>
#include <new>
#include <optional>
#include <utility>

#include "engine/experience.hpp"
#include "engine/float_mode.hpp"
#include "engine/forks.hpp"
#include "engine/openmp.hpp"
#include "engine/sleeper.hpp"

#ifdef FUSEDOPT_POOL
#include "engine/pool.hpp"
#endif

namespace fusedopt {
namespace {

std::atomic<LayerName> chosen{LayerName::automatic};

// Those that share jobs, one at a time.
struct Layers {
  std::atomic<bool> busy{false};
#ifdef FUSEDOPT_POOL
  Pool pool;
#endif
  OpenMP openmp;
  Clock::time_point last_end{};
};

// Made when first needed, and once they are here, never destroyed.
std::atomic<Layers*> the_layers{nullptr};

// nullptr where there is no memory for them.
Layers* layers() {
  Layers* existing = the_layers.load(std::memory_order_acquire);
  if (existing) return existing;
  Layers* const made = new (std::nothrow) Layers;
  if (the_layers.compare_exchange_strong(existing, made)) return made;
  delete made;  // another thread was faster
  return existing;
}

// Workers stayed behind in the parent, and what they were doing is half done for ever: the child
// leaves all of it alone and makes its own.
const InEachChild drop_layers([] { the_layers.store(nullptr, std::memory_order_relaxed); });

#ifdef FUSEDOPT_POOL
constexpr bool has_pool = true;
Layer& layer_of(Layers& all, LayerName name) {
  return name == LayerName::pool ? static_cast<Layer&>(all.pool) : all.openmp;
}
#else
constexpr bool has_pool = false;
Layer& layer_of(Layers& all, LayerName) { return all.openmp; }
#endif

// The calling thread's. The child of a fork begins anew: it can't have all that its parent has.
Experience& experience() {
  thread_local Experience own;
  thread_local std::uint64_t forks = fork_count();
  if (std::exchange(forks, fork_count()) != fork_count()) own = {};
  return own;
}

// Whether this thread is one of a team of somebody else's, in which each has work of its own.
bool is_inside_a_region() {
  const OpenMPRegion* const region = openmp::loaded();
  return region && region->inside();
}

// Whether any of it was shared; nothing where another thread's job is being shared just now.
std::optional<bool> run_shared(LayerName name, Job job, int threads, Pace& pace) {
  Layers* const all = layers();
  if (!all || all->busy.exchange(true)) return std::nullopt;
  job.follows = Clock::now() - all->last_end < spin_time;
  const bool shared = layer_of(*all, name).run(job, threads, pace);
  all->last_end = Clock::now();
  all->busy.store(false, std::memory_order_release);
  return shared;
}

bool run_alone(const Job& job, Pace& pace) {
  pace.expect(job.count);
  for (std::int64_t chunk = 0; chunk < job.count; ++chunk) pace.run(job, chunk);
  return false;
}

// What the calling thread's next job goes to, where this one was chosen.
LayerName layer_for(LayerName choice) noexcept {
  if (choice == LayerName::automatic) {
    return experience().next(has_pool, openmp::is_at_hand);
  }
  if (choice != LayerName::openmp || openmp::loaded()) return choice;
  return has_pool ? LayerName::pool : LayerName::serial;  // in the child of a fork
}

}  // namespace

std::vector<LayerName> built_layers() {
  std::vector<LayerName> built{LayerName::serial};
  if (has_pool) built.push_back(LayerName::pool);
  if (openmp::is_built) built.push_back(LayerName::openmp);
  return built;
}

LayerName chosen_layer() { return chosen.load(std::memory_order_relaxed); }

std::string choose_layer(LayerName name, bool even_if_stayed_behind) {
  const std::vector<LayerName> built = built_layers();
  if (name != LayerName::automatic && std::ranges::find(built, name) == built.end()) {
    std::string only;
    for (const LayerName other : built)
      only += (only.empty() ? "" : ", ") + std::string(to_string(other));
    return "this build has only " + only;
  }
  if (name == LayerName::openmp && !(even_if_stayed_behind && openmp::stayed_behind())) {
    if (const std::string obstacle = openmp::load(); !obstacle.empty()) return obstacle;
  }
  chosen = name;
  return {};
}

LayerName layer_in_effect() noexcept {
  if (num_threads() < 2 || is_inside_a_region()) return LayerName::serial;
  return layer_for(chosen_layer());
}

void parallel_ranges(std::int64_t count, int threads, RangeTask task,
                     const void* context) noexcept {
  const Job job{count, task, context};
  const LayerName choice = chosen_layer();
  if (threads < 2 || count < 2 || choice == LayerName::serial || is_inside_a_region()) {
    return job.run(0, count);
  }
  const Clock::time_point begin = Clock::now();
  Pace pace;
  const LayerName layer = layer_for(choice);
  const std::optional<bool> shared =
      layer == LayerName::serial ? run_alone(job, pace) : run_shared(layer, job, threads, pace);
  if (!shared) return job.run(0, count);
  if (choice == LayerName::automatic) {
    const Clock::duration whole = Clock::now() - begin;
    const ScopedFloatMode own_flags(false);  // what is reckoned leaves none behind
    experience().saw(layer, job, *shared, pace, whole);
  }
}

}  // namespace fusedopt
