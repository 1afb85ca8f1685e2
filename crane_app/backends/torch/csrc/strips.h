/* How weights and activations lie in memory; shared by what packs them and what multiplies them.

   A strip is 16 rows. It lies in tiles of 64 columns, the last one filled up with zeros:
   F32    64 x [16] floats.
   F16    64 x [16] halves.
   BF16   32 x [16][2]: neighbouring columns side by side.
   Q8_0   scales f16 [2][16], then for each 32 columns [8][16][4] bytes, the integer + 128.
   Q4_0   scales f16 [2][16], then for each 32 columns [4][16][4] bytes: columns 0-15 in the low bits, 16-31 in the high.
   Q5_0   scales as Q8_0, then for each 32 columns the low four bits as Q4_0, and the fifth as [16][4] bytes, of which bit i
          belongs to columns 4i...
   Q4_1, Q5_1   scales and least f16, each [2][16], then the integers as in Q4_0 and Q5_0.
   IQ4_NL as Q4_0; the four bits are looked up.
   A4_*   MLX's affine groups of 64 columns and more: scales [16] and biases [16] in the 16-bit type of the name, then the
          integers as in Q4_0.
   A8_*   the same with the integers as in Q8_0, but as they are.
   Formats in blocks of 256 columns lie in tiles of 256; they begin with d f16 [16] and dmin f16 [16], or 32 bytes unused:
   Q2_K   scales u8 [16][16], mins u8 [16][16], then for each 32 columns [2][16][4] bytes, of which bits 2i and 2i + 1 of
          byte 4j.. belong to columns 8i + 4j...
   Q3_K   scales i8 [16][16], then for each 32 columns the low two bits as in Q2_K and the third as the fifth of Q5_0.
   Q4_K   scales u8 [8][16], mins u8 [8][16], then for each 32 columns as Q4_0.
   Q5_K   the same, then for each 32 columns as Q5_0.
   Q6_K   scales i8 [16][16], then for each 32 columns the low four bits as Q4_0, and the high two as in Q2_K.
   IQ4_XS scales i8 [8][16], then for each 32 columns as IQ4_NL.

   Activations are prepared once for all strips, filled up to whole tiles with zeros:
   FLOATS floats. HALVES bfloat16. The others int8 [columns], then a float scale for each 32 columns, then int32 sums that
   take the offset of the weights' integers back: EIGHTS -8 times the sum of each 32, LARGE -128 times it, SIXTEENS the
   plain sum of each 16. */
#ifndef STRIPS_H
#define STRIPS_H

#include "crane.h"

static inline int in_blocks_of_256(int format) { return format >= Q2_K && format <= IQ4_XS; }
static inline int in_sixteens(int format) { return format == Q2_K || format == Q3_K || format == Q6_K; }
static inline int has_fifth(int format) { return format == Q5_0 || format == Q5_1 || format == Q5_K; }
static inline int looks_up(int format) { return format == IQ4_NL || format == IQ4_XS; }
static inline int large_bytes(int format) { return format == Q8_0 || looks_up(format) || format >= A8_BF16; }
static inline int has_least(int format) {
    return format == Q4_1 || format == Q5_1 || format == Q2_K || format == Q4_K || format == Q5_K || format >= A4_BF16;
}

/* What an integer of the tile has more than the number it stands for. */
static inline int offset(int format) {
    if (has_least(format)) return 0;
    if (format == Q4_0) return 8;
    return format == Q5_0 ? 16 : format == Q3_K ? 4 : format == Q6_K ? 32 : 128;
}

static inline int tile_columns(int format) { return in_blocks_of_256(format) ? 256 : TILE; }

/* Where the integers of a tile begin. */
static inline int head_bytes(int format) {
    if (format == Q4_1 || format == Q5_1) return 128;
    if (!in_blocks_of_256(format)) return 64;
    return format == Q2_K ? 64 + 512 : format == IQ4_XS ? 64 + 128 : 64 + 256;
}

/* Bytes that 32 columns of integers take in a tile. */
static inline int part_bytes(int format) {
    switch (format) {
    case Q8_0: case A8_BF16: case A8_F16: return 512;
    case Q6_K: return 384;
    case Q5_0: case Q5_1: case Q5_K: return 320;
    case Q3_K: return 192;
    case Q2_K: return 128;
    default: return 256;
    }
}

static inline int64_t tile_bytes(int format) {
    if (format == F32) return 64 * 64;
    if (format == F16 || format == BF16) return 64 * 32;
    return head_bytes(format) + part_bytes(format) * (tile_columns(format) / 32);
}

static inline int tiles(int format, int columns) { return (columns + tile_columns(format) - 1) / tile_columns(format); }
static inline int filled(int format, int columns) { return tiles(format, columns) * tile_columns(format); }
static inline int64_t strip_bytes(int format, int columns) { return tiles(format, columns) * tile_bytes(format); }
static inline int strips(int rows) { return (rows + STRIP - 1) / STRIP; }

static inline int of_integers(int format) { return format >= Q8_0; }

enum prepared { FLOATS, HALVES, EIGHTS, LARGE, SIXTEENS };

static inline int prepared_for(int format, int exact) {
    if (exact || format == F32 || format == F16) return FLOATS;
    if (format == BF16) return HALVES;
    if (format == Q4_0 || format == Q5_0) return EIGHTS;
    return format == Q8_0 || looks_up(format) ? LARGE : SIXTEENS;
}

/* Where the scales and the sums of prepared integers begin. */
static inline int64_t scales_at(int columns) { return columns; }
static inline int64_t sums_at(int columns) { return columns + columns / 32 * 4; }

static inline int64_t prepared_bytes(int format, int columns, int exact) {
    int64_t n = filled(format, columns), kind = prepared_for(format, exact);
    int64_t bytes = kind == FLOATS ? 4 * n : kind == HALVES ? 2 * n : sums_at((int)n) + n / 16 * 4;
    return (bytes + 63) / 64 * 64;
}

#endif
