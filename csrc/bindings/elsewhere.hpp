// Parameters held elsewhere for a while: where their velocities alone would carry them, or where
// their averages are.
#pragma once

#include <memory>
#include <vector>

#include "bindings/parameters.hpp"
#include "bindings/rules.hpp"
#include "bindings/state_memory.hpp"
#include "engine/arena.hpp"
#include "engine/plan.hpp"

namespace fusedopt {

class Elsewhere {
 public:
  // Throws where they aren't home, in the name of an action that can't be meanwhile.
  void require_home(const char* action) const;

  // Room for copies of the parameters that have a velocity, before they are moved ahead.
  void make_room(const Parameters& parameters, const std::vector<char*>& velocities,
                 const StateMemory& memory);
  // Moves each parameter by so many times its velocity; one without, a null, stays. The parameters
  // are as they were bound.
  void move_ahead(const Parameters& parameters, std::vector<char*> velocities,
                  const std::vector<double>& momenta);
  // Exchanges each parameter with its average; one without stays.
  void exchange(const Parameters& parameters, std::vector<char*> averages);

  // Puts them back, bit for bit; nothing if they are there. One may have been frozen, reshaped or
  // moved since: throws after all others are back where that is impossible.
  void move_back(Parameters& parameters);

 private:
  // A rule for each parameter that has a partner: a velocity or an average.
  struct Rules {
    std::vector<ConfiguredRule> all;
    std::vector<std::size_t> of_parameter;
  };

  void run(const Parameters& parameters, const Rules& rules) const;

  const char* block_ = nullptr;  // what they are inside; null where they are home
  std::vector<char*> partners_;
  std::vector<void*> origins_;  // what parameters were; null until they are moved ahead first
  std::vector<std::shared_ptr<Arena>> arenas_;
};

}  // namespace fusedopt
