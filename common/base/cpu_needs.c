#include "common/base/cpu.h"

#include <stddef.h>

const CpuFeature cpu_needs[] = {
#if defined __x86_64__
#    ifdef __SSE3__
    {"SSE3", CPU_1_ECX, 1u << 0},
#    endif
#    ifdef __SSSE3__
    {"SSSE3", CPU_1_ECX, 1u << 9},
#    endif
#    ifdef __SSE4_1__
    {"SSE4.1", CPU_1_ECX, 1u << 19},
#    endif
#    ifdef __SSE4_2__
    {"SSE4.2", CPU_1_ECX, 1u << 20},
#    endif
#    ifdef __POPCNT__
    {"POPCNT", CPU_1_ECX, 1u << 23},
#    endif
#    ifdef __SSE4A__
    {"SSE4a", CPU_80000001_ECX, 1u << 6},
#    endif
#    ifdef __AVX__
    {"AVX", CPU_1_ECX, 1u << 28},
    {"a system that saves AVX's registers", CPU_XCR0, 0x6},
#    endif
#    ifdef __F16C__
    {"F16C", CPU_1_ECX, 1u << 29},
#    endif
#    ifdef __FMA4__
    {"FMA4", CPU_80000001_ECX, 1u << 16},
#    endif
#    ifdef __XOP__
    {"XOP", CPU_80000001_ECX, 1u << 11},
#    endif
#    ifdef __TBM__
    {"TBM", CPU_80000001_ECX, 1u << 21},
#    endif
#    ifdef __MOVBE__
    {"MOVBE", CPU_1_ECX, 1u << 22},
#    endif
#    ifdef __LZCNT__
    {"LZCNT", CPU_80000001_ECX, 1u << 5},
#    endif
#    ifdef __BMI__
    {"BMI1", CPU_7_EBX, 1u << 3},
#    endif
#    ifdef __BMI2__
    {"BMI2", CPU_7_EBX, 1u << 8},
#    endif
#    ifdef __FMA__
    {"FMA", CPU_1_ECX, 1u << 12},
#    endif
#    ifdef __AVX2__
    {"AVX2", CPU_7_EBX, 1u << 5},
#    endif
#    ifdef __AVX512F__
    {"AVX-512F", CPU_7_EBX, 1u << 16},
    {"a system that saves AVX-512's registers", CPU_XCR0, 0xE6},
#    endif
#    ifdef __AVX512CD__
    {"AVX-512CD", CPU_7_EBX, 1u << 28},
#    endif
#    ifdef __AVX512BW__
    {"AVX-512BW", CPU_7_EBX, 1u << 30},
#    endif
#    ifdef __AVX512DQ__
    {"AVX-512DQ", CPU_7_EBX, 1u << 17},
#    endif
#    ifdef __AVX512VL__
    {"AVX-512VL", CPU_7_EBX, 1u << 31},
#    endif
#    ifdef __AVX512IFMA__
    {"AVX-512IFMA", CPU_7_EBX, 1u << 21},
#    endif
#    ifdef __AVX512VBMI__
    {"AVX-512VBMI", CPU_7_ECX, 1u << 1},
#    endif
#    ifdef __AVX512VBMI2__
    {"AVX-512VBMI2", CPU_7_ECX, 1u << 6},
#    endif
#    ifdef __AVX512VNNI__
    {"AVX-512VNNI", CPU_7_ECX, 1u << 11},
#    endif
#    ifdef __AVX512BITALG__
    {"AVX-512BITALG", CPU_7_ECX, 1u << 12},
#    endif
#    ifdef __AVX512VPOPCNTDQ__
    {"AVX-512VPOPCNTDQ", CPU_7_ECX, 1u << 14},
#    endif
#    ifdef __GFNI__
    {"GFNI", CPU_7_ECX, 1u << 8},
#    endif
#    ifdef __AVXVNNI__
    {"AVX-VNNI", CPU_7_1_EAX, 1u << 4},
#    endif
#    ifdef __AVX512BF16__
    {"AVX-512BF16", CPU_7_1_EAX, 1u << 5},
#    endif
#    ifdef __AVX512FP16__
    {"AVX-512FP16", CPU_7_EDX, 1u << 23},
#    endif
#elif defined __aarch64__
#    ifdef __ARM_FEATURE_ATOMICS
    {"LSE", CPU_HWCAP, 1u << 8},
#    endif
#    ifdef __ARM_FEATURE_FP16_VECTOR_ARITHMETIC
    {"FP16", CPU_HWCAP, 1u << 10},
#    endif
#    ifdef __ARM_FEATURE_DOTPROD
    {"DotProd", CPU_HWCAP, 1u << 20},
#    endif
#    ifdef __ARM_FEATURE_SVE
    {"SVE", CPU_HWCAP, 1u << 22},
#    endif
#    ifdef __ARM_FEATURE_SVE2
    {"SVE2", CPU_HWCAP2, 1u << 1},
#    endif
#endif
    {NULL, 0, 0},
};
