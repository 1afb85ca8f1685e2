/* Sixteen lanes on AVX-512 with VNNI; see lanes_plain.h. With LANES_BF16, products of bfloat16 are one instruction. */
#ifndef LANES_H
#define LANES_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

typedef __m512 v16;
typedef __m512i w16, b64;

#define INLINE static inline __attribute__((always_inline))

INLINE v16 v_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void v_store(float *p, v16 x) { _mm512_storeu_ps(p, x); }
INLINE v16 v_set(float x) { return _mm512_set1_ps(x); }
INLINE v16 v_add(v16 a, v16 b) { return _mm512_add_ps(a, b); }
INLINE v16 v_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
INLINE v16 v_mul(v16 a, v16 b) { return _mm512_mul_ps(a, b); }
INLINE v16 v_div(v16 a, v16 b) { return _mm512_div_ps(a, b); }
INLINE v16 v_max(v16 a, v16 b) { return _mm512_max_ps(a, b); }
INLINE v16 v_min(v16 a, v16 b) { return _mm512_min_ps(a, b); }
INLINE v16 v_abs(v16 a) { return _mm512_abs_ps(a); }
INLINE v16 v_fma(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }
INLINE v16 v_round(v16 a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE v16 v_power(v16 n) { return _mm512_scalef_ps(_mm512_set1_ps(1.0f), n); }
INLINE v16 v_load_bf16(const uint16_t *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}
INLINE v16 v_load_f16(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
INLINE void v_store_bf16(uint16_t *p, v16 x) {
#ifdef LANES_BF16
    _mm256_storeu_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh(x));
#else
    __m512i bits = _mm512_castps_si512(x), one = _mm512_set1_epi32(1);
    __m512i even = _mm512_and_si512(_mm512_srli_epi32(bits, 16), one);
    __m512i near = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), even), 16);
    __mmask16 odd = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    near = _mm512_mask_or_epi32(near, odd, _mm512_srli_epi32(bits, 16), _mm512_set1_epi32(64));
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(near));
#endif
}
INLINE void v_store_f16(uint16_t *p, v16 x) { _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(x, 0)); }
INLINE v16 v_of_w(w16 x) { return _mm512_cvtepi32_ps(x); }

INLINE float v_sum(v16 x) {
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
INLINE float v_biggest(v16 x) { return _mm512_reduce_max_ps(x); }

INLINE w16 w_set(int32_t x) { return _mm512_set1_epi32(x); }
INLINE w16 w_add(w16 a, w16 b) { return _mm512_add_epi32(a, b); }
INLINE w16 w_mul(w16 a, w16 b) { return _mm512_mullo_epi32(a, b); }
INLINE w16 w_round(v16 a) { return _mm512_cvtps_epi32(a); }
INLINE w16 w_load_i8(const int8_t *p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)); }
INLINE w16 w_load_u8(const uint8_t *p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)); }
INLINE v16 v_load_i8(const int8_t *p) { return v_of_w(w_load_i8(p)); }
INLINE v16 v_load_u8(const uint8_t *p) { return v_of_w(w_load_u8(p)); }
INLINE int32_t w_sum(w16 x) { return _mm512_reduce_add_epi32(x); }
INLINE void w_store_i8(int8_t *p, w16 x) { _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(x)); }

INLINE b64 b_load(const uint8_t *p) { return _mm512_loadu_si512(p); }
INLINE b64 b_set(int32_t x) { return _mm512_set1_epi32(x); }
INLINE b64 b_and(b64 a, uint8_t mask) { return _mm512_and_si512(a, _mm512_set1_epi8((char)mask)); }
INLINE b64 b_or(b64 a, b64 b) { return _mm512_or_si512(a, b); }
INLINE b64 b_lookup(b64 a, const uint8_t *table) {
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)table)), a);
}
INLINE b64 b_right(b64 a, int bits, uint8_t mask) { return b_and(_mm512_srli_epi16(a, (unsigned)bits), mask); }
INLINE b64 b_left(b64 a, int bits, uint8_t mask) { return b_and(_mm512_slli_epi16(a, (unsigned)bits), mask); }
INLINE w16 w_dot4(w16 acc, b64 a, int32_t x) { return _mm512_dpbusd_epi32(acc, a, _mm512_set1_epi32(x)); }

INLINE b64 b_wide(const int8_t *p) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p)); }
INLINE w16 w_dot2(w16 acc, b64 a, b64 b) { return _mm512_dpwssd_epi32(acc, a, b); }

INLINE v16 v_even(b64 a) { return _mm512_castsi512_ps(_mm512_slli_epi32(a, 16)); }
INLINE v16 v_odd(b64 a) { return _mm512_castsi512_ps(_mm512_and_si512(a, _mm512_set1_epi32((int)0xffff0000))); }

INLINE v16 v_dot2(v16 acc, b64 a, b64 b) {
#ifdef LANES_BF16
    return _mm512_dpbf16_ps(acc, (__m512bh)a, (__m512bh)b);
#else
    __m512i high = _mm512_set1_epi32((int)0xffff0000);
    acc = v_fma(_mm512_castsi512_ps(_mm512_slli_epi32(a, 16)), _mm512_castsi512_ps(_mm512_slli_epi32(b, 16)), acc);
    return v_fma(_mm512_castsi512_ps(_mm512_and_si512(a, high)), _mm512_castsi512_ps(_mm512_and_si512(b, high)), acc);
#endif
}

/* Two vectors at a time are folded into one until one is left: 15 additions for 16 sums. */
INLINE v16 v_sums(const v16 *x) {
    v16 a[8], b[4], c[2];
    for (int i = 0; i < 8; i++) /* lanes 0-7 from x[i], 8-15 from x[i + 8] */
        a[i] = v_add(_mm512_shuffle_f32x4(x[i], x[i + 8], 0x44), _mm512_shuffle_f32x4(x[i], x[i + 8], 0xee));
    for (int i = 0; i < 4; i++) /* fours from x[i], x[i + 4], x[i + 8], x[i + 12] */
        b[i] = v_add(_mm512_shuffle_f32x4(a[i], a[i + 4], 0x88), _mm512_shuffle_f32x4(a[i], a[i + 4], 0xdd));
    for (int i = 0; i < 2; i++)
        c[i] = v_add(_mm512_shuffle_ps(b[i], b[i + 2], 0x44), _mm512_shuffle_ps(b[i], b[i + 2], 0xee));
    v16 y = v_add(_mm512_shuffle_ps(c[0], c[1], 0x88), _mm512_shuffle_ps(c[0], c[1], 0xdd));
    const __m512i order = _mm512_setr_epi32(0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15);
    return _mm512_permutexvar_ps(order, y);
}
#endif
