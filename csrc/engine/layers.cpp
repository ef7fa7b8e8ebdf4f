#include "engine/layers.hpp"

#include <atomic>
#include <new>

#include "engine/automatic.hpp"
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

// The calling thread alone.
class Serial final : public Layer {
 public:
  bool run(const Job& job, int, Pace& pace) noexcept override {
    pace.expect(job.count);
    for (std::int64_t chunk = 0; chunk < job.count; ++chunk) pace.run(job, chunk);
    return false;
  }
};

// One job at a time.
struct Layers {
  std::atomic<bool> busy{false};
  Serial serial;
#ifdef FUSEDOPT_POOL
  Pool pool;
#endif
  OpenMP openmp;
  Clock::time_point last_end{};
};

// Made when first needed, and never destroyed.
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
[[maybe_unused]] const bool drop_layers =
    in_each_child([] { the_layers.store(nullptr, std::memory_order_relaxed); });

#ifdef FUSEDOPT_POOL
constexpr bool has_pool = true;
Layer& pool_of(Layers& all) { return all.pool; }
#else
constexpr bool has_pool = false;
Layer& pool_of(Layers& all) { return all.serial; }
#endif

Layer& layer_of(Layers& all, LayerName name) {
  return name == LayerName::pool     ? pool_of(all)
         : name == LayerName::openmp ? static_cast<Layer&>(all.openmp)
                                     : all.serial;
}

// What one thread has seen of them.
struct Experience {
  Automatic automatic;
  RangeTask task = nullptr;  // of the last job
  Clock::duration of_chunk{};
  std::uint64_t forks = fork_count();

  void add(LayerName layer, const Job& job, bool shared, const Pace& pace, Clock::duration whole) {
    const ScopedFloatMode own_flags(false);  // what is reckoned here leaves none behind
    // Where the thread did next to nothing itself, its pace is the last that was seen.
    of_chunk = pace.of_chunk().value_or(job.task == task ? of_chunk : Clock::duration{});
    task = job.task;
    const auto on_one_thread = static_cast<double>(job.count * of_chunk.count());
    const bool known = on_one_thread > 0 && (shared || layer == LayerName::serial);
    const double time =
        known ? static_cast<double>(whole.count()) / on_one_thread : automatic.alone();
    const auto jobs = std::chrono::milliseconds(1) / (whole + std::chrono::nanoseconds(1));
    automatic.saw(layer, time, static_cast<int>(std::clamp<std::int64_t>(jobs, 1, 4)));
  }
};

// The calling thread's. The child of a fork begins anew: it can't have all that its parent has.
Experience& experience() {
  thread_local Experience own;
  if (own.forks != fork_count()) own = {};
  return own;
}

// Whether this thread is one of a team of somebody else's, in which each has work of its own.
bool is_inside_a_region() {
  const OpenMPRegion* const region = openmp::loaded();
  return region && region->inside();
}

void run(Layers& all, Job job, int threads) {
  const Clock::time_point begin = Clock::now();
  job.follows = begin - all.last_end < spin_time;
  Pace pace;
  const LayerName layer = layer_in_effect();
  const bool shared = layer_of(all, layer).run(job, threads, pace);
  all.last_end = Clock::now();
  if (chosen_layer() == LayerName::automatic) {
    experience().add(layer, job, shared, pace, all.last_end - begin);
  }
}

}  // namespace

std::vector<LayerName> built_layers() {
  std::vector<LayerName> built{LayerName::serial};
  if (has_pool) built.push_back(LayerName::pool);
  if (openmp::is_built) built.push_back(LayerName::openmp);
  return built;
}

LayerName chosen_layer() { return chosen.load(std::memory_order_relaxed); }

std::string choose_layer(LayerName name) {
  std::string obstacle = name == LayerName::openmp ? openmp::obstacle(openmp::Bring::runtime)
                         : name == LayerName::pool && !has_pool ? "this build has none"
                                                                : "";
  if (obstacle.empty()) chosen = name;
  return obstacle;
}

LayerName layer_in_effect() noexcept {
  if (is_inside_a_region()) return LayerName::serial;
  switch (const LayerName name = chosen_layer()) {
    case LayerName::automatic:
      return experience().automatic.next(has_pool, openmp::is_at_hand);
    case LayerName::openmp:
      if (!openmp::loaded()) break;  // in the child of a fork
      [[fallthrough]];
    default:
      return name;
  }
  return has_pool ? LayerName::pool : LayerName::serial;
}

void parallel_ranges(std::int64_t count, int threads, RangeTask task,
                     const void* context) noexcept {
  const Job job{count, task, context};
  const bool alone =
      threads < 2 || count < 2 || chosen_layer() == LayerName::serial || is_inside_a_region();
  Layers* const all = alone ? nullptr : layers();
  if (!all || all->busy.exchange(true)) return job.run(0, count);
  run(*all, job, threads);
  all->busy.store(false, std::memory_order_release);
}

}  // namespace fusedopt
