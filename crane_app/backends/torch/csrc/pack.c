/* From rows as a file has them to strips (strips.h), and single rows back to floats.

   Blocks: ggml/src/ggml-common.h and dequantize_row_* in ggml-quants.c of llama.cpp. */
#include "pack.h"
#include "matrix.h"
#include "pool.h"
#include "strips.h"

#include <stdlib.h>
#include <string.h>

static int64_t block_bytes(int format) {
    static const int bytes[] = {[Q8_0] = 34, [Q4_0] = 18, [Q5_0] = 22, [Q4_1] = 20,  [Q5_1] = 24,  [IQ4_NL] = 18,
                                [Q2_K] = 84, [Q3_K] = 110, [Q4_K] = 144, [Q5_K] = 176, [Q6_K] = 210, [IQ4_XS] = 136};
    return bytes[format];
}

static int block_columns(int format) { return in_blocks_of_256(format) ? 256 : 32; }

int64_t row_bytes(int format, int columns) {
    if (format == F32) return 4L * columns;
    if (format < Q8_0) return 2L * columns;
    if (format >= A4_BF16) return format < A8_BF16 ? columns / 2 : columns;
    return columns / block_columns(format) * block_bytes(format);
}

/* Four integers of a byte each, as one word. */
static inline uint32_t four(const uint8_t *at) {
    uint32_t word;
    memcpy(&word, at, 4);
    return word;
}

static inline void put(uint8_t *at, uint32_t word) { memcpy(at, &word, 4); }

/* Bits `from` and the next one of 32 integers, and one bit of each, as put_twos and put_ones of blocks.h read them. */
static inline void place_twos(const uint8_t *whole, int from, uint8_t *at) {
    for (int i = 0; i < 2; i++) {
        uint32_t word = 0;
        for (int k = 0; k < 4; k++) word |= (four(whole + 8 * k + 4 * i) >> from & 0x03030303) << 2 * k;
        put(at + 64 * i, word);
    }
}

static inline void place_ones(const uint8_t *whole, int from, uint8_t *at) {
    uint32_t word = 0;
    for (int k = 0; k < 8; k++) word |= (four(whole + 4 * k) >> from & 0x01010101) << k;
    put(at, word);
}

/* 32 unsigned integers of row r into their part of the tile. */
static inline void place(int format, const uint8_t *whole, int r, uint8_t *part) {
    part += 4 * r;
    if (part_bytes(format) == 512) {
        for (int i = 0; i < 8; i++) put(part + 64 * i, four(whole + 4 * i));
        return;
    }
    if (format == Q2_K || format == Q3_K) {
        place_twos(whole, 0, part);
        if (format == Q3_K) place_ones(whole, 2, part + 128);
        return;
    }
    for (int i = 0; i < 4; i++) {
        uint32_t low = four(whole + 4 * i) & 0x0f0f0f0f, high = four(whole + 16 + 4 * i) & 0x0f0f0f0f;
        put(part + 64 * i, low | high << 4);
    }
    if (has_fifth(format)) place_ones(whole, 4, part + 256);
    if (format == Q6_K) place_twos(whole, 4, part + 256);
}

static void pack_small(int format, const uint8_t *block, int half, int r, uint8_t *tile) {
    int least = format == Q4_1 || format == Q5_1;
    uint8_t *part = tile + head_bytes(format) + part_bytes(format) * half;
    memcpy(tile + 32 * half + 2 * r, block, 2);
    if (least) memcpy(tile + 64 + 32 * half + 2 * r, block + 2, 2);
    block += least ? 4 : 2;
    if (has_fifth(format)) {
        uint8_t whole[32];
        for (int k = 0; k < 32; k++)
            whole[k] = (uint8_t)((block[4 + k % 16] >> k / 16 * 4 & 15) | (block[k / 8] >> k % 8 & 1) << 4);
        place(format, whole, r, part);
    } else if (format == Q8_0)
        for (int i = 0; i < 8; i++) put(part + 64 * i + 4 * r, four(block + 4 * i) ^ 0x80808080);
    else /* the same order of bits */
        for (int i = 0; i < 4; i++) put(part + 64 * i + 4 * r, four(block + 4 * i));
}

/* Q4_K and Q5_K. */
static void pack_with_mins(int format, const uint8_t *block, int r, uint8_t *tile) {
    const uint8_t *packed = block + 4, *fifth = block + 16, *low = block + (format == Q5_K ? 48 : 16);
    uint8_t whole[32];
    memcpy(tile + 2 * r, block, 2);
    memcpy(tile + 32 + 2 * r, block + 2, 2);
    for (int j = 0; j < 8; j++) {
        int early = j < 4;
        tile[64 + 16 * j + r] = early ? packed[j] & 63 : (uint8_t)((packed[j + 4] & 15) | packed[j - 4] >> 6 << 4);
        tile[192 + 16 * j + r] = early ? packed[j + 4] & 63 : (uint8_t)(packed[j + 4] >> 4 | packed[j] >> 6 << 4);
        for (int k = 0; k < 32; k++) {
            whole[k] = low[j / 2 * 32 + k] >> j % 2 * 4 & 15;
            if (format == Q5_K) whole[k] |= (uint8_t)((fifth[k] >> j & 1) << 4);
        }
        place(format, whole, r, tile + head_bytes(format) + part_bytes(format) * j);
    }
}

