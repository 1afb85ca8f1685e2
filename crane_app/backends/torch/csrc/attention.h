/* Attention of one token over its row's keys and values, over the lanes of whichever file includes this.

   Online softmax over BLOCK positions at a time (arXiv 2205.14135): the keys and values of a block are read once for two
   query heads that share them, and stay near for the next two. Sums depend on the row's own length alone. */
#include "strips.h"

enum { BLOCK = 64, MOST_DIM = 256, PAIR = 2 };

INLINE v16 v_load_as(int format, const uint8_t *p, int k) {
    if (format == BF16) return v_load_bf16((const uint16_t *)p + k);
    if (format == F16) return v_load_f16((const uint16_t *)p + k);
    return v_load((const float *)p + k);
}

/* Whether products with keys run on pairs of bfloat16. */
INLINE int by_pairs(int format, int dim) { return format == BF16 && dim % 32 == 0; }

INLINE v16 dot_key(int format, int dim, const float *q, const uint8_t *halves, const uint8_t *key) {
    v16 sum = v_set(0);
    if (by_pairs(format, dim))
        for (int k = 0; k < dim / 32; k++) sum = v_dot2(sum, b_load(key + 64 * k), b_load(halves + 64 * k));
    else
        for (int k = 0; k < dim; k += 16) sum = v_fma(v_load_as(format, key, k), v_load(q + k), sum);
    return sum;
}

/* Scores of `many` queries q [many, dim] with `count` keys, [many][BLOCK]; past the end they are those of the last key. */
INLINE void score(int format, int dim, int many, const float *q, const uint8_t *halves, const uint8_t *keys, int count,
                  float scale, float *out) {
    int size = dim * (format == F32 ? 4 : 2);
    for (int first = 0; first < count; first += 16) {
        v16 sums[PAIR][16];
        for (int p = 0; p < 16; p++) {
            const uint8_t *key = keys + (int64_t)(first + p < count ? first + p : count - 1) * size;
            for (int h = 0; h < many; h++) sums[h][p] = dot_key(format, dim, q + h * dim, halves + 2 * h * dim, key);
        }
        for (int h = 0; h < many; h++) v_store(out + h * BLOCK + first, v_mul(v_sums(sums[h]), v_set(scale)));
    }
}

/* Scores [count] become weights; gives by how much what was summed before shrinks. */
INLINE float weigh(float *scores, int count, float *most, float *mass) {
    int whole = (count + 15) / 16 * 16;
    for (int p = count; p < whole; p++) scores[p] = -__builtin_inff();
    v16 top = v_set(*most), sum = v_set(0);
    for (int p = 0; p < whole; p += 16) top = v_max(v_load(scores + p), top);
    float peak = v_biggest(top), shrink[16];
    v_store(shrink, v_exp(v_set(*most - peak)));
    if (*mass == 0) shrink[0] = 0;
    for (int p = 0; p < whole; p += 16) {
        v_store(scores + p, v_exp(v_sub(v_load(scores + p), v_set(peak))));
        for (int i = count; i < p + 16; i++) scores[i] = 0;
        sum = v_add(sum, v_load(scores + p));
    }
    *mass = *mass * shrink[0] + v_sum(sum);
    *most = peak;
    return shrink[0];
}

/* out [many, dim] = out * shrink [many] + the values of `count` positions times weights [many][BLOCK]. By pairs, even
   columns stand before odd ones in each 32 of out: parting them anew for every position would cost more. */
