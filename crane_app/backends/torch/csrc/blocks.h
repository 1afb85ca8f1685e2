/* What the tiles of integers mean (strips.h), over the lanes of whichever file includes this: read by every product. */
#ifndef BLOCKS_H
#define BLOCKS_H

#include "strips.h"

/* What the 32 columns of a block are worth: a scale and the least of them; of columns in 16s, two scales and two minima,
   which the others then are the units of. */
struct worth {
    v16 scale, least;
    w16 part[2], minimum[2];
};

/* Scales or biases of affine groups. */
INLINE v16 affine(int format, const uint8_t *p) {
    return format == A4_BF16 || format == A8_BF16 ? v_load_bf16((const uint16_t *)p) : v_load_f16((const uint16_t *)p);
}

INLINE struct worth worth_of(int format, const uint8_t *tile, int block) {
    const uint16_t *halves = (const uint16_t *)tile;
    struct worth worth = {v_load_f16(halves), v_set(0), {w_set(1), w_set(1)}, {w_set(0), w_set(0)}};
    if (format == Q4_K || format == Q5_K) {
        worth.scale = v_mul(worth.scale, v_load_u8(tile + 64 + 16 * block));
        worth.least = v_mul(v_load_f16(halves + 16), v_load_u8(tile + 192 + 16 * block));
    } else if (format == IQ4_XS) {
        worth.scale = v_mul(worth.scale, v_load_i8((const int8_t *)tile + 64 + 16 * block));
    } else if (in_sixteens(format)) {
        for (int i = 0; i < 2; i++) worth.part[i] = w_load_i8((const int8_t *)tile + 64 + 32 * block + 16 * i);
        for (int i = 0; i < 2 && format == Q2_K; i++) worth.minimum[i] = w_load_u8(tile + 320 + 32 * block + 16 * i);
        if (format == Q2_K) worth.least = v_load_f16(halves + 16);
    } else if (format >= A4_BF16) {
        worth.scale = affine(format, tile);
        worth.least = affine(format, tile + 32);
    } else {
        worth.scale = v_load_f16(halves + 16 * block);
        if (has_least(format)) worth.least = v_load_f16(halves + 32 + 16 * block);
    }
    return worth;
}

/* Bits 2i and 2i + 1 of two vectors, which belong to columns 8i + 4j.., as those of the integers from bit `to` on. */
INLINE void put_twos(const uint8_t *p, int to, b64 *eight) {
    for (int j = 0; j < 8; j++) {
        b64 twos = b_load(p + 64 * (j % 2));
        int from = j / 2 * 2;
        uint8_t mask = (uint8_t)(3 << to);
        twos = from > to ? b_right(twos, from - to, mask) : from < to ? b_left(twos, to - from, mask) : b_and(twos, mask);
        eight[j] = to ? b_or(eight[j], twos) : twos;
    }
}

/* Bit i of one vector, which belongs to columns 4i.., as bit `to`. */
INLINE void put_ones(const uint8_t *p, int to, b64 *eight) {
    b64 ones = b_load(p);
    for (int i = 0; i < 8; i++) {
        uint8_t mask = (uint8_t)(1 << to);
        b64 one = i > to ? b_right(ones, i - to, mask) : b_left(ones, to - i, mask);
        eight[i] = b_or(eight[i], one);
    }
}

/* The numbers that IQ4_NL and IQ4_XS look up, with 128 more. Source: kvalues_iq4nl of ggml/src/ggml-common.h. */
static const uint8_t LOOKED_UP[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};

