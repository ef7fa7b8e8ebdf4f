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
void over_streams(const typename Rule::template Coefficients<T>& c, void* const* streams,
                  std::int64_t begin, std::int64_t count, Indices<k...>) {
  loop<Rule, T>(c, count, static_cast<T*>(streams[0]) + begin,
                static_cast<const T*>(streams[1]) + begin,
                (static_cast<T*>(streams[2 + k]) + begin)...);
}

template <typename Rule, typename T>
void update(const Coefficients& folded, void* const* streams, std::int64_t begin,
            std::int64_t count) {
  using C = typename Rule::template Coefficients<T>;
  over_streams<Rule, T>(*reinterpret_cast<const C*>(folded.bytes), streams, begin, count,
                        typename CountTo<Rule::states.count>::Result{});
}

// The roofline of every rule with so many states: loads and stores what such a rule does, and does
// next to nothing in between. It has no place in the list of rules: it optimizes nothing.
struct Traffic {
  template <typename T>
  struct Coefficients {
    T zero;
  };

  template <typename T, typename... State>
  static void update(const Coefficients<T>& c, T& p, T g, State&... state) {
    const T nothing = c.zero * g;
    p = p + nothing;
    ((state = state + nothing), ...);
  }
};

template <int states, typename T>
void traffic(const Coefficients&, void* const* streams, std::int64_t begin, std::int64_t count) {
  // begin is never negative; the compiler, who would leave out all that a plain zero makes
  // unnecessary, can't know.
  over_streams<Traffic, T>({T(begin < 0)}, streams, begin, count,
                           typename CountTo<states>::Result{});
}

}  // namespace
}  // namespace fusedopt::FUSEDOPT_ISA