static void pack_q2_k(const uint8_t *block, int r, uint8_t *tile) {
    uint8_t whole[32];
    memcpy(tile + 2 * r, block + 80, 2);
    memcpy(tile + 32 + 2 * r, block + 82, 2);
    for (int j = 0; j < 16; j++) tile[64 + 16 * j + r] = block[j] & 15, tile[320 + 16 * j + r] = block[j] >> 4;
    for (int j = 0; j < 8; j++) {
        for (int k = 0; k < 32; k++) whole[k] = block[16 + j / 4 * 32 + k] >> j % 4 * 2 & 3;
        place(Q2_K, whole, r, tile + head_bytes(Q2_K) + part_bytes(Q2_K) * j);
    }
}

static void pack_q3_k(const uint8_t *block, int r, uint8_t *tile) {
    const uint8_t *third = block, *low = block + 32, *packed = block + 96;
    uint8_t whole[32];
    memcpy(tile + 2 * r, block + 108, 2);
    for (int j = 0; j < 16; j++) {
        int scale = (packed[j % 8] >> j / 8 * 4 & 15) | (packed[8 + j % 4] >> j / 4 * 2 & 3) << 4;
        tile[64 + 16 * j + r] = (uint8_t)(scale - 32);
    }
    for (int j = 0; j < 8; j++) {
        for (int k = 0; k < 32; k++)
            whole[k] = (uint8_t)((low[j / 4 * 32 + k] >> j % 4 * 2 & 3) | (third[k] >> j & 1) << 2);
        place(Q3_K, whole, r, tile + head_bytes(Q3_K) + part_bytes(Q3_K) * j);
    }
}

static void pack_q6_k(const uint8_t *block, int r, uint8_t *tile) {
    uint8_t whole[32];
    memcpy(tile + 2 * r, block + 208, 2);
    for (int j = 0; j < 16; j++) tile[64 + 16 * j + r] = block[192 + j];
    for (int j = 0; j < 8; j++) {
        const uint8_t *low = block + j / 4 * 64 + j % 2 * 32, *high = block + 128 + j / 4 * 32;
        for (int k = 0; k < 32; k++)
            whole[k] = (uint8_t)((low[k] >> j % 4 / 2 * 4 & 15) | (high[k] >> j % 4 * 2 & 3) << 4);
        place(Q6_K, whole, r, tile + head_bytes(Q6_K) + part_bytes(Q6_K) * j);
    }
}

static void pack_iq4_xs(const uint8_t *block, int r, uint8_t *tile) {
    memcpy(tile + 2 * r, block, 2);
    for (int j = 0; j < 8; j++) {
        int high = block[2 + j / 4] >> j % 4 * 2 & 3, low = block[4 + j / 2] >> j % 2 * 4 & 15;
        tile[64 + 16 * j + r] = (uint8_t)((low | high << 4) - 32);
        uint8_t *part = tile + head_bytes(IQ4_XS) + part_bytes(IQ4_XS) * j;
        for (int i = 0; i < 4; i++) put(part + 64 * i + 4 * r, four(block + 8 + 16 * j + 4 * i));
    }
}

static void pack_large(int format, const uint8_t *block, int r, uint8_t *tile) {
    if (format == Q2_K) pack_q2_k(block, r, tile);
    else if (format == Q3_K) pack_q3_k(block, r, tile);
    else if (format == Q6_K) pack_q6_k(block, r, tile);
    else if (format == IQ4_XS) pack_iq4_xs(block, r, tile);
    else pack_with_mins(format, block, r, tile);
}

static void pack_row(int format, const uint8_t *row, int columns, int r, uint8_t *strip) {
    if (format == F32) {
        for (int k = 0; k < columns; k++) memcpy(strip + 64 * k + 4 * r, row + 4 * k, 4);
    } else if (format == F16) {
        for (int k = 0; k < columns; k++) memcpy(strip + 32 * k + 2 * r, row + 2 * k, 2);
    } else if (format == BF16) {
        for (int k = 0; k + 1 < columns; k += 2) memcpy(strip + 32 * k + 4 * r, row + 2 * k, 4);
        if (columns % 2) memcpy(strip + 32 * (columns - 1) + 4 * r, row + 2 * (columns - 1), 2);
    } else {
        for (int b = 0; b < columns / block_columns(format); b++) {
            const uint8_t *block = row + b * block_bytes(format);
            if (in_blocks_of_256(format)) pack_large(format, block, r, strip + b * tile_bytes(format));
            else pack_small(format, block, b % 2, r, strip + b / 2 * tile_bytes(format));
        }
    }
}

