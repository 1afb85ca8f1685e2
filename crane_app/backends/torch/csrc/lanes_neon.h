/* Sixteen lanes as four registers of NEON, all of it in ARMv8-A; see lanes_plain.h. With LANES_DOTPROD, products of bytes
   are one instruction for signed weights, and with LANES_I8MM for unsigned ones too.

   Strips are the same as everywhere (strips.h): a register of 16 bytes is four rows of four columns, which is what one
   lane's product takes. */
#ifndef LANES_H
#define LANES_H

#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

typedef struct { float32x4_t at[4]; } v16;
typedef struct { int32x4_t at[4]; } w16;
typedef struct { uint8x16_t at[4]; } b64;

#define INLINE static inline __attribute__((always_inline))
#define EACH for (int i = 0; i < 4; i++)

INLINE v16 v_load(const float *p) { v16 y; EACH y.at[i] = vld1q_f32(p + 4 * i); return y; }
INLINE void v_store(float *p, v16 x) { EACH vst1q_f32(p + 4 * i, x.at[i]); }
INLINE v16 v_set(float x) { v16 y; EACH y.at[i] = vdupq_n_f32(x); return y; }
INLINE v16 v_add(v16 a, v16 b) { EACH a.at[i] = vaddq_f32(a.at[i], b.at[i]); return a; }
INLINE v16 v_sub(v16 a, v16 b) { EACH a.at[i] = vsubq_f32(a.at[i], b.at[i]); return a; }
INLINE v16 v_mul(v16 a, v16 b) { EACH a.at[i] = vmulq_f32(a.at[i], b.at[i]); return a; }
INLINE v16 v_div(v16 a, v16 b) { EACH a.at[i] = vdivq_f32(a.at[i], b.at[i]); return a; }
/* By comparison: the instructions for it hand on a NaN of either, where the twin takes b. */
INLINE float32x4_t v_larger(float32x4_t a, float32x4_t b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
INLINE v16 v_max(v16 a, v16 b) { EACH a.at[i] = v_larger(a.at[i], b.at[i]); return a; }
INLINE v16 v_min(v16 a, v16 b) { EACH a.at[i] = vbslq_f32(vcltq_f32(a.at[i], b.at[i]), a.at[i], b.at[i]); return a; }
INLINE v16 v_abs(v16 a) { EACH a.at[i] = vabsq_f32(a.at[i]); return a; }
INLINE v16 v_fma(v16 a, v16 b, v16 c) { EACH c.at[i] = vfmaq_f32(c.at[i], a.at[i], b.at[i]); return c; }
INLINE v16 v_round(v16 a) { EACH a.at[i] = vrndnq_f32(a.at[i]); return a; }
INLINE v16 v_power(v16 n) {
    EACH n.at[i] = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n.at[i]), vdupq_n_s32(127)), 23));
    return n;
}
INLINE v16 v_load_bf16(const uint16_t *p) {
    v16 y;
    EACH y.at[i] = vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16));
    return y;
}
INLINE v16 v_load_f16(const uint16_t *p) {
    v16 y;
    EACH y.at[i] = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i)));
    return y;
}
INLINE uint16x4_t v_near_bf16(float32x4_t x) {
    uint32x4_t bits = vreinterpretq_u32_f32(x), even = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    uint32x4_t near = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), even);
    return vshrn_n_u32(vbslq_u32(vceqq_f32(x, x), near, vorrq_u32(bits, vdupq_n_u32(64 << 16))), 16);
}
INLINE void v_store_bf16(uint16_t *p, v16 x) { EACH vst1_u16(p + 4 * i, v_near_bf16(x.at[i])); }
INLINE void v_store_f16(uint16_t *p, v16 x) { EACH vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(x.at[i]))); }
INLINE v16 v_of_w(w16 x) { v16 y; EACH y.at[i] = vcvtq_f32_s32(x.at[i]); return y; }

