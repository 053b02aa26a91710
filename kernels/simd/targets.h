// Which instruction sets the vectorised kernels are compiled for; included before Highway's own headers. The
// best one that the CPU has is chosen at run time. Left out: SSSE3 (nothing it has and SSE4 lacks is in use)
// and the scalable vectors of Arm and RISC-V, whose types cannot be held in arrays of accumulators (NEON
// serves Arm).
#pragma once
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
