/* Products of integers with four rows of activations and more, by FEAT_I8MM: one instruction takes two rows of weights, two
   of activations and eight columns. Below four rows, laying weights side by side would cost more than it saves.

   The integers are those of product.h, and sums of floats run in its order: a row has the same bits either way. */
#include "blocks.h"

/* whole [n]: the products of 8 * `many` columns of weights with those of x [n], an even number, from column `at` on. */
INLINE void multiply_pairs(const b64 *bytes, int many, int n, const uint8_t *const *x, int at, w16 *whole) {
    int8x16_t beside[ROWS / 2][4];
    for (int r = 0; r < n; r++)
        for (int j = 0; j < many; j++) {
            int8x8_t own = vld1_s8((const int8_t *)x[r] + at + 8 * j);
            beside[r / 2][j] = r % 2 ? vcombine_s8(vget_low_s8(beside[r / 2][j]), own) : vcombine_s8(own, own);
        }
    for (int i = 0; i < 4; i++)
        for (int r = 0; r < n; r += 2) {
            int32x4_t low = vdupq_n_s32(0), high = low; /* of weights 4i.. and 4i + 2..: [2 weights][2 rows] */
            for (int j = 0; j < many; j++) {
                uint32x4_t first = vreinterpretq_u32_u8(bytes[2 * j].at[i]);
                uint32x4_t second = vreinterpretq_u32_u8(bytes[2 * j + 1].at[i]);
                low = vusmmlaq_s32(low, vreinterpretq_u8_u32(vzip1q_u32(first, second)), beside[r / 2][j]);
                high = vusmmlaq_s32(high, vreinterpretq_u8_u32(vzip2q_u32(first, second)), beside[r / 2][j]);
            }
            whole[r].at[i] = vuzp1q_s32(low, high);
            whole[r + 1].at[i] = vuzp2q_s32(low, high);
        }
}

INLINE void dot_pairs(int format, const uint8_t *tile, int columns, int n, const uint8_t *const *x, v16 *sum) {
    int blocks = tile_columns(format) / 32;
    for (int r = 0; r < n; r++) sum[r] = v_set(0);
    for (int first = 0; first < columns / 32; first += blocks, tile += tile_bytes(format))
        for (int part = 0; part < blocks; part++) {
            int block = first + part;
            struct worth worth = worth_of(format, tile, part);
            b64 eight[8];
            w16 whole[ROWS], second[ROWS];
            integers(format, tile, part, eight);
            if (in_sixteens(format)) {
                multiply_pairs(eight, 2, n, x, 32 * block, whole);
                multiply_pairs(eight + 4, 2, n, x, 32 * block + 16, second);
                for (int r = 0; r < n; r++) {
                    const int32_t *sums = (const int32_t *)(x[r] + sums_at(columns)) + 2 * block;
                    whole[r] = of_sixteens(format, &worth, whole[r], second[r], sums);
                }
            } else multiply_pairs(eight, 4, n, x, 32 * block, whole);
            for (int r = 0; r < n; r++) sum[r] = sum_up(format, &worth, whole[r], x[r], columns, block, sum[r]);
        }
}

#define PAIRED_ROWS(F, N) \
    static void paired_##F##_##N(const uint8_t *strips, int count, int columns, const uint8_t *const *x, float *const *y) { \
        for (int s = 0; s < count; s++) { \
            v16 sum[N]; \
            dot_pairs(F, strips + s * strip_bytes(F, columns), filled(F, columns), N, x, sum); \
            for (int r = 0; r < N; r++) v_store(y[r] + STRIP * s, sum[r]); \
        } \
    }
#define PAIRED(F) PAIRED_ROWS(F, 4) PAIRED_ROWS(F, 8)
PAIRED(Q8_0) PAIRED(Q4_0) PAIRED(Q5_0) PAIRED(Q4_1) PAIRED(Q5_1) PAIRED(IQ4_NL) PAIRED(Q2_K) PAIRED(Q3_K)
PAIRED(Q4_K) PAIRED(Q5_K) PAIRED(Q6_K) PAIRED(IQ4_XS) PAIRED(A4_BF16) PAIRED(A4_F16) PAIRED(A8_BF16) PAIRED(A8_F16)

#define BOTH(F) [F] = {paired_##F##_4, paired_##F##_8}
static void (*const paired[FORMATS][2])(const uint8_t *, int, int, const uint8_t *const *, float *const *) = {
    BOTH(Q8_0), BOTH(Q4_0), BOTH(Q5_0), BOTH(Q4_1), BOTH(Q5_1), BOTH(IQ4_NL), BOTH(Q2_K), BOTH(Q3_K), BOTH(Q4_K), BOTH(Q5_K),
    BOTH(Q6_K), BOTH(IQ4_XS), BOTH(A4_BF16), BOTH(A4_F16), BOTH(A8_BF16), BOTH(A8_F16),
};

/* See product: the last rows, less than four, go its way, and so does what is not of integers. */
static void product_by_pairs(int format, int exact, const uint8_t *strips, int count, int columns, int n, const uint8_t *x,
                             int64_t x_stride, float *y, int64_t y_stride) {
    int first = 0;
    while (of_integers(format) && !exact && n - first >= 4) {
        int size = n - first >= 8 ? 8 : 4;
        const uint8_t *inputs[ROWS];
        float *outputs[ROWS];
        for (int r = 0; r < size; r++) {
            inputs[r] = x + (first + r) * x_stride;
            outputs[r] = y + (first + r) * y_stride;
        }
        paired[format][size == 8](strips, count, columns, inputs, outputs);
        first += size;
    }
    product(format, exact, strips, count, columns, n - first, x + first * x_stride, x_stride, y + first * y_stride, y_stride);
}
