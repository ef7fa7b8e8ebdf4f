// A few steps of every rule by every instruction set that this machine has, on one thread and on
// several. Prints a hash of all that is in memory then: the same, whatever compiler built this.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <vector>

#include "engine/plan.hpp"
#include "engine/threads.hpp"
#include "kernels/dispatch.hpp"

namespace {

using fusedopt::InstructionSet;
using fusedopt::Kernel;
using fusedopt::RuleInfo;

constexpr int steps = 12;
constexpr std::int64_t sizes[] = {0,  1,  3,  4,  7,  8,   15,   16,  17,
                                  31, 33, 63, 64, 65, 127, 1000, 8193};

double value_of(std::string_view hyperparameter) {
  constexpr struct {
    std::string_view name;
    double value;
  } values[] = {{"lr", 0.013},          {"momentum", 0.9}, {"beta1", 0.9},  {"beta2", 0.999},
                {"alpha", 0.99},        {"eps", 1e-8},     {"decay", 0.98}, {"back", 0.5},
                {"weight_decay", 0.01}, {"nesterov", 1},   {"velocity", 0}, {"bias_correction", 1}};
  for (const auto& known : values) {
    if (known.name == hyperparameter) return known.value;
  }
  return 0;
}

std::uint64_t mixed(std::uint64_t x) {  // the finalizer of SplitMix64
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// One of any sign, from 1/16 to 1, with 24 bits in use: exact in either type.
template <typename T>
T number(std::uint64_t seed) {
  const std::uint64_t bits = mixed(seed);
  const auto significand = static_cast<std::int32_t>(bits >> 40 | 1 << 23 | 1);
  const int exponent = -24 - static_cast<int>(bits & 3);
  return static_cast<T>(std::ldexp(bits & 4 ? -significand : significand, exponent));
}

template <typename T>
void fill(std::vector<T>& array, std::uint64_t seed) {
  for (std::size_t k = 0; k < array.size(); ++k) array[k] = number<T>(seed << 32 | k);
}

class Hash {
 public:
  void add(const void* bytes, std::size_t count) {  // FNV-1a
    const auto* at = static_cast<const unsigned char*>(bytes);
    for (std::size_t k = 0; k < count; ++k) value_ = (value_ ^ at[k]) * 0x100000001b3;
  }
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325;
};

template <typename T>
std::uint64_t run(const RuleInfo& rule, const Kernel& kernel) {
  double hyperparameters[fusedopt::max_hyperparameters];
  for (int k = 0; k < rule.hyperparameters.count; ++k) {
    hyperparameters[k] = value_of(rule.hyperparameters.items[k]);
  }
  // By parameter: itself, its gradient, its state.
  std::vector<std::vector<std::vector<T>>> arrays;
  fusedopt::Plan plan;
  const std::size_t coefficients = plan.add_coefficients(kernel, hyperparameters, 1, true);
  for (const std::int64_t size : sizes) {
    auto& streams = arrays.emplace_back(2 + std::size_t(rule.states.count));
    for (std::size_t k = 0; k < streams.size(); ++k) {
      const double initial = k < 2 ? 0 : rule.initial(hyperparameters, static_cast<int>(k) - 2);
      streams[k].assign(static_cast<std::size_t>(size), static_cast<T>(initial));
    }
    fill(streams[0], static_cast<std::uint64_t>(size));
  }
  for (auto& streams : arrays) {
    const auto size = static_cast<std::int64_t>(streams[0].size());
    fusedopt::Piece& piece = plan.add(kernel, coefficients, size);
    std::fill(std::begin(piece.streams), std::end(piece.streams), nullptr);
    for (std::size_t k = 0; k < streams.size(); ++k) piece.streams[k] = streams[k].data();
  }
  fusedopt::GradientWork clipped;
  clipped.magnitude = 0.75;
  for (std::uint64_t step = 1; step <= steps; ++step) {
    for (std::size_t k = 0; k < arrays.size(); ++k) fill(arrays[k][1], step << 8 | k);
    if (step > 1) plan.set_step(coefficients, static_cast<std::int64_t>(step));
    plan.fold();
    plan.run(&Kernel::update, step % 3 == 0 ? clipped : fusedopt::GradientWork{});
  }
  Hash hash;
  for (const auto& streams : arrays) {
    for (const auto& stream : streams) hash.add(stream.data(), stream.size() * sizeof(T));
  }
  return hash.value();
}

void run(const InstructionSet& set, int threads) {
  fusedopt::set_num_threads(threads);
  for (int k = 0; k < set.kernels->count; ++k) {
    const RuleInfo& rule = set.kernels->rules[k];
    const std::uint64_t single = run<float>(rule, rule.kernels[0]);
    const std::uint64_t twice = run<double>(rule, rule.kernels[1]);
    std::printf("%-8s %d %-26s %016llx %016llx\n", set.name, threads, rule.name,
                static_cast<unsigned long long>(single), static_cast<unsigned long long>(twice));
  }
}

}  // namespace

int main() {
  // So that even little work is shared, in many chunks.
  fusedopt::grid.chunk = 64;
  fusedopt::grid.serial_below = 0;
  for (const InstructionSet& set : fusedopt::built_instruction_sets()) {
    if (!set.available) continue;
    for (const int threads : {1, 4}) run(set, threads);
  }
}
