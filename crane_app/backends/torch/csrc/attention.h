/* Attention of one token over its row's keys and values, over the lanes of whichever file includes this.

   Online softmax over BLOCK positions at a time (arXiv 2205.14135): the keys of a block are read once for all query heads
   that share them. Sums depend on the row's own length alone. */
#include "strips.h"

enum { BLOCK = 64, MOST_DIM = 256 };

INLINE v16 v_load_as(int format, const uint8_t *p, int k) {
    if (format == BF16) return v_load_bf16((const uint16_t *)p + k);
    if (format == F16) return v_load_f16((const uint16_t *)p + k);
    return v_load((const float *)p + k);
}

/* Scores [count] of one query, 16 positions at a time; positions past the end repeat the last one. */
INLINE void score(int format, int dim, const float *q, const b64 *pairs, const uint8_t *keys, int count, float scale,
                  float *out) {
    int size = dim * (format == F32 ? 4 : 2);
    for (int first = 0; first < count; first += 16) {
        v16 sums[16];
        for (int p = 0; p < 16; p++) {
            int place = first + p < count ? first + p : count - 1;
            const uint8_t *key = keys + (int64_t)place * size;
            v16 sum = v_set(0);
            if (format == BF16 && dim % 32 == 0)
                for (int k = 0; k < dim / 32; k++) sum = v_dot2(sum, b_load(key + 64 * k), pairs[k]);
            else
                for (int k = 0; k < dim; k += 16) sum = v_fma(v_load_as(format, key, k), v_load(q + k), sum);
            sums[p] = sum;
        }
        v_store(out + first, v_mul(v_sums(sums), v_set(scale)));
    }
}

/* out [dim] of a query = out * shrink + the values of `count` positions, weighted. */
INLINE void gather(int format, int dim, const uint8_t *values, int count, const float *weights, float shrink, float *out) {
    int size = dim * (format == F32 ? 4 : 2);
    for (int first = 0; first < dim; first += 128) {
        v16 sum[8];
        int many = (dim - first < 128 ? dim - first : 128) / 16;
        for (int k = 0; k < many; k++) sum[k] = v_mul(v_load(out + first + 16 * k), v_set(shrink));
        for (int p = 0; p < count; p++) {
            v16 weight = v_set(weights[p]);
            const uint8_t *value = values + (int64_t)p * size;
            for (int k = 0; k < many; k++) sum[k] = v_fma(v_load_as(format, value, first + 16 * k), weight, sum[k]);
        }
        for (int k = 0; k < many; k++) v_store(out + first + 16 * k, sum[k]);
    }
}

INLINE void attend_in(int format, int dim, const float *q, int heads, const uint8_t *keys, const uint8_t *values,
                      int first, int count, float scale, float *out) {
    int size = dim * (format == F32 ? 4 : 2);
    float most[heads], mass[heads], weights[BLOCK];
    b64 pairs[MOST_DIM / 32];
    for (int h = 0; h < heads; h++) most[h] = -__builtin_inff(), mass[h] = 0;
    for (int k = 0; k < heads * dim; k += 16) v_store(out + k, v_set(0));
    for (int place = first; place < first + count; place += BLOCK) {
        int here = first + count - place < BLOCK ? first + count - place : BLOCK;
        for (int h = 0; h < heads; h++) {
            const float *own = q + h * dim;
            if (format == BF16 && dim % 32 == 0)
                for (int k = 0; k < dim / 32; k++) {
                    uint16_t halves[32];
                    v_store_bf16(halves, v_load(own + 32 * k));
                    v_store_bf16(halves + 16, v_load(own + 32 * k + 16));
                    pairs[k] = b_load((const uint8_t *)halves);
                }
            score(format, dim, own, pairs, keys + (int64_t)place * size, here, scale, weights);
            for (int p = here; p < (here + 15) / 16 * 16; p++) weights[p] = -__builtin_inff();
            v16 top = v_set(most[h]);
            for (int p = 0; p < here; p += 16) top = v_max(v_load(weights + p), top);
            float peak = v_biggest(top);
            v16 sum = v_set(0);
            for (int p = 0; p < here; p += 16) {
                v16 weight = v_exp(v_sub(v_load(weights + p), v_set(peak)));
                v_store(weights + p, weight);
                if (p + 16 > here)
                    for (int i = here; i < p + 16; i++) weights[i] = 0;
                sum = v_add(sum, v_load(weights + p));
            }
            float shrink = 1.0f;
            if (most[h] != peak) {
                float lanes[16];
                v_store(lanes, v_exp(v_set(most[h] - peak)));
                shrink = place == first ? 0.0f : lanes[0];
            }
            mass[h] = mass[h] * shrink + v_sum(sum);
            most[h] = peak;
            gather(format, dim, values + (int64_t)place * size, here, weights, shrink, out + h * dim);
        }
    }
    for (int h = 0; h < heads; h++)
        for (int k = 0; k < dim; k += 16) v_store(out + h * dim + k, v_div(v_load(out + h * dim + k), v_set(mass[h])));
}

/* Query heads q [heads, dim] that share a key head, over positions first..first + count; out [heads, dim].
   The usual sizes are spelled out, so that their loops are unrolled. */
static void attend(int format, int dim, const float *q, int heads, const uint8_t *keys, const uint8_t *values, int first,
                   int count, float scale, float *out) {
    if (format == BF16 && dim == 128) attend_in(BF16, 128, q, heads, keys, values, first, count, scale, out);
    else if (format == BF16 && dim == 64) attend_in(BF16, 64, q, heads, keys, values, first, count, scale, out);
    else attend_in(format, dim, q, heads, keys, values, first, count, scale, out);
}
