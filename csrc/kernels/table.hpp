// The one thing a kernel object exports: a const table of the rules it was compiled for.
// Plain data and function pointers, the same for every instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fusedopt {

enum class DType : int { float32, float64 };
constexpr int dtype_count = 2;

constexpr int max_states = 3;
constexpr int max_streams = 2 + max_states;  // the parameter, its gradient, the state arrays
constexpr int max_hyperparameters = 16;

// A short list of names; rules list their state arrays in the order update() takes them.
struct Names {
  const char* items[max_hyperparameters];
  int count;
};

// When a parameter is updated: which of its steps this is, counted from 1, and whether state it
// needs was made for this step, so that it holds zeros and nothing learnt yet.
struct StepContext {
  std::int64_t step;
  bool fresh;
};

// Room for any rule's folded coefficients; only the rule that wrote them reads them.
struct Coefficients {
  alignas(std::max_align_t) unsigned char bytes[128];
};

// One rule for one dtype.
struct Kernel {
  // Folds the hyperparameters, in the order of RuleInfo::hyperparameters, for one step.
  void (*fold)(const double* hyperparameters, const StepContext& when, Coefficients& folded);
  // Updates elements [begin, begin + count) of the streams: parameter, gradient, states.
  void (*run)(const Coefficients& folded, void* const* streams, std::int64_t begin,
              std::int64_t count);
};

struct RuleInfo {
  const char* name;
  Names hyperparameters;
  Names states;
  Kernel kernels[dtype_count];  // indexed by DType
};

struct KernelTable {
  const RuleInfo* rules;
  int count;
};

}  // namespace fusedopt
