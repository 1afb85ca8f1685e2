/* Sixteen lanes in portable C: the twin that defines what the other files of this name must give.

   v: float lanes. w: int32 lanes. b: 64 bytes. Products of integers are exact everywhere; sums of floats differ in how
   often they round. */
#ifndef LANES_H
#define LANES_H

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef struct { float at[16]; } v16;
typedef struct { int32_t at[16]; } w16;
typedef struct { uint8_t at[64]; } b64;

#define EACH for (int i = 0; i < 16; i++)
#define INLINE static inline __attribute__((always_inline))

INLINE float float_of_bf16(uint16_t x) {
    uint32_t bits = (uint32_t)x << 16;
    float y;
    memcpy(&y, &bits, 4);
    return y;
}

/* Nearest, ties to even; a NaN stays one. */
INLINE uint16_t bf16_of_float(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 64);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

INLINE float float_of_f16(uint16_t x) {
    uint32_t sign = (uint32_t)(x & 0x8000) << 16, exponent = x >> 10 & 31, fraction = x & 1023, bits;
    float y;
    if (exponent == 31) bits = sign | 0x7f800000 | fraction << 13;
    else if (exponent) bits = sign | (exponent + 112) << 23 | fraction << 13;
    else {
        y = (float)fraction * 0x1p-24f;
        return sign ? -y : y;
    }
    memcpy(&y, &bits, 4);
    return y;
}

