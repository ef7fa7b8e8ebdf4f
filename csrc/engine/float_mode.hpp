// The processor's floating-point mode while kernels run.
#pragma once

#include <atomic>
#include <cstdint>

#if defined(__SSE2__) || defined(_M_X64)
#include <xmmintrin.h>
#endif

namespace fusedopt {

// Whether kernels flush subnormal inputs and results to zero. On by default: a moment whose
// gradient stays zero decays into the subnormals and stays there, many times slower to compute
// with.
inline std::atomic<bool> flush_denormal{true};

// For its lifetime, on the calling thread: round to nearest, no traps, subnormals flushed or not.
// The mode is set whole, so that results do not depend on what other code left in it, and put
// back whole, exception flags included, so that other code never sees ours.
class ScopedFloatMode {
 public:
#if defined(__SSE2__) || defined(_M_X64)
  static constexpr bool can_flush = true;
  explicit ScopedFloatMode(bool flush) : saved_(_mm_getcsr()) {
    constexpr unsigned all_masked_to_nearest = 0x1f80, flush_to_zero = 0x8000, inputs_too = 0x0040;
    _mm_setcsr(all_masked_to_nearest | (flush ? flush_to_zero | inputs_too : 0));
  }
  ~ScopedFloatMode() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#elif defined(__aarch64__) && !defined(_MSC_VER)
  static constexpr bool can_flush = true;
  explicit ScopedFloatMode(bool flush) {
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved_));
    __asm__ volatile("mrs %0, fpsr" : "=r"(saved_flags_));
    constexpr std::uint64_t flush_inputs_and_results = std::uint64_t(1) << 24;
    const std::uint64_t mode = flush ? flush_inputs_and_results : 0;
    __asm__ volatile("msr fpcr, %0" : : "r"(mode));
  }
  ~ScopedFloatMode() {
    __asm__ volatile("msr fpcr, %0" : : "r"(saved_));
    __asm__ volatile("msr fpsr, %0" : : "r"(saved_flags_));
  }

 private:
  std::uint64_t saved_, saved_flags_;
#else
  static constexpr bool can_flush = false;
  explicit ScopedFloatMode(bool) {}
  ~ScopedFloatMode() {}
#endif

 public:
  ScopedFloatMode(const ScopedFloatMode&) = delete;
  ScopedFloatMode& operator=(const ScopedFloatMode&) = delete;
};

}  // namespace fusedopt
