/* Products of strips with prepared activations, over the lanes of whichever file includes this.

   A row of activations gives the same bits whatever rows are beside it: each has its own accumulators, and every sum runs
   in the order of the columns. */
#include "strips.h"

enum { ROWS = 8 }; /* of activations at a time: as many accumulators as leave room for the weights */

/* Scales or biases of affine groups. */
INLINE v16 affine(int format, const uint8_t *p) {
    return format == A4_BF16 || format == A8_BF16 ? v_load_bf16((const uint16_t *)p) : v_load_f16((const uint16_t *)p);
}

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
    } else if (format == Q8_0 || format == Q4_0 || format == Q5_0) {
        for (int half = 0; half < 2; half++) {
            v16 scale = v_load_f16(halves + 16 * half);
            const uint8_t *bytes = tile + 64 + half * (format == Q8_0 ? 512 : format == Q5_0 ? 320 : 256);
            for (int k = 0; k < 32; k++) {
                float values[16];
                for (int r = 0; r < 16; r++) {
                    int at = format == Q8_0 ? k / 4 * 64 + r * 4 + k % 4 : k % 16 / 4 * 64 + r * 4 + k % 4;
                    int low = bytes[at] >> k / 16 * 4 & 15;
                    if (format == Q8_0) values[r] = (float)(bytes[at] - 128);
                    else if (format == Q4_0) values[r] = (float)(low - 8);
                    else values[r] = (float)((low | (bytes[256 + r * 4 + k % 4] >> k / 4 & 1) << 4) - 16);
                }
                v_store(out + 16 * (32 * half + k), v_mul(v_load(values), scale));
            }
        }
    } else if (format >= A4_BF16) {
        v16 scale = affine(format, tile), least = affine(format, tile + 32);
        int four = format < A8_BF16;
        for (int k = 0; k < 64; k++) {
            const uint8_t *bytes = tile + 64 + k / 32 * (four ? 256 : 512) + k % (four ? 16 : 32) / 4 * 64 + k % 4;
            float values[16];
            for (int r = 0; r < 16; r++) values[r] = (float)(four ? bytes[4 * r] >> k % 32 / 16 * 4 & 15 : bytes[4 * r]);
            v_store(out + 16 * k, v_add(v_mul(v_load(values), scale), least));
        }
    } else if (format == Q4_K) {
        for (int block = 0; block < 8; block++) {
            v16 scale = v_mul(v_load_f16(halves), v_load_u8(tile + 64 + 16 * block));
            v16 least = v_mul(v_load_f16(halves + 16), v_load_u8(tile + 192 + 16 * block));
            for (int k = 0; k < 32; k++) {
                float values[16];
                const uint8_t *bytes = tile + 320 + 256 * block + k % 16 / 4 * 64 + k % 4;
                for (int r = 0; r < 16; r++) values[r] = (float)(bytes[4 * r] >> k / 16 * 4 & 15);
                v_store(out + 16 * (32 * block + k), v_sub(v_mul(v_load(values), scale), least));
            }
        }
    } else {
        for (int k = 0; k < 256; k++) {
            const uint8_t *low = tile + 320 + 384 * (k / 32) + k % 16 / 4 * 64 + k % 4;
            const uint8_t *high = tile + 320 + 384 * (k / 32) + 256 + k % 8 / 4 * 64 + k % 4;
            v16 scale = v_mul(v_load_f16(halves), v_load_i8((const int8_t *)tile + 64 + k / 16 * 16));
            float values[16];
            for (int r = 0; r < 16; r++)
                values[r] = (float)((low[4 * r] >> k % 32 / 16 * 4 & 15) | (high[4 * r] >> k % 32 / 8 * 2 & 3) << 4) - 32;
            v_store(out + 16 * k, v_mul(v_load(values), scale));
        }
    }
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

INLINE v16 scaled(w16 whole, v16 scale, const uint8_t *x, int columns, int block, v16 sum) {
    float own = ((const float *)(x + scales_at(columns)))[block];
    return v_fma(v_of_w(whole), v_mul(scale, v_set(own)), sum);
}