INLINE float32x4_t v_sum_of_four(v16 x) { return vaddq_f32(vaddq_f32(x.at[0], x.at[2]), vaddq_f32(x.at[1], x.at[3])); }
INLINE float v_sum(v16 x) {
    float32x4_t four = v_sum_of_four(x);
    float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
INLINE float v_biggest(v16 x) {
    return vmaxnmvq_f32(v_larger(v_larger(x.at[0], x.at[1]), v_larger(x.at[2], x.at[3])));
}

INLINE w16 w_set(int32_t x) { w16 y; EACH y.at[i] = vdupq_n_s32(x); return y; }
INLINE w16 w_add(w16 a, w16 b) { EACH a.at[i] = vaddq_s32(a.at[i], b.at[i]); return a; }
INLINE w16 w_mul(w16 a, w16 b) { EACH a.at[i] = vmulq_s32(a.at[i], b.at[i]); return a; }
INLINE w16 w_round(v16 a) { w16 y; EACH y.at[i] = vcvtnq_s32_f32(a.at[i]); return y; }
INLINE w16 w_load_i8(const int8_t *p) {
    int8x16_t x = vld1q_s8(p);
    int16x8_t low = vmovl_s8(vget_low_s8(x)), high = vmovl_high_s8(x);
    return (w16){{vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low), vmovl_s16(vget_low_s16(high)), vmovl_high_s16(high)}};
}
INLINE w16 w_load_u8(const uint8_t *p) {
    uint8x16_t x = vld1q_u8(p);
    int16x8_t low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(x))), high = vreinterpretq_s16_u16(vmovl_high_u8(x));
    return (w16){{vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low), vmovl_s16(vget_low_s16(high)), vmovl_high_s16(high)}};
}
INLINE v16 v_load_i8(const int8_t *p) { return v_of_w(w_load_i8(p)); }
INLINE v16 v_load_u8(const uint8_t *p) { return v_of_w(w_load_u8(p)); }
INLINE int32_t w_sum(w16 x) { return vaddvq_s32(vaddq_s32(vaddq_s32(x.at[0], x.at[1]), vaddq_s32(x.at[2], x.at[3]))); }
INLINE void w_store_i8(int8_t *p, w16 x) {
    int16x8_t low = vmovn_high_s32(vmovn_s32(x.at[0]), x.at[1]), high = vmovn_high_s32(vmovn_s32(x.at[2]), x.at[3]);
    vst1q_s8(p, vmovn_high_s16(vmovn_s16(low), high));
}

INLINE b64 b_load(const uint8_t *p) { b64 y; EACH y.at[i] = vld1q_u8(p + 16 * i); return y; }
INLINE b64 b_set(int32_t x) { b64 y; EACH y.at[i] = vreinterpretq_u8_s32(vdupq_n_s32(x)); return y; }
INLINE b64 b_and(b64 a, uint8_t mask) { EACH a.at[i] = vandq_u8(a.at[i], vdupq_n_u8(mask)); return a; }
INLINE b64 b_or(b64 a, b64 b) { EACH a.at[i] = vorrq_u8(a.at[i], b.at[i]); return a; }
INLINE b64 b_lookup(b64 a, const uint8_t *table) { EACH a.at[i] = vqtbl1q_u8(vld1q_u8(table), a.at[i]); return a; }
/* Of constants; the compiler finds the instructions, which intrinsics take numbers alone for. */
INLINE b64 b_right(b64 a, int bits, uint8_t mask) { EACH a.at[i] >>= vdupq_n_u8((uint8_t)bits); return b_and(a, mask); }
INLINE b64 b_left(b64 a, int bits, uint8_t mask) { EACH a.at[i] <<= vdupq_n_u8((uint8_t)bits); return b_and(a, mask); }

/* acc + products of signed bytes, four a lane. None of x is -128, so two products of any weights fit into 16 bits. */
INLINE int32x4_t w_dot_signed(int32x4_t acc, int8x16_t a, int8x16_t x) {
#ifdef LANES_DOTPROD
    return vdotq_s32(acc, a, x);
#else
    return vpadalq_s16(acc, vpaddq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(x)), vmull_high_s8(a, x)));
#endif
}

