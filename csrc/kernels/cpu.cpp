#include "kernels/cpu.hpp"

#if defined(__x86_64__) || defined(_M_X64)

#include <array>
#include <cstdint>
#include <initializer_list>
#if defined(_MSC_VER)
#include <intrin.h>
#else
#include <cpuid.h>
#endif

// By hand rather than with __builtin_cpu_supports: that one knows the psABI levels only in newer
// compilers, and MSVC not at all.
namespace fusedopt {
namespace {

struct Registers {
  std::uint32_t eax, ebx, ecx, edx;
};

Registers cpuid(std::uint32_t leaf) {
#if defined(_MSC_VER)
  std::array<int, 4> r{};
  __cpuidex(r.data(), static_cast<int>(leaf), 0);
  return {std::uint32_t(r[0]), std::uint32_t(r[1]), std::uint32_t(r[2]), std::uint32_t(r[3])};
#else
  Registers r{};
  __cpuid_count(leaf, 0, r.eax, r.ebx, r.ecx, r.edx);
  return r;
#endif
}

// The register states the operating system saves (XCR0). Only call where CPUID shows OSXSAVE.
std::uint64_t saved_states() {
#if defined(_MSC_VER)
  return _xgetbv(0);
#else
  // As instruction bytes: the intrinsic needs a compiler flag that this file must not have.
  std::uint32_t low = 0, high = 0;
  __asm__ volatile(".byte 0x0f, 0x01, 0xd0" : "=a"(low), "=d"(high) : "c"(0));
  return (std::uint64_t(high) << 32) | low;
#endif
}

constexpr std::uint32_t bits(std::initializer_list<int> positions) {
  std::uint32_t mask = 0;
  for (const int position : positions) mask |= std::uint32_t(1) << position;
  return mask;
}

constexpr bool has(std::uint64_t value, std::uint64_t mask) { return (value & mask) == mask; }

// SSE3, SSSE3, FMA, CX16, SSE4.1, SSE4.2, MOVBE, POPCNT, XSAVE, OSXSAVE, AVX, F16C
constexpr std::uint32_t leaf1_ecx = bits({0, 9, 12, 13, 19, 20, 22, 23, 26, 27, 28, 29});
// BMI1, AVX2, BMI2
constexpr std::uint32_t leaf7_ebx_v3 = bits({3, 5, 8});
// AVX-512 F, DQ, CD, BW, VL
constexpr std::uint32_t leaf7_ebx_v4 = bits({16, 17, 28, 30, 31});
// LAHF, LZCNT
constexpr std::uint32_t extended1_ecx = bits({0, 5});
// XMM and YMM; with AVX-512 also the mask registers and both halves of ZMM
constexpr std::uint64_t states_v3 = bits({1, 2});
constexpr std::uint64_t states_v4 = bits({1, 2, 5, 6, 7});

}  // namespace

bool cpu_has_x86_64_v3() {
  if (cpuid(0).eax < 7 || cpuid(0x80000000).eax < 0x80000001) return false;
  return has(cpuid(1).ecx, leaf1_ecx) && has(cpuid(7).ebx, leaf7_ebx_v3) &&
         has(cpuid(0x80000001).ecx, extended1_ecx) && has(saved_states(), states_v3);
}

bool cpu_has_x86_64_v4() {
  return cpu_has_x86_64_v3() && has(cpuid(7).ebx, leaf7_ebx_v4) && has(saved_states(), states_v4);
}

bool cpu_gains_by_asking_ahead() {
  const Registers vendor = cpuid(0);  // "Auth" "enti" "cAMD"
  return !(vendor.ebx == 0x68747541 && vendor.edx == 0x69746e65 && vendor.ecx == 0x444d4163);
}

}  // namespace fusedopt

#else

namespace fusedopt {

bool cpu_has_x86_64_v3() { return false; }
bool cpu_has_x86_64_v4() { return false; }
bool cpu_gains_by_asking_ahead() { return true; }

}  // namespace fusedopt

#endif
