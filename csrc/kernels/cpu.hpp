// What the processor and the operating system support, at the levels of the x86-64 psABI.
#pragma once

namespace fusedopt {

bool cpu_has_x86_64_v3();  // AVX2, FMA, BMI, ...
bool cpu_has_x86_64_v4();  // and AVX-512 F, BW, CD, DQ, VL

}  // namespace fusedopt