INLINE w16 offset_of(const uint8_t *x, int columns, int block) {
    return w_set(((const int32_t *)(x + sums_at(columns)))[block]);
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

INLINE void dot_q5_0(const uint8_t *strip, int columns, int n, const uint8_t *const *x, v16 *sum) {
    for (int r = 0; r < n; r++) sum[r] = v_set(0);
    for (int tile = 0; tile < columns / 64; tile++, strip += 64 + 640)
        for (int half = 0; half < 2; half++) {
            int block = 2 * tile + half;
            const uint8_t *part = strip + 64 + 320 * half;
            v16 scale = v_load_f16((const uint16_t *)strip + 16 * half);
            b64 five[8], top = b_load(part + 256);
            for (int j = 0; j < 4; j++) {
                b64 bytes = b_load(part + 64 * j);
                five[j] = b_or(b_and(bytes, 15), b_left(top, 4 - j, 16));
                five[4 + j] = b_or(b_right(bytes, 4, 15), b_right(top, j, 16));
            }
            for (int r = 0; r < n; r++) {
                const int32_t *four = (const int32_t *)(x[r] + 32 * block);
                w16 low = w_add(offset_of(x[r], columns, block), offset_of(x[r], columns, block)), high = w_set(0);
                for (int j = 0; j < 4; j++) {
                    low = w_dot4(low, five[j], four[j]);
                    high = w_dot4(high, five[4 + j], four[4 + j]);
                }
                sum[r] = scaled(w_add(low, high), scale, x[r], columns, block, sum[r]);
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

/* Sum of scale * q * x + bias * x, x being integers of their own scale. */
INLINE void dot_affine(int format, const uint8_t *strip, int columns, int n, const uint8_t *const *x, v16 *sum) {
    int four = format < A8_BF16;
    for (int r = 0; r < n; r++) sum[r] = v_set(0);
    for (int tile = 0; tile < columns / 64; tile++, strip += tile_bytes(format)) {
        v16 scale = affine(format, strip), least = affine(format, strip + 32);
        for (int half = 0; half < 2; half++) {
            int block = 2 * tile + half;
            b64 bytes[4];
            for (int j = 0; four && j < 4; j++) bytes[j] = b_load(strip + 64 + 256 * half + 64 * j);
            for (int r = 0; r < n; r++) {
                const int32_t *sums = (const int32_t *)(x[r] + sums_at(columns)) + 2 * block;
                const int32_t *own = (const int32_t *)(x[r] + 32 * block);
                float size = ((const float *)(x[r] + scales_at(columns)))[block];
                w16 whole = four ? dot_nibbles(bytes, own, w_set(0)) : dot_bytes(strip + 64 + 512 * half, own, w_set(0));
                sum[r] = v_fma(v_of_w(whole), v_mul(scale, v_set(size)), sum[r]);
                sum[r] = v_fma(least, v_set(size * (float)(sums[0] + sums[1])), sum[r]);
            }
        }
    }
}

INLINE void dot_q4_k(const uint8_t *strip, int columns, int n, const uint8_t *const *x, v16 *sum) {
    for (int r = 0; r < n; r++) sum[r] = v_set(0);
    for (int tile = 0; tile < columns / 256; tile++, strip += 64 + 256 + 2048) {
        v16 d = v_load_f16((const uint16_t *)strip), least = v_load_f16((const uint16_t *)strip + 16);
        for (int part = 0; part < 8; part++) {
            int block = 8 * tile + part;
            v16 scale = v_mul(d, v_load_u8(strip + 64 + 16 * part));
            v16 offset = v_mul(least, v_load_u8(strip + 192 + 16 * part));
            b64 bytes[4];
            for (int j = 0; j < 4; j++) bytes[j] = b_load(strip + 320 + 256 * part + 64 * j);
            for (int r = 0; r < n; r++) {
                const int32_t *sums = (const int32_t *)(x[r] + sums_at(columns)) + 2 * block;
                float own = ((const float *)(x[r] + scales_at(columns)))[block];
                w16 whole = dot_nibbles(bytes, (const int32_t *)(x[r] + 32 * block), w_set(0));
                sum[r] = v_fma(v_of_w(whole), v_mul(scale, v_set(own)), sum[r]);
                sum[r] = v_sub(sum[r], v_mul(offset, v_set(own * (float)(sums[0] + sums[1]))));
            }
        }
    }
}

INLINE void dot_q6_k(const uint8_t *strip, int columns, int n, const uint8_t *const *x, v16 *sum) {
    for (int r = 0; r < n; r++) sum[r] = v_set(0);
    for (int tile = 0; tile < columns / 256; tile++, strip += 64 + 256 + 3072) {
        v16 d = v_load_f16((const uint16_t *)strip);
        for (int part = 0; part < 8; part++) {
            int block = 8 * tile + part;
            const uint8_t *low = strip + 320 + 384 * part, *high = low + 256;
            b64 six[8];
            for (int j = 0; j < 4; j++) {
                b64 bytes = b_load(low + 64 * j), top = b_load(high + 64 * (j % 2));
                int at = j / 2 * 2; /* of columns 4j; 16 columns on it is 4 bits further */
                six[j] = b_or(b_and(bytes, 15), at ? b_left(top, 2, 48) : b_left(top, 4, 48));
                six[4 + j] = b_or(b_right(bytes, 4, 15), at ? b_right(top, 2, 48) : b_and(top, 48));
            }
            w16 scale0 = w_load_i8((const int8_t *)strip + 64 + 32 * part);
            w16 scale1 = w_load_i8((const int8_t *)strip + 80 + 32 * part);
            for (int r = 0; r < n; r++) {
                const int32_t *four = (const int32_t *)(x[r] + 32 * block);
                const int32_t *sums = (const int32_t *)(x[r] + sums_at(columns)) + 2 * block;
                w16 first = w_set(-32 * sums[0]), second = w_set(-32 * sums[1]);
                for (int j = 0; j < 4; j++) {
                    first = w_dot4(first, six[j], four[j]);
                    second = w_dot4(second, six[4 + j], four[4 + j]);
                }
                w16 whole = w_add(w_mul(first, scale0), w_mul(second, scale1));
                sum[r] = scaled(whole, d, x[r], columns, block, sum[r]);
            }
        }
    }
}

INLINE void dot_strip(int format, int exact, const uint8_t *strip, int columns, int n, const uint8_t *const *x, v16 *sum) {
    if (exact || format == F32 || format == F16) dot_floats(format, strip, columns, n, x, sum);
    else if (format == BF16) dot_halves(strip, columns, n, x, sum);
    else if (format == Q8_0) dot_q8_0(strip, columns, n, x, sum);
    else if (format == Q4_0) dot_q4_0(strip, columns, n, x, sum);
    else if (format == Q5_0) dot_q5_0(strip, columns, n, x, sum);
    else if (format >= A4_BF16) dot_affine(format, strip, columns, n, x, sum);
    else if (format == Q4_K) dot_q4_k(strip, columns, n, x, sum);
    else dot_q6_k(strip, columns, n, x, sum);
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
FOR_FORMAT(F32) FOR_FORMAT(F16) FOR_FORMAT(BF16) FOR_FORMAT(Q8_0) FOR_FORMAT(Q4_0) FOR_FORMAT(Q5_0) FOR_FORMAT(Q4_K)
FOR_FORMAT(Q6_K) FOR_FORMAT(A4_BF16) FOR_FORMAT(A4_F16) FOR_FORMAT(A8_BF16) FOR_FORMAT(A8_F16)
EXACT_FOR_ROWS(1) EXACT_FOR_ROWS(2) EXACT_FOR_ROWS(4) EXACT_FOR_ROWS(8)

#define OF(F) [F] = {multiply_##F##_1, multiply_##F##_2, multiply_##F##_4, multiply_##F##_8}
static const multiply_rows rounded[FORMATS][4] = {
    OF(F32), OF(F16), OF(BF16), OF(Q8_0), OF(Q4_0), OF(Q5_0), OF(Q4_K), OF(Q6_K), OF(A4_BF16), OF(A4_F16), OF(A8_BF16),
    OF(A8_F16),
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

