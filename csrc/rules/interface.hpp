// What a rule tells the rest of the library about itself, and what it is told of a step. Plain
// data, the same for every instruction set.
#pragma once

#include <cstdint>

namespace fusedopt {

constexpr int max_states = 3;
constexpr int max_hyperparameters = 16;

// A short list of names; rules list their state arrays in the order update() takes them.
struct Names {
  const char* items[max_hyperparameters];
  int count;
};

// When and how a parameter is updated: which of its steps this is, counted from 1; whether state it
// needs was made for this step, so that it holds nothing learnt yet; and what its gradient is
// multiplied by.
struct StepContext {
  std::int64_t step;
  bool fresh;
  double gradient_scale = 1;
};

}  // namespace fusedopt
