/* Which of ARM's extensions there are: for this compiler, and on this processor. */
#ifndef ARM_H
#define ARM_H

#if defined(__aarch64__)

/* Whether single files can be given an extension: by GCC 10 and Clang 16, which Apple counts as 15. Older ones have its
   instructions where the whole build is for it. */
#if defined(__apple_build_version__)
#define BY_FILE (__clang_major__ >= 15)
#elif defined(__clang__)
#define BY_FILE (__clang_major__ >= 16)
#else
#define BY_FILE (__GNUC__ >= 10)
#endif

#if BY_FILE || defined(__ARM_FEATURE_DOTPROD)
#define WITH_DOTPROD
#endif
#if BY_FILE || (defined(__ARM_FEATURE_DOTPROD) && defined(__ARM_FEATURE_MATMUL_INT8))
#define WITH_I8MM
#endif

int arm_has_dotprod(void);
int arm_has_i8mm(void);

#endif
#endif
