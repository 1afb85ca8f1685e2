/* Products of strips with prepared activations, over the lanes of whichever file includes this.

   A row of activations gives the same bits whatever rows are beside it: each has its own accumulators, and every sum runs
   in the order of the columns. */
#include "blocks.h"

enum { ROWS = 8 }; /* of activations at a time: as many accumulators as leave room for the weights */

/* One tile of a strip in floats, [columns][16]. */
INLINE void expand_tile(int format, const uint8_t *tile, float *out) {
    const uint16_t *halves = (const uint16_t *)tile;
    if (format == F32) {
        for (int k = 0; k < 64; k++) v_store(out + 16 * k, v_load((const float *)tile + 16 * k));
    } else if (format == F16) {
        for (int k = 0; k < 64; k++) v_store(out + 16 * k, v_load_f16(halves + 16 * k));
    } else if (format == BF16) {
        float pairs[32];
        for (int k = 0; k < 64; k += 2) {
            v_store(pairs, v_load_bf16(halves + 16 * k));
            v_store(pairs + 16, v_load_bf16(halves + 16 * k + 16));
            for (int i = 0; i < 32; i++) out[16 * (k + i % 2) + i / 2] = pairs[i];
        }
    } else
        for (int block = 0; block < tile_columns(format) / 32; block++) expand_block(format, tile, block, out + 512 * block);
}

/* Floats times floats: F32 and F16, and all formats where arithmetic is to be exact. Each 64 columns are summed by
   themselves first, which keeps the error of long rows small. */
INLINE void dot_floats(int format, const uint8_t *strip, int columns, int n, const uint8_t *const *x, v16 *sum) {
    float expanded[256 * 16];
    int wide = tile_columns(format), plain = format == F32 || format == F16;
    for (int r = 0; r < n; r++) sum[r] = v_set(0);
    for (int first = 0; first < columns; first += TILE) {
        if (!plain && first % wide == 0) expand_tile(format, strip + first / wide * tile_bytes(format), expanded);
        const float *w = plain ? (const float *)strip + 16 * first : expanded + 16 * (first % wide);
        const uint16_t *halves = (const uint16_t *)strip + 16 * first;
        v16 part[ROWS];
        for (int r = 0; r < n; r++) part[r] = v_set(0);
        for (int k = 0; k < TILE; k++) {
            v16 lanes = format == F16 ? v_load_f16(halves + 16 * k) : v_load(w + 16 * k);
            for (int r = 0; r < n; r++) part[r] = v_fma(lanes, v_set(((const float *)x[r])[first + k]), part[r]);
        }
        for (int r = 0; r < n; r++) sum[r] = v_add(sum[r], part[r]);
    }
}

/* Two chains of sums, of even and of odd pairs of columns: one would wait for itself. */
INLINE void dot_halves(const uint8_t *strip, int columns, int n, const uint8_t *const *x, v16 *sum) {
    v16 odd[ROWS];
    for (int r = 0; r < n; r++) sum[r] = odd[r] = v_set(0);
    for (int k = 0; k < columns / 2; k += 2) {
        b64 first = b_load(strip + 64 * k), second = b_load(strip + 64 * k + 64);
        for (int r = 0; r < n; r++) {
            const int32_t *pairs = (const int32_t *)x[r] + k;
            sum[r] = v_dot2(sum[r], first, b_set(pairs[0]));
            odd[r] = v_dot2(odd[r], second, b_set(pairs[1]));
        }
    }
    for (int r = 0; r < n; r++) sum[r] = v_add(sum[r], odd[r]);
}

/* 32 columns of 4-bit integers. */
INLINE w16 dot_nibbles(const b64 *bytes, const int32_t *four, w16 low) {
    w16 high = w_set(0);
    for (int j = 0; j < 4; j++) {
        low = w_dot4(low, b_and(bytes[j], 15), four[j]);
        high = w_dot4(high, b_right(bytes[j], 4, 15), four[4 + j]);
    }
    return w_add(low, high);
}