void pack_rows(int format, const uint8_t *rows, int64_t stride, int count, int columns, uint8_t *strip) {
    memset(strip, 0, (size_t)strip_bytes(format, columns));
    for (int r = 0; r < count; r++) pack_row(format, rows + r * stride, columns, r, strip);
}

struct packing {
    int format, rows, columns;
    const uint8_t *source;
    int64_t stride;
    uint8_t *strips;
};

static void pack_strip(void *data, int phase, int chunk) {
    (void)phase;
    struct packing *p = data;
    int first = chunk * STRIP, count = p->rows - first < STRIP ? p->rows - first : STRIP;
    uint8_t *strip = p->strips + chunk * strip_bytes(p->format, p->columns);
    pack_rows(p->format, p->source + first * p->stride, p->stride, count, p->columns, strip);
}

/* Row r of a strip: integers of 4 bits two to a byte, the even column low, or of 8 bits as they are. */
static void pack_grouped_row(const struct grouping *g, int row, int r, uint8_t *strip) {
    int four = g->format < A8_BF16;
    const uint8_t *packed = g->packed + (int64_t)row * g->columns / (four ? 2 : 1);
    const uint16_t *scales = g->scales + (int64_t)row * (g->columns / g->size);
    const uint16_t *biases = g->biases + (int64_t)row * (g->columns / g->size);
    for (int k = 0; k < g->columns; k += 32) {
        uint8_t *tile = strip + k / 64 * tile_bytes(g->format), whole[32];
        memcpy(tile + 2 * r, scales + k / g->size, 2);
        memcpy(tile + 32 + 2 * r, biases + k / g->size, 2);
        for (int i = 0; i < 32; i++) whole[i] = four ? packed[(k + i) / 2] >> i % 2 * 4 & 15 : packed[k + i];
        place(g->format, whole, r, tile + head_bytes(g->format) + k % 64 / 32 * part_bytes(g->format));
    }
}

static void pack_grouped_strip(void *data, int phase, int chunk) {
    (void)phase;
    pack_grouped(data, chunk);
}

void pack_grouped(const struct grouping *g, int number) {
    int64_t size = strip_bytes(g->format, g->columns);
    uint8_t *strip = g->strips + number * size;
    memset(strip, 0, (size_t)size);
    for (int r = 0; r < STRIP && number * STRIP + r < g->rows; r++) pack_grouped_row(g, number * STRIP + r, r, strip);
}

/* From MLX's affine groups (mlx.core.quantize) of `size` columns, a multiple of 64; scales, biases [rows, groups]. */
void crane_pack_groups(int32_t format, const uint8_t *packed, const uint16_t *scales, const uint16_t *biases, int32_t size,
                       int32_t rows, int32_t columns, uint8_t *out, int32_t threads) {
    struct grouping grouping = {format, size, rows, columns, packed, scales, biases, out};
    int chunks = strips(rows);
    struct job job = {1, &chunks, pack_grouped_strip, &grouping};
    pool_run(&job, threads);
}

/* 0 if the columns are no whole number of the format's blocks. */
int crane_pack(int32_t format, const uint8_t *source, int64_t stride, int32_t rows, int32_t columns, uint8_t *out,
               int32_t threads) {
    if (rows < 1 || columns < 1 || (of_integers(format) && columns % block_columns(format))) return 0;
    struct packing packing = {format, rows, columns, source, stride, out};
    int chunks = strips(rows);
    struct job job = {1, &chunks, pack_strip, &packing};
    pool_run(&job, threads);
    return 1;
}

int64_t crane_strip_bytes(int32_t format, int32_t columns) { return strip_bytes(format, columns); }

int64_t crane_prepared_bytes(int32_t format, int32_t columns, int32_t exact) {
    return prepared_bytes(format, columns, exact);
}

int32_t crane_prepared_for(int32_t format, int32_t exact) { return prepared_for(format, exact); }

int32_t crane_tile_columns(int32_t format) { return tile_columns(format); }

struct expanding {
    const struct matrix *matrix;
    const int32_t *index;
    float *out;
};

static void expand_one(void *data, int phase, int chunk) {
    (void)phase;
    struct expanding *e = data;
    expand_row(e->matrix, e->index[chunk], e->out + (int64_t)chunk * e->matrix->columns);
}

void crane_expand(const struct matrix *matrix, const int32_t *index, int32_t count, float *out, int32_t threads) {
    struct expanding expanding = {matrix, index, out};
    struct job job = {count > 0, &count, expand_one, &expanding};
    pool_run(&job, threads);
}
