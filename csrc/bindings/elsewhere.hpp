// Parameters held elsewhere for a while: where their velocities alone would carry them, or where
// their averages are.
#pragma once

#include <memory>
#include <vector>

#include "bindings/holdings.hpp"
#include "bindings/rules.hpp"
#include "engine/arena.hpp"
#include "engine/plan.hpp"

namespace fusedopt {

class Elsewhere {
 public:
  // Throws where they aren't home, in the name of an action that can't be meanwhile.
  void require_home(const char* action) const;

  // Moves each parameter by so many times its velocity, a number for each group, while all rules
  // have a velocity; one without, as before its first step, stays. May run Python code first.
  void move_ahead(Holdings& held, const std::vector<double>& momenta);
  // Exchanges each parameter with its average; one without stays.
  void move_to_averages(Holdings& held);

  // Puts them back, bit for bit; nothing if they are there. One may have been frozen, reshaped or
  // moved since: throws after all others are back where that is impossible.
  void move_back(Holdings& held);

 private:
  // A rule for each parameter that has a partner: a velocity or an average.
  struct Rules {
    std::vector<ConfiguredRule> all;
    std::vector<std::size_t> of_parameter;
  };

  void make_room(const Parameters& parameters, const std::vector<char*>& velocities,
                 const StateMemory& memory);
  void run(const Parameters& parameters, const Rules& rules) const;

  const char* block_ = nullptr;  // what they are inside; null where they are home
  std::vector<char*> partners_;
  std::vector<void*> origins_;  // what parameters were; null until they are moved ahead first
  std::vector<std::shared_ptr<Arena>> arenas_;
};

}  // namespace fusedopt