INLINE void dot_q4_0(const uint8_t *strip, int columns, int n, const uint8_t *const *x, v16 *sum) {
    for (int r = 0; r < n; r++) sum[r] = v_set(0);
    for (int tile = 0; tile < columns / 64; tile++, strip += 64 + 512)
        for (int half = 0; half < 2; half++) {
            int block = 2 * tile + half;
            v16 scale = v_load_f16((const uint16_t *)strip + 16 * half);
            b64 bytes[4];
            for (int j = 0; j < 4; j++) bytes[j] = b_load(strip + 64 + 256 * half + 64 * j);
            for (int r = 0; r < n; r++) {
                const int32_t *four = (const int32_t *)(x[r] + 32 * block);
                w16 whole = dot_nibbles(bytes, four, offset_of(x[r], columns, block));
                sum[r] = scaled(whole, scale, x[r], columns, block, sum[r]);
            }
        }
}

#ifndef LANES_DOT_BYTES
/* 32 columns of 8-bit integers. */
INLINE w16 dot_bytes(const uint8_t *bytes, const int32_t *four, w16 even) {
    w16 odd = w_set(0);
    for (int j = 0; j < 8; j += 2) {
        even = w_dot4(even, b_load(bytes + 64 * j), four[j]);
        odd = w_dot4(odd, b_load(bytes + 64 * j + 64), four[j + 1]);
    }
    return w_add(even, odd);
}
#endif

INLINE void dot_q8_0(const uint8_t *strip, int columns, int n, const uint8_t *const *x, v16 *sum) {
    for (int r = 0; r < n; r++) sum[r] = v_set(0);
    for (int tile = 0; tile < columns / 64; tile++, strip += 64 + 1024)
        for (int half = 0; half < 2; half++) {
            int block = 2 * tile + half;
            v16 scale = v_load_f16((const uint16_t *)strip + 16 * half);
            for (int r = 0; r < n; r++) {
                const int32_t *four = (const int32_t *)(x[r] + 32 * block);
                w16 whole = dot_bytes(strip + 64 + 512 * half, four, offset_of(x[r], columns, block));
                sum[r] = scaled(whole, scale, x[r], columns, block, sum[r]);
            }
        }
}

/* Every other format. */
INLINE void dot_blocks(int format, const uint8_t *tile, int columns, int n, const uint8_t *const *x, v16 *sum) {
    int blocks = tile_columns(format) / 32;
    for (int r = 0; r < n; r++) sum[r] = v_set(0);
    for (int first = 0; first < columns / 32; first += blocks, tile += tile_bytes(format))
        for (int part = 0; part < blocks; part++) {
            struct worth worth = worth_of(format, tile, part);
            b64 eight[8];
            integers(format, tile, part, eight);
            for (int r = 0; r < n; r++) {
                const int32_t *four = (const int32_t *)(x[r] + 32 * (first + part)), *sums;
                sums = (const int32_t *)(x[r] + sums_at(columns)) + 2 * (first + part);
                w16 low = w_set(0), high = w_set(0), whole;
                if (large_bytes(format)) whole = dot_bytes((const uint8_t *)eight, four, low);
                else {
                    for (int j = 0; j < 4; j++) {
                        low = w_dot4(low, eight[j], four[j]);
                        high = w_dot4(high, eight[4 + j], four[4 + j]);
                    }
                    whole = in_sixteens(format) ? of_sixteens(format, &worth, low, high, sums) : w_add(low, high);
                }
                sum[r] = sum_up(format, &worth, whole, x[r], columns, first + part, sum[r]);
            }
        }
}

INLINE void dot_strip(int format, int exact, const uint8_t *strip, int columns, int n, const uint8_t *const *x, v16 *sum) {
    if (exact || format == F32 || format == F16) dot_floats(format, strip, columns, n, x, sum);
    else if (format == BF16) dot_halves(strip, columns, n, x, sum);
    else if (format == Q8_0) dot_q8_0(strip, columns, n, x, sum);
    else if (format == Q4_0) dot_q4_0(strip, columns, n, x, sum);
    else dot_blocks(format, strip, columns, n, x, sum);
}

