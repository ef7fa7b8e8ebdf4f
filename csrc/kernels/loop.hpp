// The only loop over elements. The compiler vectorizes it for each rule; tests/test_machine_code.py
// checks that it did.
#pragma once

#include "kernels/indices.hpp"
#include "kernels/table.hpp"
#include "rules/common.hpp"

namespace fusedopt::FUSEDOPT_ISA {
namespace {

// The arrays never overlap: the bindings see to that, and __restrict tells the compiler. Where the
// loop is inlined only the pragma is left of it; without one every short piece began with a
// comparison of all of its addresses.
template <typename Rule, typename T, typename... State>
[[gnu::always_inline]] inline void loop(const typename Rule::template Coefficients<T> c,
                                        std::int64_t count, T* __restrict p, const T* __restrict g,
                                        State* __restrict... state) {
#if defined(__clang__)
#pragma clang loop vectorize(assume_safety)
#elif defined(__GNUC__)
#pragma GCC ivdep
#elif defined(_MSC_VER)
#pragma loop(ivdep)
#endif
  for (std::int64_t i = 0; i < count; ++i) Rule::update(c, p[i], g[i], state[i]...);
}

// Asks for the cache line of an address, and doesn't wait for it.
inline void prefetch([[maybe_unused]] const void* address) {
#if defined(__GNUC__)
  __builtin_prefetch(address);
#endif
}

// In bytes of one stream. From memory, roots and quotients leave the processor no room to look far
// enough ahead by itself, and Adam took 15% longer than its memory traffic does. These were the
// best of blocks of 128 to 1024 bytes and distances of 512 to 4096.
constexpr std::int64_t prefetched_block = 256;
constexpr std::int64_t prefetch_distance = 1024;
// Not an argument of the loops: compared with one, a step of one small array took 45 ns more.
constexpr std::int64_t worth_prefetching = 16384;

// Not inlined: next to it the loop over many small pieces became 10% slower.
template <typename Rule, typename T, typename... State>
[[gnu::noinline]] void long_loop(const typename Rule::template Coefficients<T>& folded,
                                 std::int64_t count, bool asks_ahead, T* __restrict p,
                                 const T* __restrict g, State* __restrict... state) {
  const auto c = folded;
  constexpr std::int64_t item = sizeof(T), line = 64 / item;
  constexpr std::int64_t block = prefetched_block / item, distance = prefetch_distance / item;
  std::int64_t at = 0;
  for (; asks_ahead && at + distance + block <= count; at += block) {
    for (std::int64_t i = at + distance; i < at + distance + block; i += line) {
      prefetch(p + i);
      prefetch(g + i);
      (prefetch(state + i), ...);
    }
    loop<Rule, T>(c, block, p + at, g + at, (state + at)...);
  }
  loop<Rule, T>(c, count - at, p + at, g + at, (state + at)...);
}

template <typename Rule, typename T, int... k>
void over_pieces(const typename Rule::template Coefficients<T>& folded, const Piece* pieces,
                 std::int64_t count, bool asks_ahead, Indices<k...>) {
  const auto c = folded;  // in registers, which a reference isn't: an array could be behind it
  for (const Piece* piece = pieces; piece != pieces + count; ++piece) {
    auto* const p = static_cast<T*>(piece->streams[0]);
    const auto* const g = static_cast<const T*>(piece->streams[1]);
    if (piece->size * std::int64_t(sizeof(T)) < worth_prefetching) {
      loop<Rule, T>(c, piece->size, p, g, static_cast<T*>(piece->streams[2 + k])...);
    } else {
      long_loop<Rule, T>(folded, piece->size, asks_ahead, p, g,
                         static_cast<T*>(piece->streams[2 + k])...);
    }
  }
}

template <typename Rule, typename T>
void update(const Coefficients& folded, const Piece* pieces, std::int64_t count, bool asks_ahead) {
  using C = typename Rule::template Coefficients<T>;
  over_pieces<Rule, T>(*reinterpret_cast<const C*>(folded.bytes), pieces, count, asks_ahead,
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
void traffic(const Coefficients&, const Piece* pieces, std::int64_t count, bool asks_ahead) {
  const volatile T zero =
      0;  // the compiler would leave out what a zero that it knows makes useless
  over_pieces<Traffic, T>({zero}, pieces, count, asks_ahead, typename CountTo<states>::Result{});
}

}  // namespace
}  // namespace fusedopt::FUSEDOPT_ISA
