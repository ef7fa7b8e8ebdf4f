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
void over_pieces(const typename Rule::template Coefficients<T> c, const Piece* pieces,
                 std::int64_t count, Indices<k...>) {
  for (const Piece* piece = pieces; piece != pieces + count; ++piece) {
    loop<Rule, T>(c, piece->size, static_cast<T*>(piece->streams[0]),
                  static_cast<const T*>(piece->streams[1]),
                  static_cast<T*>(piece->streams[2 + k])...);
  }
}

template <typename Rule, typename T>
void update(const Coefficients& folded, const Piece* pieces, std::int64_t count) {
  using C = typename Rule::template Coefficients<T>;
  over_pieces<Rule, T>(*reinterpret_cast<const C*>(folded.bytes), pieces, count,
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
void traffic(const Coefficients&, const Piece* pieces, std::int64_t count) {
  const volatile T zero =
      0;  // the compiler would leave out what a zero that it knows makes useless
  over_pieces<Traffic, T>({zero}, pieces, count, typename CountTo<states>::Result{});
}

}  // namespace
}  // namespace fusedopt::FUSEDOPT_ISA