INLINE void multiply(int format, int exact, const uint8_t *strips, int count, int columns, int n,
                     const uint8_t *const *x, float *const *y) {
    int64_t size = strip_bytes(format, columns);
    for (int s = 0; s < count; s++) {
        v16 sum[ROWS];
        dot_strip(format, exact, strips + s * size, filled(format, columns), n, x, sum);
        for (int r = 0; r < n; r++) v_store(y[r] + STRIP * s, sum[r]);
    }
}

typedef void (*multiply_rows)(int, const uint8_t *, int, int, const uint8_t *const *, float *const *);

/* Each format for each number of rows, so that all loops are unrolled; exact arithmetic shares what is slow anyway. */
#define FOR_ROWS(F, N) \
    static void multiply_##F##_##N(int f, const uint8_t *w, int count, int columns, const uint8_t *const *x, float *const *y) { \
        (void)f; \
        multiply(F, 0, w, count, columns, N, x, y); \
    }
#define EXACT_FOR_ROWS(N) \
    static void multiply_exact_##N(int f, const uint8_t *w, int count, int columns, const uint8_t *const *x, float *const *y) { \
        multiply(f, 1, w, count, columns, N, x, y); \
    }
#define FOR_FORMAT(F) FOR_ROWS(F, 1) FOR_ROWS(F, 2) FOR_ROWS(F, 4) FOR_ROWS(F, 8)
FOR_FORMAT(F32) FOR_FORMAT(F16) FOR_FORMAT(BF16) FOR_FORMAT(Q8_0) FOR_FORMAT(Q4_0) FOR_FORMAT(Q5_0) FOR_FORMAT(Q4_1)
FOR_FORMAT(Q5_1) FOR_FORMAT(IQ4_NL) FOR_FORMAT(Q2_K) FOR_FORMAT(Q3_K) FOR_FORMAT(Q4_K) FOR_FORMAT(Q5_K) FOR_FORMAT(Q6_K)
FOR_FORMAT(IQ4_XS) FOR_FORMAT(A4_BF16) FOR_FORMAT(A4_F16) FOR_FORMAT(A8_BF16) FOR_FORMAT(A8_F16)
EXACT_FOR_ROWS(1) EXACT_FOR_ROWS(2) EXACT_FOR_ROWS(4) EXACT_FOR_ROWS(8)

#define OF(F) [F] = {multiply_##F##_1, multiply_##F##_2, multiply_##F##_4, multiply_##F##_8}
static const multiply_rows rounded[FORMATS][4] = {
    OF(F32), OF(F16), OF(BF16), OF(Q8_0), OF(Q4_0), OF(Q5_0), OF(Q4_1), OF(Q5_1), OF(IQ4_NL), OF(Q2_K), OF(Q3_K), OF(Q4_K),
    OF(Q5_K), OF(Q6_K), OF(IQ4_XS), OF(A4_BF16), OF(A4_F16), OF(A8_BF16), OF(A8_F16),
};
static const multiply_rows exactly[4] = {multiply_exact_1, multiply_exact_2, multiply_exact_4, multiply_exact_8};

/* y [n, 16 * count] = prepared x [n] times `count` strips transposed; distances between rows in bytes and floats. */
static void product(int format, int exact, const uint8_t *strips, int count, int columns, int n, const uint8_t *x,
                    int64_t x_stride, float *y, int64_t y_stride) {
    for (int first = 0; first < n;) {
        int size = n - first >= 8 ? 3 : n - first >= 4 ? 2 : n - first >= 2 ? 1 : 0;
        const uint8_t *inputs[ROWS];
        float *outputs[ROWS];
        for (int r = 0; r < 1 << size; r++) {
            inputs[r] = x + (first + r) * x_stride;
            outputs[r] = y + (first + r) * y_stride;
        }
        int plain = format == F32 || format == F16 || !exact;
        (plain ? rounded[format] : exactly)[size](format, strips, count, columns, inputs, outputs);
        first += 1 << size;
    }
}

