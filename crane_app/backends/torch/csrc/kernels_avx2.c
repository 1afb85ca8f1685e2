/* x86-64 with AVX2, FMA and F16C. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif
#include "lanes_avx2.h"
#include "table.h"

TABLE(avx2)
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