#ifdef LANES_I8MM
INLINE w16 w_dot4(w16 acc, b64 a, int32_t x) {
    EACH acc.at[i] = vusdotq_s32(acc.at[i], a.at[i], vreinterpretq_s8_s32(vdupq_n_s32(x)));
    return acc;
}
#else
/* For bytes below 128: those that may be larger go through dot_bytes. */
INLINE w16 w_dot4(w16 acc, b64 a, int32_t x) {
    EACH acc.at[i] = w_dot_signed(acc.at[i], vreinterpretq_s8_u8(a.at[i]), vreinterpretq_s8_s32(vdupq_n_s32(x)));
    return acc;
}

#define LANES_DOT_BYTES
/* 32 columns of 8-bit integers, as product.h has it, with 128 less in each; for which a lane gets 128 times the sum of x. */
INLINE w16 dot_bytes(const uint8_t *bytes, const int32_t *four, w16 acc) {
    int8x16_t x = vld1q_s8((const int8_t *)four), y = vld1q_s8((const int8_t *)(four + 4));
    int32_t sum = vaddvq_s32(vpaddlq_s16(vaddq_s16(vpaddlq_s8(x), vpaddlq_s8(y))));
    w16 part[2] = {acc, w_set(128 * sum)};
    for (int j = 0; j < 8; j++) {
        int8x16_t own = vreinterpretq_s8_s32(vdupq_n_s32(four[j]));
        EACH {
            uint8x16_t less = veorq_u8(vld1q_u8(bytes + 64 * j + 16 * i), vdupq_n_u8(128));
            part[j % 2].at[i] = w_dot_signed(part[j % 2].at[i], vreinterpretq_s8_u8(less), own);
        }
    }
    return w_add(part[0], part[1]);
}
#endif

INLINE b64 b_wide(const int8_t *p) {
    b64 y;
    EACH y.at[i] = vreinterpretq_u8_s16(vmovl_s8(vld1_s8(p + 8 * i)));
    return y;
}
INLINE w16 w_dot2(w16 acc, b64 a, b64 b) {
    EACH {
        int16x8_t x = vreinterpretq_s16_u8(a.at[i]), y = vreinterpretq_s16_u8(b.at[i]);
        int32x4_t low = vmull_s16(vget_low_s16(x), vget_low_s16(y));
        acc.at[i] = vaddq_s32(acc.at[i], vpaddq_s32(low, vmull_high_s16(x, y)));
    }
    return acc;
}

INLINE float32x4_t v_even_quarter(uint8x16_t a) { return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_u8(a), 16)); }
INLINE float32x4_t v_odd_quarter(uint8x16_t a) {
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_u8(a), vdupq_n_u32(0xffff0000)));
}
INLINE v16 v_even(b64 a) { v16 y; EACH y.at[i] = v_even_quarter(a.at[i]); return y; }
INLINE v16 v_odd(b64 a) { v16 y; EACH y.at[i] = v_odd_quarter(a.at[i]); return y; }

/* By shifts: BFDOT rounds as the twin does not. */
INLINE v16 v_dot2(v16 acc, b64 a, b64 b) { return v_fma(v_odd(a), v_odd(b), v_fma(v_even(a), v_even(b), acc)); }

/* The order of v_sum, for four at a time. */
INLINE v16 v_sums(const v16 *x) {
    v16 y;
    EACH {
        float64x2_t a = vreinterpretq_f64_f32(v_sum_of_four(x[4 * i])), b = vreinterpretq_f64_f32(v_sum_of_four(x[4 * i + 1]));
        float64x2_t c = vreinterpretq_f64_f32(v_sum_of_four(x[4 * i + 2])), d = vreinterpretq_f64_f32(v_sum_of_four(x[4 * i + 3]));
        float32x4_t first = vaddq_f32(vreinterpretq_f32_f64(vzip1q_f64(a, b)), vreinterpretq_f32_f64(vzip2q_f64(a, b)));
        float32x4_t second = vaddq_f32(vreinterpretq_f32_f64(vzip1q_f64(c, d)), vreinterpretq_f32_f64(vzip2q_f64(c, d)));
        y.at[i] = vpaddq_f32(first, second);
    }
    return y;
}

#undef EACH
#endif
