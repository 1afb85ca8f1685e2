/* ARMv8.2-A with products of signed bytes (FEAT_DotProd): Cortex-A76, Neoverse N1, Apple M1 and later. */
#include "arm.h"

#if defined(WITH_DOTPROD)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif
#define LANES_DOTPROD
#include "lanes_neon.h"
#include "table.h"

TABLE(neon_dotprod)
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
