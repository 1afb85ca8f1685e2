/* The native library's plain C interface, as backends/torch/native.py calls it.

   Letters: N tokens of a step, M of them with logits, H query heads, G key heads, D head size. */
#ifndef CRANE_H
#define CRANE_H

#include <stddef.h>
#include <stdint.h>

enum format {
    F32, F16, BF16,
    Q8_0, Q4_0, Q5_0, Q4_1, Q5_1, IQ4_NL,    /* in blocks of 32 columns */
    Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_XS,    /* of 256 */
    A4_BF16, A4_F16, A8_BF16, A8_F16,        /* affine groups */
    FORMATS
};

enum { I8 = FORMATS }; /* of a cache alone: bytes with a scale for each key and each value */

/* A matrix [rows, columns] in strips of 16 rows (pack.c says how a strip lies).
   bias: [rows], or NULL. */
struct matrix {
    int32_t format, rows, columns, exact;
    const uint8_t *strips;
    const float *bias;
};

enum { STRIP = 16, TILE = 64, PARTS = 3 };

/* Part of one of a program's buffers, so many floats from the start of each token; buffer -1: none. */
struct view {
    int32_t buffer, offset;
};

enum kind { EMBED, ROTARY, NORM, ADD, TAKE, PREPARE, PRODUCT, SWIGLU, TURN, ATTEND };

/* One instruction; which fields it reads is said where it runs (step.c).
   choosing: it runs over the M rows with logits rather than all N. */
struct instruction {
    int32_t kind, choosing, prepares, filling;
    int32_t width, heads, groups, dim, turned, pairs, layer, window, parts, gated;
    float eps, scale;
    struct view from, with, to, prepared, rotary, q, k, v, part_to[PARTS];
    const struct matrix *matrices[PARTS];
    const float *weight, *q_before, *k_before, *q_after, *k_after, *inverse;
};

struct buffer {
    uint8_t *base;
    int64_t stride; /* bytes from token to token */
};

struct program {
    const struct instruction *code;
    int32_t length, layers, cache_format;
};

/* Everything that changes from step to step.
   row: [N], to which of the step's rows a token belongs; place: [N], where in it; position: [N], by what it is turned.
   keys, values: [rows, layers] pointers to [G, capacity, D], behind which I8 has its scales, floats [G, capacity];
   capacities: [rows].
   out: [M], which tokens have logits. */
struct step {
    int32_t count, chosen, threads;
    const int32_t *tokens, *row, *place, *position, *out;
    const int64_t *keys, *values;
    const int32_t *capacities;
    const struct buffer *buffers;
};

enum { SOURCES = 3 };

/* A matrix whose rows lie in files as `format` has them, from byte `start` on. heads: whose rows lie in pairs, or 0.
   size: columns of a group; then scales and biases, [rows, groups], lie where the other two begin. */
struct lying {
    int32_t format, rows, columns, heads, size, file[SOURCES];
    int64_t start[SOURCES];
    uint8_t *strips;
};

/* Matrices to be read. next, done: pieces that are taken, and bytes of the file that are packed. stop: set by whoever
   gives up. fault: what ended it, an errno or -1 at the end of a file, and in which matrix. */
struct filling {
    const struct lying *matrices;
    int64_t next, done;
    int32_t count, threads, stop, fault, faulty;
};

#define API __attribute__((visibility("default")))

API const char *crane_kernels(void);
API int crane_choose(const char *name);
API int64_t crane_strip_bytes(int32_t format, int32_t columns);
API int64_t crane_prepared_bytes(int32_t format, int32_t columns, int32_t exact);
API int32_t crane_prepared_for(int32_t format, int32_t exact);
API int32_t crane_tile_columns(int32_t format);
API int crane_pack(int32_t format, const uint8_t *source, int64_t source_stride, int32_t rows, int32_t columns,
                   uint8_t *strips, int32_t threads);
API void crane_pack_groups(int32_t format, const uint8_t *packed, const uint16_t *scales, const uint16_t *biases,
                           int32_t size, int32_t rows, int32_t columns, uint8_t *strips, int32_t threads);
API void crane_fill(struct filling *filling);
API void crane_expand(const struct matrix *matrix, const int32_t *index, int32_t count, float *out, int32_t threads);
API void crane_product(const struct matrix *matrix, const float *x, int32_t count, float *y, int64_t stride,
                       int32_t threads);
API void crane_run(const struct program *program, const struct step *step);
API void crane_best(const float *x, int32_t rows, int32_t width, int64_t stride, int32_t *found, int32_t threads);
API void crane_top(const float *x, int32_t rows, int32_t width, int64_t stride, const float *temperature, int32_t keep,
                   int32_t *ids, float *total, int32_t threads);
API void crane_pick(const float *x, int32_t rows, int32_t width, int64_t stride, const float *temperature,
                    const float *min_p, const float *noise, int32_t *found, int32_t threads);
API double crane_stream(const uint8_t *bytes, int64_t size, int32_t threads);

#endif
