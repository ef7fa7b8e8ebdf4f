// The threading layers of this process, and which of them jobs go to.
#pragma once

#include <array>
#include <string>
#include <vector>

namespace fusedopt {

enum class LayerName { automatic, pool, openmp, serial };
constexpr std::array<const char*, 4> layer_names{"auto", "pool", "openmp", "serial"};

constexpr const char* to_string(LayerName name) {
  return layer_names[static_cast<std::size_t>(name)];
}

std::vector<LayerName> built_layers();
LayerName chosen_layer();
// Returns why this one can't be had; or nothing, where it is now the chosen one. Where OpenMP's
// threads stayed behind it may be chosen all the same, and others take its place.
std::string choose_layer(LayerName name, bool even_if_stayed_behind = false);
// What the calling thread's next job goes to; automatic stands for one of the others.
LayerName layer_in_effect() noexcept;

}  // namespace fusedopt