INLINE void gather(int format, int dim, int many, const uint8_t *values, int count, const float *weights,
                   const float *shrink, float *out) {
    int size = dim * (format == F32 ? 4 : 2);
    for (int first = 0; first < dim; first += 128) {
        v16 sum[PAIR][8];
        int wide = (dim - first < 128 ? dim - first : 128) / 16;
        for (int h = 0; h < many; h++)
            for (int k = 0; k < wide; k++)
                sum[h][k] = v_mul(v_load(out + h * dim + first + 16 * k), v_set(shrink[h]));
        for (int p = 0; p < count; p++) {
            const uint8_t *value = values + (int64_t)p * size;
            for (int k = 0; k < wide && by_pairs(format, dim); k += 2) {
                b64 pairs = b_load(value + 2 * first + 32 * k);
                v16 even = v_even(pairs), odd = v_odd(pairs);
                for (int h = 0; h < many; h++) {
                    v16 weight = v_set(weights[h * BLOCK + p]);
                    sum[h][k] = v_fma(even, weight, sum[h][k]);
                    sum[h][k + 1] = v_fma(odd, weight, sum[h][k + 1]);
                }
            }
            for (int k = 0; k < wide && !by_pairs(format, dim); k++) {
                v16 lanes = v_load_as(format, value, first + 16 * k);
                for (int h = 0; h < many; h++) sum[h][k] = v_fma(lanes, v_set(weights[h * BLOCK + p]), sum[h][k]);
            }
        }
        for (int h = 0; h < many; h++)
            for (int k = 0; k < wide; k++) v_store(out + h * dim + first + 16 * k, sum[h][k]);
    }
}

INLINE void attend_block(int format, int dim, int many, const float *q, const uint8_t *halves, const uint8_t *keys,
                         const uint8_t *values, int count, float scale, float *most, float *mass, float *out) {
    float weights[PAIR * BLOCK], shrink[PAIR];
    score(format, dim, many, q, halves, keys, count, scale, weights);
    for (int h = 0; h < many; h++) shrink[h] = weigh(weights + h * BLOCK, count, most + h, mass + h);
    gather(format, dim, many, values, count, weights, shrink, out);
}

INLINE void attend_in(int format, int dim, const float *q, int heads, const uint8_t *keys, const uint8_t *values,
                      int first, int count, float scale, float *out) {
    int size = dim * (format == F32 ? 4 : 2);
    float most[heads], mass[heads];
    uint16_t halves[heads * dim];
    for (int h = 0; h < heads; h++) most[h] = -__builtin_inff(), mass[h] = 0;
    for (int k = 0; k < heads * dim; k += 16) {
        v_store(out + k, v_set(0));
        v_store_bf16(halves + k, v_load(q + k));
    }
    for (int place = first; place < first + count; place += BLOCK) {
        int here = first + count - place < BLOCK ? first + count - place : BLOCK;
        const uint8_t *key = keys + (int64_t)place * size, *value = values + (int64_t)place * size;
        for (int h = 0; h < heads; h += PAIR) {
            const float *own = q + h * dim;
            const uint8_t *half = (const uint8_t *)(halves + h * dim);
            float *y = out + h * dim;
            if (h + 1 < heads)
                attend_block(format, dim, 2, own, half, key, value, here, scale, most + h, mass + h, y);
            else
                attend_block(format, dim, 1, own, half, key, value, here, scale, most + h, mass + h, y);
        }
    }
    for (int h = 0; h < heads; h++) {
        float *y = out + h * dim;
        for (int k = 0; k < dim; k += 16) v_store(y + k, v_div(v_load(y + k), v_set(mass[h])));
        for (int k = 0; k < dim && by_pairs(format, dim); k += 32) {
            float parted[32];
            v_store(parted, v_load(y + k));
            v_store(parted + 16, v_load(y + k + 16));
            for (int i = 0; i < 32; i++) y[k + i] = parted[i / 2 + i % 2 * 16];
        }
    }
}

/* Query heads q [heads, dim] that share a key head, over positions first..first + count; out [heads, dim].
   The usual sizes are spelled out, so that their loops are unrolled. */
static void attend(int format, int dim, const float *q, int heads, const uint8_t *keys, const uint8_t *values, int first,
                   int count, float scale, float *out) {
    if (format == BF16 && dim == 128) attend_in(BF16, 128, q, heads, keys, values, first, count, scale, out);
    else if (format == BF16 && dim == 64) attend_in(BF16, 64, q, heads, keys, values, first, count, scale, out);
    else attend_in(format, dim, q, heads, keys, values, first, count, scale, out);
}