/* The unsigned integers of a tile's 32 columns, eight [8] of four columns each. */
INLINE void integers(int format, const uint8_t *tile, int block, b64 *eight) {
    const uint8_t *part = tile + head_bytes(format) + block * part_bytes(format);
    if (format == Q8_0 || format == A8_BF16 || format == A8_F16) {
        for (int j = 0; j < 8; j++) eight[j] = b_load(part + 64 * j);
    } else if (format == Q2_K || format == Q3_K) {
        put_twos(part, 0, eight);
        if (format == Q3_K) put_ones(part + 128, 2, eight);
    } else {
        for (int j = 0; j < 4; j++) {
            b64 bytes = b_load(part + 64 * j);
            eight[j] = b_and(bytes, 15);
            eight[4 + j] = b_right(bytes, 4, 15);
        }
        if (has_fifth(format)) put_ones(part + 256, 4, eight);
        if (format == Q6_K) put_twos(part + 256, 4, eight);
        for (int j = 0; j < 8 && looks_up(format); j++) eight[j] = b_lookup(eight[j], LOOKED_UP);
    }
}

/* A block in floats, [32 columns][16]. */
INLINE void expand_block(int format, const uint8_t *tile, int block, float *out) {
    struct worth worth = worth_of(format, tile, block);
    b64 eight[8];
    integers(format, tile, block, eight);
    for (int k = 0; k < 32; k++) {
        float whole[16];
        for (int r = 0; r < 16; r++) whole[r] = (float)(((const uint8_t *)eight)[k / 4 * 64 + r * 4 + k % 4] - offset(format));
        v16 scale = worth.scale, least = worth.least;
        if (in_sixteens(format)) scale = v_mul(scale, v_of_w(worth.part[k / 16]));
        if (format == Q2_K) least = v_mul(least, v_of_w(worth.minimum[k / 16]));
        v16 value = v_mul(v_load(whole), scale);
        if (format >= Q2_K && format < A4_BF16 && has_least(format)) value = v_sub(value, least);
        else if (has_least(format)) value = v_add(value, least);
        v_store(out + 16 * k, value);
    }
}

INLINE v16 scaled(w16 whole, v16 scale, const uint8_t *x, int columns, int block, v16 sum) {
    float own = ((const float *)(x + scales_at(columns)))[block];
    return v_fma(v_of_w(whole), v_mul(scale, v_set(own)), sum);
}

INLINE w16 offset_of(const uint8_t *x, int columns, int block) {
    return w_set(((const int32_t *)(x + sums_at(columns)))[block]);
}

/* The products of a block in 16s: its first ones and its second ones, without their offset. */
INLINE w16 of_sixteens(int format, const struct worth *worth, w16 first, w16 second, const int32_t *sums) {
    if (offset(format)) {
        first = w_add(first, w_set(-offset(format) * sums[0]));
        second = w_add(second, w_set(-offset(format) * sums[1]));
    }
    return w_add(w_mul(first, worth->part[0]), w_mul(second, worth->part[1]));
}

/* sum + what a block's products are worth. */
INLINE v16 sum_up(int format, const struct worth *worth, w16 whole, const uint8_t *x, int columns, int block, v16 sum) {
    int kind = prepared_for(format, 0);
    const int32_t *sums = (const int32_t *)(x + sums_at(columns)) + 2 * block;
    float own = ((const float *)(x + scales_at(columns)))[block];
    if (kind != SIXTEENS) whole = w_add(whole, offset_of(x, columns, block));
    if (format == Q5_0) whole = w_add(whole, offset_of(x, columns, block)); /* 16 times the sum, which has 8 of it */
    sum = scaled(whole, worth->scale, x, columns, block, sum);
    if (format == Q2_K) {
        w16 least = w_add(w_mul(worth->minimum[0], w_set(sums[0])), w_mul(worth->minimum[1], w_set(sums[1])));
        return v_sub(sum, v_mul(v_mul(worth->least, v_set(own)), v_of_w(least)));
    }
    if (format == Q4_K || format == Q5_K) return v_sub(sum, v_mul(worth->least, v_set(own * (float)(sums[0] + sums[1]))));
    if (has_least(format)) return v_fma(worth->least, v_set(own * (float)(sums[0] + sums[1])), sum);
    return sum;
}

#endif
