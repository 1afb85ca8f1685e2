/* What this ARM processor has, as its system tells it; what a system does not tell is not there. */
#include "arm.h"

#if defined(__aarch64__)
#if defined(__linux__)
#include <sys/auxv.h>

/* Bits of asm/hwcap.h, which older systems' headers lack. */
int arm_has_dotprod(void) { return getauxval(AT_HWCAP) >> 20 & 1; }
int arm_has_i8mm(void) { return getauxval(AT_HWCAP2) >> 13 & 1; }

#elif defined(__APPLE__)
#include <stddef.h>
#include <sys/sysctl.h>

static int told(const char *name) {
    int value = 0;
    size_t size = sizeof value;
    return !sysctlbyname(name, &value, &size, NULL, 0) && value;
}

int arm_has_dotprod(void) { return told("hw.optional.arm.FEAT_DotProd"); }
int arm_has_i8mm(void) { return told("hw.optional.arm.FEAT_I8MM"); }

#elif defined(_WIN32)
#include <windows.h>

/* PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE and PF_ARM_V82_I8MM_INSTRUCTIONS_AVAILABLE, which older headers lack. */
int arm_has_dotprod(void) { return IsProcessorFeaturePresent(43) != 0; }
int arm_has_i8mm(void) { return IsProcessorFeaturePresent(66) != 0; }

#else
int arm_has_dotprod(void) { return 0; }
int arm_has_i8mm(void) { return 0; }
#endif
#endif
