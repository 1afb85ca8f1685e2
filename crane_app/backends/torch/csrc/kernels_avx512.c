/* x86-64 with AVX-512 (F, BW, VL, DQ, VNNI), Ice Lake and later. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")
#endif
#include "lanes_avx512.h"
#include "table.h"

TABLE(avx512)
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
