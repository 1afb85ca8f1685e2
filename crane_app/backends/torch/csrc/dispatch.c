/* Which kernels this processor runs: the widest it has, or the one that is asked for by name. */
#include "kernels.h"

#include "arm.h"

#include <string.h>

static const struct kernels *const known[] = {
#if defined(__x86_64__)
    &kernels_avx512_bf16, &kernels_avx512, &kernels_avx2,
#endif
#if defined(WITH_I8MM)
    &kernels_neon_i8mm,
#endif
#if defined(WITH_DOTPROD)
    &kernels_neon_dotprod,
#endif
#if defined(__aarch64__)
    &kernels_neon,
#endif
    &kernels_plain,
};

const struct kernels *kernels = &kernels_plain;

static int runs(const struct kernels *which) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    int wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vnni");
    if (which == &kernels_avx512_bf16) return wide && __builtin_cpu_supports("avx512bf16");
    if (which == &kernels_avx512) return wide;
    if (which == &kernels_avx2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
#endif
#if defined(WITH_I8MM)
    if (which == &kernels_neon_i8mm) return arm_has_dotprod() && arm_has_i8mm();
#endif
#if defined(WITH_DOTPROD)
    if (which == &kernels_neon_dotprod) return arm_has_dotprod();
#endif
#if defined(__aarch64__)
    if (which == &kernels_neon) return 1;
#endif
    return which == &kernels_plain;
}

/* Take the kernels of that name, or the widest for ""; 0 if this processor has none such. */
int crane_choose(const char *name) {
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if ((!*name || !strcmp(name, known[i]->name)) && runs(known[i])) {
            kernels = known[i];
            return 1;
        }
    return 0;
}

const char *crane_kernels(void) { return kernels->name; }
