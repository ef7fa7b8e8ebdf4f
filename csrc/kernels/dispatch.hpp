// Which instruction sets this build has, which this machine can run, and the one in use.
#pragma once

#include <string_view>
#include <vector>

#include "kernels/table.hpp"

namespace fusedopt {

struct InstructionSet {
  const char* name;
  bool available;  // the CPU has it and the operating system saves its registers
  const KernelTable* kernels;
};

// Narrowest first.
const std::vector<InstructionSet>& built_instruction_sets();

// The set named by forced, or the widest available one where that is empty. Throws
// std::invalid_argument, with a text for the user, where the forced one is unknown or not
// available.
const InstructionSet& choose_instruction_set(std::string_view forced);

}  // namespace fusedopt
