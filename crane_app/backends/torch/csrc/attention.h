/* Attention of one token over its row's keys and values, over the lanes of whichever file includes this.

   Online softmax over BLOCK positions at a time (arXiv 2205.14135): the keys and values of a block are read once for two
   query heads that share them, and stay near for the next two. Sums depend on the row's own length alone.

   Where more than two heads share a block, the first two ask for the next one: it comes while the others are at this one.
   For two alone there is nothing to fill the time with, and what the processor foresees by itself comes sooner. */
#include "strips.h"

enum { BLOCK = 64, MOST_DIM = 256, PAIR = 2, LINE = 64 };

/* Have the place a block further on fetched into the second cache, which has room for a block more. */
INLINE void ask_ahead(const uint8_t *place, int size) {
    for (int k = 0; k < size; k += LINE) __builtin_prefetch(place + BLOCK * size + k, 0, 2);
}

INLINE v16 v_load_as(int format, const uint8_t *p, int k) {
    if (format == BF16) return v_load_bf16((const uint16_t *)p + k);
    if (format == F16) return v_load_f16((const uint16_t *)p + k);
    if (format == I8) return v_load_i8((const int8_t *)p + k);
    return v_load((const float *)p + k);
}

/* Whether products with keys run on pairs of bfloat16. */
INLINE int by_pairs(int format, int dim) { return format == BF16 && dim % 32 == 0; }

/* Bytes are multiplied by whole numbers of 16 bits: sums of such products lose nothing. */
INLINE v16 dot_bytes_of_key(int dim, const uint8_t *halves, const uint8_t *key) {
    w16 sum = w_set(0);
    for (int k = 0; k < dim; k += 32) sum = w_dot2(sum, b_wide((const int8_t *)key + k), b_load(halves + 2 * k));
    return v_of_w(sum);
}

INLINE v16 dot_key(int format, int dim, const float *q, const uint8_t *halves, const uint8_t *key) {
    v16 sum = v_set(0);
    if (format == I8) return dot_bytes_of_key(dim, halves, key);
    if (by_pairs(format, dim))
        for (int k = 0; k < dim / 32; k++) sum = v_dot2(sum, b_load(key + 64 * k), b_load(halves + 64 * k));
    else
        for (int k = 0; k < dim; k += 16) sum = v_fma(v_load_as(format, key, k), v_load(q + k), sum);
    return sum;
}

/* Numbers that a query takes in `halves`: whole 32s, of which bytes are multiplied at once. */
INLINE int half_width(int dim) { return (dim + 31) / 32 * 32; }

/* Of 16 positions; past the end that of the last. */
INLINE v16 scales_of(const float *scales, int first, int count) {
    if (first + 16 <= count) return v_load(scales + first);
    float own[16];
    for (int i = 0; i < 16; i++) own[i] = scales[first + i < count ? first + i : count - 1];
    return v_load(own);
}

/* Scores of `many` queries q [many, dim] with `count` keys, [many][BLOCK]; past the end they are those of the last key.
   scales: what each query's products are worth. ahead: the next block follows. */
