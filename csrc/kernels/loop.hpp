// The only loop over elements. The compiler vectorizes it for each rule; tests/test_machine_code.py
// checks that it did.
#pragma once

#include "kernels/table.hpp"
#include "rules/common.hpp"

namespace fusedopt::FUSEDOPT_ISA {
namespace {

template <int... k>
struct Indices {};

template <int count, int... k>
struct CountTo : CountTo<count - 1, count - 1, k...> {};

template <int... k>
struct CountTo<0, k...> {
  using Result = Indices<k...>;
};

// The arrays never overlap: the bindings see to that, and __restrict tells the compiler.
template <typename Rule, typename T, typename... State>
void loop(const typename Rule::template Coefficients<T> c, std::int64_t count, T* __restrict p,
          const T* __restrict g, State* __restrict... state) {
  for (std::int64_t i = 0; i < count; ++i) Rule::update(c, p[i], g[i], state[i]...);
}

template <typename Rule, typename T, int... k>
void run_states(const Coefficients& folded, void* const* streams, std::int64_t begin,
                std::int64_t count, Indices<k...>) {
  using C = typename Rule::template Coefficients<T>;
  loop<Rule, T>(*reinterpret_cast<const C*>(folded.bytes), count,
                static_cast<T*>(streams[0]) + begin, static_cast<const T*>(streams[1]) + begin,
                (static_cast<T*>(streams[2 + k]) + begin)...);
}

template <typename Rule, typename T>
void run(const Coefficients& folded, void* const* streams, std::int64_t begin, std::int64_t count) {
  run_states<Rule, T>(folded, streams, begin, count,
                      typename CountTo<Rule::states.count>::Result{});
}

}  // namespace
}  // namespace fusedopt::FUSEDOPT_ISA
