/* Sixteen lanes as two registers of AVX2 with FMA and F16C; see lanes_plain.h. */
#ifndef LANES_H
#define LANES_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

typedef struct { __m256 a, b; } v16;
typedef struct { __m256i a, b; } w16, b64;

#define INLINE static inline __attribute__((always_inline))

INLINE v16 v_load(const float *p) { return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
INLINE void v_store(float *p, v16 x) { _mm256_storeu_ps(p, x.a); _mm256_storeu_ps(p + 8, x.b); }
INLINE v16 v_set(float x) { return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
INLINE v16 v_add(v16 x, v16 y) { return (v16){_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
INLINE v16 v_sub(v16 x, v16 y) { return (v16){_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
INLINE v16 v_mul(v16 x, v16 y) { return (v16){_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
INLINE v16 v_div(v16 x, v16 y) { return (v16){_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
INLINE v16 v_max(v16 x, v16 y) { return (v16){_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
INLINE v16 v_min(v16 x, v16 y) { return (v16){_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
INLINE v16 v_abs(v16 x) {
    const __m256 size = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    return (v16){_mm256_and_ps(x.a, size), _mm256_and_ps(x.b, size)};
}
INLINE v16 v_fma(v16 x, v16 y, v16 z) { return (v16){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
INLINE v16 v_round(v16 x) { return (v16){_mm256_round_ps(x.a, 8), _mm256_round_ps(x.b, 8)}; }
INLINE v16 v_power(v16 n) {
    const __m256i bias = _mm256_set1_epi32(127);
    return (v16){_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n.a), bias), 23)),
                 _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n.b), bias), 23))};
}
INLINE __m256 v_half_bf16(const uint16_t *p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16));
}
INLINE v16 v_load_bf16(const uint16_t *p) { return (v16){v_half_bf16(p), v_half_bf16(p + 8)}; }
INLINE v16 v_load_f16(const uint16_t *p) {
    return (v16){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                 _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8)))};
}
INLINE __m256i w_near_bf16(__m256 x) {
    __m256i bits = _mm256_castps_si256(x), even = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i near = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), even), 16);
    __m256i none = _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(64));
    return _mm256_blendv_epi8(near, none, _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
}
INLINE void v_store_bf16(uint16_t *p, v16 x) {
    __m256i packed = _mm256_packus_epi32(w_near_bf16(x.a), w_near_bf16(x.b));
    _mm256_storeu_si256((__m256i *)p, _mm256_permute4x64_epi64(packed, 0xd8));
}
INLINE void v_store_f16(uint16_t *p, v16 x) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(x.a, 0));
    _mm_storeu_si128((__m128i *)(p + 8), _mm256_cvtps_ph(x.b, 0));
}
INLINE v16 v_of_w(w16 x) { return (v16){_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }

INLINE float v_sum(v16 x) {
    __m256 a = _mm256_add_ps(x.a, x.b);
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
INLINE float v_biggest(v16 x) {
    __m256 a = _mm256_max_ps(x.a, x.b);
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}

INLINE w16 w_set(int32_t x) { return (w16){_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
INLINE w16 w_add(w16 x, w16 y) { return (w16){_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
INLINE w16 w_mul(w16 x, w16 y) { return (w16){_mm256_mullo_epi32(x.a, y.a), _mm256_mullo_epi32(x.b, y.b)}; }
INLINE w16 w_round(v16 x) { return (w16){_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
INLINE w16 w_load_i8(const int8_t *p) {
    __m128i x = _mm_loadu_si128((const __m128i *)p);
    return (w16){_mm256_cvtepi8_epi32(x), _mm256_cvtepi8_epi32(_mm_srli_si128(x, 8))};
}
INLINE w16 w_load_u8(const uint8_t *p) {
    __m128i x = _mm_loadu_si128((const __m128i *)p);
    return (w16){_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_srli_si128(x, 8))};
}
INLINE v16 v_load_i8(const int8_t *p) { return v_of_w(w_load_i8(p)); }
INLINE v16 v_load_u8(const uint8_t *p) { return v_of_w(w_load_u8(p)); }
INLINE int32_t w_sum(w16 x) {
    __m256i a = _mm256_add_epi32(x.a, x.b);
    __m128i b = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    b = _mm_add_epi32(b, _mm_shuffle_epi32(b, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(b, _mm_shuffle_epi32(b, 0xb1)));
}
/* Lanes are in [-128, 127]. */
INLINE void w_store_i8(int8_t *p, w16 x) {
    __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xd8);
    _mm_storeu_si128((__m128i *)p, _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}

INLINE b64 b_load(const uint8_t *p) {
    return (b64){_mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)(p + 32))};
}
INLINE b64 b_set(int32_t x) { return w_set(x); }
INLINE b64 b_and(b64 x, uint8_t mask) {
    __m256i m = _mm256_set1_epi8((char)mask);
    return (b64){_mm256_and_si256(x.a, m), _mm256_and_si256(x.b, m)};
}
INLINE b64 b_or(b64 x, b64 y) { return (b64){_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)}; }
INLINE b64 b_lookup(b64 x, const uint8_t *table) {
    __m256i own = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table));
    return (b64){_mm256_shuffle_epi8(own, x.a), _mm256_shuffle_epi8(own, x.b)};
}
INLINE b64 b_right(b64 x, int bits, uint8_t mask) {
    return b_and((b64){_mm256_srli_epi16(x.a, bits), _mm256_srli_epi16(x.b, bits)}, mask);
}
INLINE b64 b_left(b64 x, int bits, uint8_t mask) {
    return b_and((b64){_mm256_slli_epi16(x.a, bits), _mm256_slli_epi16(x.b, bits)}, mask);
}

/* By words of 16 bits: the instruction for bytes saturates where both are large. */
INLINE __m256i w_dot4_half(__m256i acc, __m256i a, __m256i x) {
    const __m256i low = _mm256_set1_epi16(255);
    __m256i even = _mm256_madd_epi16(_mm256_and_si256(a, low), _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8));
    __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(a, 8), _mm256_srai_epi16(x, 8));
    return _mm256_add_epi32(acc, _mm256_add_epi32(even, odd));
}
INLINE w16 w_dot4(w16 acc, b64 a, int32_t x) {
    __m256i four = _mm256_set1_epi32(x);
    return (w16){w_dot4_half(acc.a, a.a, four), w_dot4_half(acc.b, a.b, four)};
}

INLINE b64 b_wide(const int8_t *p) {
    return (b64){_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p)),
                 _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(p + 16)))};
}
INLINE w16 w_dot2(w16 acc, b64 a, b64 b) {
    return (w16){_mm256_add_epi32(acc.a, _mm256_madd_epi16(a.a, b.a)), _mm256_add_epi32(acc.b, _mm256_madd_epi16(a.b, b.b))};
}

INLINE v16 v_even(b64 x) {
    return (v16){_mm256_castsi256_ps(_mm256_slli_epi32(x.a, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(x.b, 16))};
}
INLINE v16 v_odd(b64 x) {
    const __m256i high = _mm256_set1_epi32((int)0xffff0000);
    return (v16){_mm256_castsi256_ps(_mm256_and_si256(x.a, high)), _mm256_castsi256_ps(_mm256_and_si256(x.b, high))};
}

INLINE __m256 v_dot2_half(__m256 acc, __m256i a, __m256i b) {
    const __m256i high = _mm256_set1_epi32((int)0xffff0000);
    acc = _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_slli_epi32(a, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(b, 16)), acc);
    return _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_and_si256(a, high)), _mm256_castsi256_ps(_mm256_and_si256(b, high)), acc);
}
INLINE v16 v_dot2(v16 acc, b64 a, b64 b) { return (v16){v_dot2_half(acc.a, a.a, b.a), v_dot2_half(acc.b, a.b, b.b)}; }

INLINE v16 v_sums(const v16 *x) {
    float y[16];
    for (int i = 0; i < 16; i++) y[i] = v_sum(x[i]);
    return v_load(y);
}
#endif
