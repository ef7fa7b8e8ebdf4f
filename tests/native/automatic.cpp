// How the automatic threading layer decides, in companies that are made up: what a job takes on
// each layer, in times of what it takes on one thread that is alone. Prints for each company which
// share of the jobs went to the pool, to OpenMP and to neither, and what a job took in the mean.
//
// "automatic jobs" reads a company from its input, job by job: what it takes on the pool, OpenMP
// and neither, whether the first two are there, and in how many jobs threads wake up. Prints for
// each the layer that it went to.
//
// "automatic pace" reads jobs: how many chunks were expected, how many there were, and what each
// took. Prints for each job what a chunk takes by its pace; 0 where that isn't known.
//
// "automatic experience" reads jobs: which of two kinds of work it is, how many chunks it has, and
// for the pool, OpenMP and neither what it takes from begin to end, whether it is shared, how many
// chunks the caller does, and what each of them takes. Prints for each the layer that it went to.
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <iostream>
#include <random>
#include <vector>

namespace std::chrono {

// Stands still but for what a test says that a chunk takes.
struct MadeUpClock {
  using duration = nanoseconds;
  using time_point = chrono::time_point<MadeUpClock, duration>;
  static inline time_point time{};
  static time_point now() { return time; }
};

}  // namespace std::chrono

#define steady_clock MadeUpClock
#include "engine/experience.hpp"
#undef steady_clock

namespace {

using fusedopt::LayerName;

struct Company {
  const char* name;
  // Of the k-th of so many jobs, with a number from 0 to 1 for chance.
  std::function<double(int k, double chance)> pool, openmp, serial;
  bool has_pool = true, has_openmp = true;
  int waking = 4;
};

double one(int, double) { return 1; }
auto always(double time) {
  return [time](int, double) { return time; };
}
// Mostly one time, and in one of so many jobs another.
auto mostly(double time, int seldom, double other) {
  return [=](int, double chance) { return chance * seldom < 1 ? other : time; };
}
// Between the two.
auto from_to(double least, double most) {
  return [=](int, double chance) { return least + chance * (most - least); };
}

constexpr int jobs = 20'000;
auto first_half(double time, double then) {
  return [=](int k, double) { return k < jobs / 2 ? time : then; };
}

void run(const Company& company) {
  fusedopt::Automatic automatic;
  std::minstd_rand random(1);
  std::uniform_real_distribution<double> chance(0, 1);
  double total = 0;
  int counts[4] = {};
  for (int k = 0; k < jobs; ++k) {
    const auto has_openmp = [&] { return company.has_openmp; };
    const LayerName layer = automatic.next(company.has_pool, has_openmp);
    const auto& time = layer == LayerName::pool     ? company.pool
                       : layer == LayerName::openmp ? company.openmp
                                                    : company.serial;
    const double took = time(k, chance(random));
    automatic.saw(layer, took, company.waking);
    total += took;
    ++counts[static_cast<int>(layer)];
  }
  const auto share = [&](LayerName layer) { return 1.0 * counts[static_cast<int>(layer)] / jobs; };
  std::printf("%s: %.4f %.4f %.4f %.4f\n", company.name, share(LayerName::pool),
              share(LayerName::openmp), share(LayerName::serial), total / jobs);
}

void run_jobs() {
  fusedopt::Automatic automatic;
  double pool, openmp, serial;
  int has_pool, has_openmp, waking;
  while (std::scanf("%lf %lf %lf %d %d %d", &pool, &openmp, &serial, &has_pool, &has_openmp,
                    &waking) == 6) {
    const LayerName layer = automatic.next(has_pool != 0, [&] { return has_openmp != 0; });
    const double time = layer == LayerName::pool     ? pool
                        : layer == LayerName::openmp ? openmp
                                                     : serial;
    automatic.saw(layer, time, waking);
    std::printf("%s %.17g\n", to_string(layer), automatic.alone());
  }
}

// Chunks take what stands in a list.
void take_time(const void* context, std::int64_t first, std::int64_t last) {
  const auto* const all = static_cast<const std::int64_t*>(context);
  for (; first < last; ++first) fusedopt::Clock::time += std::chrono::nanoseconds(all[first]);
}
void take_time_too(const void* context, std::int64_t first, std::int64_t last) {
  take_time(context, first, last);
}

void run_experience() {
  fusedopt::Experience experience;
  struct OnLayer {
    std::int64_t whole, shared, chunks, each;
  } on[3];
  int kind;
  std::int64_t count;
  while (std::cin >> kind >> count) {
    for (auto& [whole, shared, chunks, each] : on) std::cin >> whole >> shared >> chunks >> each;
    const LayerName layer = experience.next(true, [] { return true; });
    const OnLayer& here = on[static_cast<int>(layer) - 1];
    const std::vector<std::int64_t> times(static_cast<std::size_t>(here.chunks), here.each);
    const fusedopt::Job job{count, kind == 0 ? take_time : take_time_too, times.data()};
    fusedopt::Pace pace;
    for (std::int64_t chunk = 0; chunk < here.chunks; ++chunk) pace.run(job, chunk);
    experience.saw(layer, job, here.shared != 0, pace, std::chrono::nanoseconds(here.whole));
    std::printf("%s %.17g\n", to_string(layer), experience.alone());
  }
}

void run_paces() {
  std::int64_t expected;
  std::size_t count;
  while (std::cin >> expected >> count) {
    std::vector<std::int64_t> times(count);
    for (std::int64_t& time : times) std::cin >> time;
    const fusedopt::Job job{static_cast<std::int64_t>(count), take_time, times.data()};
    fusedopt::Pace pace;
    pace.expect(expected);
    for (std::int64_t chunk = 0; chunk < job.count; ++chunk) pace.run(job, chunk);
    std::cout << pace.of_chunk().value_or(std::chrono::nanoseconds(0)).count() << '\n';
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count > 1 && std::strcmp(arguments[1], "jobs") == 0) return run_jobs(), 0;
  if (count > 1 && std::strcmp(arguments[1], "pace") == 0) return run_paces(), 0;
  if (count > 1 && std::strcmp(arguments[1], "experience") == 0) return run_experience(), 0;
  const Company companies[] = {
      {"alone", from_to(0.5, 0.7), always(0.55), one},
      {"alone with hiccups", mostly(0.6, 300, 40), always(0.55), one, true, false},
      {"torch", from_to(0.95, 1.2), from_to(0.4, 0.7), one},
      {"torch, long jobs", from_to(0.95, 1.2), from_to(0.4, 0.7), one, true, true, 1},
      {"torch, where the pool helps a little", from_to(0.7, 1.1), from_to(0.4, 0.6), one},
      {"BLAS", from_to(0.97, 1.05), always(170), one},
      {"BLAS that pauses", mostly(1.02, 4, 0.6), mostly(170, 4, 0.6), one},
      {"busy cores", mostly(1.1, 50, 8), mostly(0.6, 50, 100), mostly(1, 50, 4)},
      {"its core is shared", from_to(1.1, 1.3), always(1.7), always(1.6)},
      {"torch, then alone", first_half(1.02, 0.55), first_half(0.5, 5), one},
      {"alone, then BLAS", first_half(0.55, 1.02), first_half(0.5, 170), one},
      {"no runtime", from_to(0.97, 1.05), always(0.5), one, true, false},
      {"no pool", one, always(0.5), one, false},
      {"no pool, BLAS", one, always(170), one, false},
  };
  for (const Company& company : companies) run(company);
}
