/* What an instruction set gives: one table of functions for each, of which one is used (dispatch.c). */
#ifndef KERNELS_H
#define KERNELS_H

#include "crane.h"

/* The keys, or the values, of one key head of a row: [capacity, D], and of I8 their scales [capacity]. */
struct held {
    uint8_t *numbers;
    float *scales;
};

static inline int held_bytes(int format) { return format == F32 ? 4 : format == I8 ? 1 : 2; }

struct kernels {
    const char *name;
    void (*product)(int format, int exact, const uint8_t *strips, int count, int columns, int n, const uint8_t *x,
                    int64_t x_stride, float *y, int64_t y_stride);
    void (*expand_tile)(int format, const uint8_t *tile, float *out);
    void (*prepare)(int kind, const float *x, int from, int to, int columns, int wide, uint8_t *out);
    void (*rms_norm)(const float *x, const float *w, float eps, int width, float *y);
    void (*add)(const float *x, const float *with, int width, float *y);
    void (*swiglu)(const float *gate, const float *up, int width, float *y);
    void (*rope)(float *x, const float *cos, const float *sin, int turned, int pairs);
    void (*keep)(int format, const float *x, int dim, uint8_t *out, float *scale);
    int (*best)(const float *x, int count, float *value);
    void (*attend)(int format, int dim, const float *q, int heads, struct held keys, struct held values, int first,
                   int count, float scale, float *out);
    int64_t (*stream)(const uint8_t *bytes, int64_t size);
    void (*top)(const float *x, int count, float temperature, int keep, int32_t *ids);
    float (*mass)(const float *x, int count, float temperature, float most);
    int (*pick)(const float *x, int count, float temperature, float min_p, float noise);
};

extern const struct kernels kernels_plain, kernels_avx2, kernels_avx512, kernels_avx512_bf16;
extern const struct kernels kernels_neon, kernels_neon_dotprod, kernels_neon_i8mm;
extern const struct kernels *kernels;

#endif