INLINE void score(int format, int dim, int many, const float *q, const uint8_t *halves, struct held keys, int count,
                  const float *scales, int ahead, float *out) {
    int size = dim * held_bytes(format);
    for (int first = 0; first < count; first += 16) {
        v16 sums[PAIR][16];
        for (int p = 0; p < 16; p++) {
            const uint8_t *key = keys.numbers + (int64_t)(first + p < count ? first + p : count - 1) * size;
            if (ahead) ask_ahead(key, size);
            for (int h = 0; h < many; h++)
                sums[h][p] = dot_key(format, dim, q + h * dim, halves + 2 * h * half_width(dim), key);
        }
        for (int h = 0; h < many; h++) {
            v16 scores = v_mul(v_sums(sums[h]), v_set(scales[h]));
            if (format == I8) scores = v_mul(scores, scales_of(keys.scales, first, count));
            v_store(out + h * BLOCK + first, scores);
        }
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
INLINE void gather(int format, int dim, int many, struct held values, int count, const float *weights,
                   const float *shrink, int ahead, float *out) {
    int size = dim * held_bytes(format);
    for (int first = 0; first < dim; first += 128) {
        v16 sum[PAIR][8];
        int wide = (dim - first < 128 ? dim - first : 128) / 16;
        for (int h = 0; h < many; h++)
            for (int k = 0; k < wide; k++)
                sum[h][k] = v_mul(v_load(out + h * dim + first + 16 * k), v_set(shrink[h]));
        for (int p = 0; p < count; p++) {
            const uint8_t *value = values.numbers + (int64_t)p * size;
            if (ahead && !first) ask_ahead(value, size);
            float worth = format == I8 ? values.scales[p] : 1;
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
                for (int h = 0; h < many; h++)
                    sum[h][k] = v_fma(lanes, v_set(weights[h * BLOCK + p] * worth), sum[h][k]);
            }
        }
        for (int h = 0; h < many; h++)
            for (int k = 0; k < wide; k++) v_store(out + h * dim + first + 16 * k, sum[h][k]);
    }
}

INLINE void attend_block(int format, int dim, int many, const float *q, const uint8_t *halves, struct held keys,
                         struct held values, int count, const float *scales, int ahead, float *most, float *mass,
                         float *out) {
    float weights[PAIR * BLOCK], shrink[PAIR];
    score(format, dim, many, q, halves, keys, count, scales, ahead, weights);
    for (int h = 0; h < many; h++) shrink[h] = weigh(weights + h * BLOCK, count, most + h, mass + h);
    gather(format, dim, many, values, count, weights, shrink, ahead, out);
}

/* A query [dim] as its products with keys of this format need it; gives what one of their units is worth. */
INLINE float halve(int format, int dim, const float *q, uint16_t *halves) {
    for (int k = 0; k < dim && format == BF16; k += 16) v_store_bf16(halves + k, v_load(q + k));
    if (format != I8) return 1;
    v16 largest = v_set(0);
    for (int k = 0; k < dim; k += 16) largest = v_max(v_abs(v_load(q + k)), largest);
    float most = v_biggest(largest);
    v16 inverse = v_set(most > 0 ? 32767.0f / most : 0.0f);
    for (int k = 0; k < half_width(dim); k += 16) {
        float whole[16] = {0};
        if (k < dim) v_store(whole, v_round(v_mul(v_load(q + k), inverse)));
        for (int i = 0; i < 16; i++) halves[k + i] = (uint16_t)(int16_t)whole[i];
    }
    return most / 32767.0f;
}

INLINE struct held held_from(struct held held, int place, int size) {
    return (struct held){held.numbers + (int64_t)place * size, held.scales + place};
}

INLINE void attend_in(int format, int dim, const float *q, int heads, struct held keys, struct held values, int first,
                      int count, float scale, float *out) {
    int size = dim * held_bytes(format), wide = half_width(dim);
    float most[heads], mass[heads], scales[heads];
    uint16_t halves[heads * wide];
    for (int h = 0; h < heads; h++) {
        most[h] = -__builtin_inff(), mass[h] = 0;
        scales[h] = scale * halve(format, dim, q + h * dim, halves + h * wide);
    }
    for (int k = 0; k < heads * dim; k += 16) v_store(out + k, v_set(0));
    for (int place = first; place < first + count; place += BLOCK) {
        int here = first + count - place < BLOCK ? first + count - place : BLOCK;
        struct held key = held_from(keys, place, size), value = held_from(values, place, size);
        for (int h = 0; h < heads; h += PAIR) {
            int ahead = !h && heads > PAIR && place + BLOCK < first + count;
            const float *own = q + h * dim;
            const uint8_t *half = (const uint8_t *)(halves + h * wide);
            float *y = out + h * dim;
            if (h + 1 < heads)
                attend_block(format, dim, 2, own, half, key, value, here, scales + h, ahead, most + h, mass + h, y);
            else
                attend_block(format, dim, 1, own, half, key, value, here, scales + h, ahead, most + h, mass + h, y);
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
static void attend(int format, int dim, const float *q, int heads, struct held keys, struct held values, int first,
                   int count, float scale, float *out) {
    if (format == BF16 && dim == 128) attend_in(BF16, 128, q, heads, keys, values, first, count, scale, out);
    else if (format == BF16 && dim == 64) attend_in(BF16, 64, q, heads, keys, values, first, count, scale, out);
    else if (format == I8 && dim == 128) attend_in(I8, 128, q, heads, keys, values, first, count, scale, out);
    else if (format == I8 && dim == 64) attend_in(I8, 64, q, heads, keys, values, first, count, scale, out);
    else attend_in(format, dim, q, heads, keys, values, first, count, scale, out);
}
