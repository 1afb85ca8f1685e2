/* From rows as a file has them to strips (strips.h), and single rows back to floats.

   Blocks: ggml/src/ggml-common.h and dequantize_row_* in ggml-quants.c of llama.cpp. */
#include "pack.h"
#include "matrix.h"
#include "pool.h"
#include "strips.h"

#include <stdlib.h>
#include <string.h>

static int64_t block_bytes(int format) {
    switch (format) {
    case Q8_0: return 34;
    case Q4_0: return 18;
    case Q5_0: return 22;
    case Q4_K: return 144;
    default: return 210;
    }
}

static int block_columns(int format) { return format == Q4_K || format == Q6_K ? 256 : 32; }

int64_t row_bytes(int format, int columns) {
    if (format == F32) return 4L * columns;
    if (format < Q8_0) return 2L * columns;
    if (format >= A4_BF16) return format < A8_BF16 ? columns / 2 : columns;
    return columns / block_columns(format) * block_bytes(format);
}

/* Bytes that 32 columns of integers take in a tile. */
static int64_t part_bytes(int format) { return format == Q8_0 ? 512 : format == Q6_K ? 384 : format == Q5_0 ? 320 : 256; }

/* Four integers of a byte each, as one word. */
static inline uint32_t four(const uint8_t *at) {
    uint32_t word;
    memcpy(&word, at, 4);
    return word;
}

static inline void put(uint8_t *at, uint32_t word) { memcpy(at, &word, 4); }

/* 32 unsigned integers of row r into their part of the tile. */
static inline void place(int format, const uint8_t *whole, int r, uint8_t *part) {
    part += 4 * r;
    if (format == Q8_0) {
        for (int i = 0; i < 8; i++) put(part + 64 * i, four(whole + 4 * i));
        return;
    }
    for (int i = 0; i < 4; i++) {
        uint32_t low = four(whole + 4 * i) & 0x0f0f0f0f, high = four(whole + 16 + 4 * i) & 0x0f0f0f0f;
        put(part + 64 * i, low | high << 4);
    }
    if (format == Q5_0) {
        uint32_t word = 0;
        for (int k = 0; k < 8; k++) word |= (four(whole + 4 * k) >> 4 & 0x01010101) << k;
        put(part + 256, word);
    }
    for (int i = 0; format == Q6_K && i < 2; i++) {
        uint32_t word = 0;
        for (int k = 0; k < 4; k++) word |= (four(whole + 8 * k + 4 * i) >> 4 & 0x03030303) << 2 * k;
        put(part + 256 + 64 * i, word);
    }
}

static void pack_small(int format, const uint8_t *block, int half, int r, uint8_t *tile) {
    uint8_t *part = tile + 64 + part_bytes(format) * half + 4 * r;
    memcpy(tile + 32 * half + 2 * r, block, 2);
    if (format == Q5_0) {
        uint8_t whole[32];
        for (int k = 0; k < 32; k++)
            whole[k] = (uint8_t)((block[6 + k % 16] >> k / 16 * 4 & 15) | (block[2 + k / 8] >> k % 8 & 1) << 4);
        place(format, whole, r, part - 4 * r);
    } else if (format == Q4_0) /* the same order of bits */
        for (int i = 0; i < 4; i++) put(part + 64 * i, four(block + 2 + 4 * i));
    else
        for (int i = 0; i < 8; i++) put(part + 64 * i, four(block + 2 + 4 * i) ^ 0x80808080);
}

static void pack_q4_k(const uint8_t *block, int r, uint8_t *tile) {
    const uint8_t *packed = block + 4;
    uint8_t whole[32];
    memcpy(tile + 2 * r, block, 2);
    memcpy(tile + 32 + 2 * r, block + 2, 2);
    for (int j = 0; j < 8; j++) {
        int low = j < 4;
        tile[64 + 16 * j + r] = low ? packed[j] & 63 : (uint8_t)((packed[j + 4] & 15) | packed[j - 4] >> 6 << 4);
        tile[192 + 16 * j + r] = low ? packed[j + 4] & 63 : (uint8_t)(packed[j + 4] >> 4 | packed[j] >> 6 << 4);
        for (int k = 0; k < 32; k++) whole[k] = block[16 + j / 2 * 32 + k] >> j % 2 * 4 & 15;
        place(Q4_K, whole, r, tile + 320 + 256 * j);
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
        place(Q6_K, whole, r, tile + 320 + 384 * j);
    }
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
            if (format == Q4_K) pack_q4_k(block, r, strip + b * tile_bytes(format));
            else if (format == Q6_K) pack_q6_k(block, r, strip + b * tile_bytes(format));
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
        place(four ? Q4_0 : Q8_0, whole, r, tile + 64 + k % 64 / 32 * (four ? 256 : 512));
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
