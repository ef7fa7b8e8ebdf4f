// The one thing a kernel object exports: a const table of the rules it was compiled for.
// Plain data and function pointers, the same for every instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "rules/interface.hpp"

namespace fusedopt {

enum class DType : int { float32, float64 };
constexpr int dtype_count = 2;

// The parameter, its gradient, the state arrays, the average, which has its place at the end.
constexpr int max_streams = 2 + max_states + 1;
constexpr int average_stream = max_streams - 1;

// Room for any rule's folded coefficients; only the rule that wrote them reads them.
struct Coefficients {
  alignas(std::max_align_t) unsigned char bytes[128];
};

// Arrays that a kernel goes over together: the parameter, its gradient, the states.
struct Piece {
  std::int64_t size;  // elements
  void* streams[max_streams];
};

// Goes over many pieces, as small ones take less time than what a call has to prepare. May ask for
// the memory of long ones ahead.
using Loop = void (*)(const Coefficients& folded, const Piece* pieces, std::int64_t count,
                      bool asks_ahead);

// What there is to do with arrays of one dtype besides, or to know of them: of at most so many
// elements in a row.
struct ArrayKernel {
  double (*sum_of_squares)(const void* block, std::int64_t count);
  double (*sum_of_squared_differences)(const void* block, const void* other, std::int64_t count);
  std::int64_t (*count_nonfinite)(const void* block, std::int64_t count);
  // Multiplies a gradient and cuts it off at a magnitude, into another array.
  void (*clip)(void* clipped, const void* gradient, std::int64_t count, double scale,
               double magnitude);
};

// One rule for one dtype.
struct Kernel {
  std::int64_t item_size;  // bytes
  // Folds the hyperparameters, in the order of RuleInfo::hyperparameters, for one step.
  void (*fold)(const double* hyperparameters, const StepContext& when, Coefficients& folded);
  Loop update;
  Loop traffic;  // moves the same memory and changes nothing: what update is measured against
  const ArrayKernel* arrays;
};

struct RuleInfo {
  const char* name;
  Names hyperparameters;
  Names states;
  bool reads_gradient;
  // The number that a state array, by its place in states, is filled with when it is made.
  double (*initial)(const double* hyperparameters, int state);
  Kernel kernels[dtype_count];  // indexed by DType
};

struct KernelTable {
  const RuleInfo* rules;
  int count;
  const ArrayKernel* arrays[dtype_count];  // indexed by DType
};

}  // namespace fusedopt
