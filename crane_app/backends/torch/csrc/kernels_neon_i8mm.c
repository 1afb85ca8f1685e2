/* ARMv8.2-A with products of unsigned bytes and of matrices of bytes (FEAT_I8MM): Neoverse V1 and N2, Apple M2 and later. */
#include "arm.h"

#if defined(WITH_I8MM)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod,i8mm"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+dotprod+i8mm")
#endif
#define LANES_DOTPROD
#define LANES_I8MM
#include "lanes_neon.h"
#include "table.h"
#include "pairs.h"

TABLE_WITH(neon_i8mm, product_by_pairs)
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
