// Parameters held ahead, where their velocities alone would carry them, for a while.
#pragma once

#include <memory>
#include <vector>

#include "bindings/parameters.hpp"
#include "engine/arena.hpp"
#include "engine/plan.hpp"

namespace fusedopt {

class Lookahead {
 public:
  // Throws, in the name of an action that can't be meanwhile.
  void require_none(const char* action) const;

  // Moves each parameter by so many times its velocity; one without, a null, stays. The parameters
  // are as they were bound.
  void move_ahead(const Parameters& parameters, std::vector<char*> velocities,
                  const std::vector<double>& momenta);

  // Puts them back, bit for bit; nothing if they are there. One may have been frozen, reshaped or
  // moved since: throws after all others are back where that is impossible.
  void move_back(const Parameters& parameters);

 private:
  void make_room(const Parameters& parameters);
  Plan plan(const Parameters& parameters, const std::vector<double>& momenta, bool back) const;

  bool is_ahead_ = false;
  std::vector<char*> velocities_;  // of those that are ahead
  std::vector<void*> origins_;     // what parameters were; null until they are moved first
  std::vector<std::shared_ptr<Arena>> arenas_;
};

}  // namespace fusedopt