/* Nearest, ties to even. */
INLINE uint16_t f16_of_float(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    uint32_t sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    if (size > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (size >= 0x477ff000) return (uint16_t)(sign | 0x7c00);
    if (size < 0x38800000) {
        float y;
        memcpy(&y, &size, 4);
        return (uint16_t)(sign | (uint32_t)lrintf(y * 0x1p24f));
    }
    return (uint16_t)(sign | (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13);
}

INLINE v16 v_load(const float *p) { v16 y; memcpy(&y, p, 64); return y; }
INLINE void v_store(float *p, v16 x) { memcpy(p, &x, 64); }
INLINE v16 v_set(float x) { v16 y; EACH y.at[i] = x; return y; }
INLINE v16 v_add(v16 a, v16 b) { EACH a.at[i] += b.at[i]; return a; }
INLINE v16 v_sub(v16 a, v16 b) { EACH a.at[i] -= b.at[i]; return a; }
INLINE v16 v_mul(v16 a, v16 b) { EACH a.at[i] *= b.at[i]; return a; }
INLINE v16 v_div(v16 a, v16 b) { EACH a.at[i] /= b.at[i]; return a; }
INLINE v16 v_max(v16 a, v16 b) { EACH a.at[i] = a.at[i] > b.at[i] ? a.at[i] : b.at[i]; return a; }
INLINE v16 v_min(v16 a, v16 b) { EACH a.at[i] = a.at[i] < b.at[i] ? a.at[i] : b.at[i]; return a; }
INLINE v16 v_abs(v16 a) { EACH a.at[i] = fabsf(a.at[i]); return a; }
INLINE v16 v_fma(v16 a, v16 b, v16 c) { EACH c.at[i] += a.at[i] * b.at[i]; return c; }
INLINE v16 v_round(v16 a) { EACH a.at[i] = rintf(a.at[i]); return a; }
/* 2^n for whole n in [-126, 127]. */
INLINE v16 v_power(v16 n) { EACH n.at[i] = ldexpf(1.0f, (int)n.at[i]); return n; }
INLINE v16 v_load_bf16(const uint16_t *p) { v16 y; EACH y.at[i] = float_of_bf16(p[i]); return y; }
INLINE v16 v_load_f16(const uint16_t *p) { v16 y; EACH y.at[i] = float_of_f16(p[i]); return y; }
INLINE void v_store_bf16(uint16_t *p, v16 x) { EACH p[i] = bf16_of_float(x.at[i]); }
INLINE void v_store_f16(uint16_t *p, v16 x) { EACH p[i] = f16_of_float(x.at[i]); }
INLINE v16 v_of_w(w16 x) { v16 y; EACH y.at[i] = (float)x.at[i]; return y; }
INLINE v16 v_load_i8(const int8_t *p) { v16 y; EACH y.at[i] = p[i]; return y; }
INLINE v16 v_load_u8(const uint8_t *p) { v16 y; EACH y.at[i] = p[i]; return y; }

/* Sums in halves: the order of all these files. */
INLINE float v_sum(v16 x) {
    for (int n = 8; n; n /= 2)
        for (int i = 0; i < n; i++) x.at[i] += x.at[i + n];
    return x.at[0];
}
INLINE float v_biggest(v16 x) {
    for (int i = 1; i < 16; i++) x.at[0] = x.at[i] > x.at[0] ? x.at[i] : x.at[0];
    return x.at[0];
}

INLINE w16 w_set(int32_t x) { w16 y; EACH y.at[i] = x; return y; }
INLINE w16 w_add(w16 a, w16 b) { EACH a.at[i] += b.at[i]; return a; }
INLINE w16 w_mul(w16 a, w16 b) { EACH a.at[i] *= b.at[i]; return a; }
INLINE w16 w_round(v16 a) { w16 y; EACH y.at[i] = (int32_t)lrintf(a.at[i]); return y; }
INLINE w16 w_load_i8(const int8_t *p) { w16 y; EACH y.at[i] = p[i]; return y; }
INLINE w16 w_load_u8(const uint8_t *p) { w16 y; EACH y.at[i] = p[i]; return y; }
INLINE int32_t w_sum(w16 x) { int32_t y = 0; EACH y += x.at[i]; return y; }
INLINE void w_store_i8(int8_t *p, w16 x) { EACH p[i] = (int8_t)x.at[i]; }

INLINE b64 b_load(const uint8_t *p) { b64 y; memcpy(&y, p, 64); return y; }
INLINE b64 b_set(int32_t x) { b64 y; EACH memcpy(y.at + 4 * i, &x, 4); return y; }
INLINE b64 b_and(b64 a, uint8_t mask) { for (int i = 0; i < 64; i++) a.at[i] &= mask; return a; }
INLINE b64 b_or(b64 a, b64 b) { for (int i = 0; i < 64; i++) a.at[i] |= b.at[i]; return a; }
/* Each byte, below 16, as the one it stands for. */
INLINE b64 b_lookup(b64 a, const uint8_t *table) { for (int i = 0; i < 64; i++) a.at[i] = table[a.at[i]]; return a; }
/* Bits moved right or left within each byte; `mask` is what stays. */
INLINE b64 b_right(b64 a, int bits, uint8_t mask) { for (int i = 0; i < 64; i++) a.at[i] = a.at[i] >> bits & mask; return a; }
INLINE b64 b_left(b64 a, int bits, uint8_t mask) { for (int i = 0; i < 64; i++) a.at[i] = (uint8_t)(a.at[i] << bits) & mask; return a; }

/* acc + the product of four unsigned bytes a lane with the four signed bytes of x. Only dot_bytes has bytes above 127, and
   where that matters it is in the file of the lanes. */
INLINE w16 w_dot4(w16 acc, b64 a, int32_t x) {
    int8_t four[4];
    memcpy(four, &x, 4);
    EACH for (int j = 0; j < 4; j++) acc.at[i] += a.at[4 * i + j] * four[j];
    return acc;
}

/* acc + the product of two bfloat16 a lane. */
INLINE v16 v_dot2(v16 acc, b64 a, b64 b) {
    EACH {
        uint16_t x[2], y[2];
        memcpy(x, a.at + 4 * i, 4);
        memcpy(y, b.at + 4 * i, 4);
        acc.at[i] += float_of_bf16(x[0]) * float_of_bf16(y[0]) + float_of_bf16(x[1]) * float_of_bf16(y[1]);
    }
    return acc;
}

/* 32 signed bytes as whole numbers of 16 bits. */
INLINE b64 b_wide(const int8_t *p) {
    b64 y;
    for (int i = 0; i < 32; i++) {
        int16_t x = p[i];
        memcpy(y.at + 2 * i, &x, 2);
    }
    return y;
}
/* acc + the product of two whole numbers of 16 bits a lane. */
INLINE w16 w_dot2(w16 acc, b64 a, b64 b) {
    EACH {
        int16_t x[2], y[2];
        memcpy(x, a.at + 4 * i, 4);
        memcpy(y, b.at + 4 * i, 4);
        acc.at[i] += x[0] * y[0] + x[1] * y[1];
    }
    return acc;
}

/* The first and the second of two bfloat16 a lane. */
INLINE v16 v_even(b64 a) { v16 y; EACH { uint16_t x; memcpy(&x, a.at + 4 * i, 2); y.at[i] = float_of_bf16(x); } return y; }
INLINE v16 v_odd(b64 a) { v16 y; EACH { uint16_t x; memcpy(&x, a.at + 4 * i + 2, 2); y.at[i] = float_of_bf16(x); } return y; }

/* Lane i is the sum of x[i]. */
INLINE v16 v_sums(const v16 *x) { v16 y; EACH y.at[i] = v_sum(x[i]); return y; }

#undef EACH
#endif
