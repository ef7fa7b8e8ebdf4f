#include "kernels/dispatch.hpp"

#include <stdexcept>
#include <string>

#include "kernels/cpu.hpp"

namespace fusedopt {

// Each kernel object exports its table under the name of its instruction set; csrc/CMakeLists.txt
// says which of them this build has.
namespace baseline {
extern const KernelTable kernels;
}
#ifdef FUSEDOPT_BUILT_avx2
namespace avx2 {
extern const KernelTable kernels;
}
#endif
#ifdef FUSEDOPT_BUILT_avx512
namespace avx512 {
extern const KernelTable kernels;
}
#endif

const std::vector<InstructionSet>& built_instruction_sets() {
  static const std::vector<InstructionSet> sets = {
      {"baseline", true, &baseline::kernels},
#ifdef FUSEDOPT_BUILT_avx2
      {"avx2", cpu_has_x86_64_v3(), &avx2::kernels},
#endif
#ifdef FUSEDOPT_BUILT_avx512
      {"avx512", cpu_has_x86_64_v4(), &avx512::kernels},
#endif
  };
  return sets;
}

const InstructionSet& choose_instruction_set(std::string_view forced) {
  const auto& sets = built_instruction_sets();
  const InstructionSet* widest = &sets.front();
  std::string available;
  for (const InstructionSet& set : sets) {
    if (forced == set.name) {
      if (set.available) return set;
      throw std::invalid_argument(
          "FUSEDOPT_ISA=" + std::string(forced) +
          ": this CPU (or its operating system) lacks that instruction set");
    }
    if (!set.available) continue;
    widest = &set;
    available += (available.empty() ? "" : ", ") + std::string(set.name);
  }
  if (!forced.empty()) {
    throw std::invalid_argument("FUSEDOPT_ISA=" + std::string(forced) +
                                ": unknown to this build; available here: " + available);
  }
  return *widest;
}

}  // namespace fusedopt
