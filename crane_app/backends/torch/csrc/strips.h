/* How weights and activations lie in memory; shared by what packs them and what multiplies them.

   A strip is 16 rows. It lies in tiles of 64 columns, the last one filled up with zeros:
   F32    64 x [16] floats.
   F16    64 x [16] halves.
   BF16   32 x [16][2]: neighbouring columns side by side.
   Q8_0   scales f16 [2][16], then for each 32 columns [8][16][4] bytes, the integer + 128.
   Q4_0   scales f16 [2][16], then for each 32 columns [4][16][4] bytes: columns 0-15 in the low bits, 16-31 in the high.
   Q5_0   scales as Q8_0, then for each 32 columns the low four bits as Q4_0, and the fifth as [16][4] bytes, of which bit i
          belongs to columns 4i...
   A4_*   MLX's affine groups of 64 columns and more: scales [16] and biases [16] in the 16-bit type of the name, then the
          integers as in Q4_0.
   A8_*   the same with the integers as in Q8_0, but as they are.
   Formats in blocks of 256 columns lie in tiles of 256:
   Q4_K   d f16 [16], dmin f16 [16], scales u8 [8][16], mins u8 [8][16], then for each 32 columns as Q4_0.
   Q6_K   d f16 [16], 32 bytes unused, scales i8 [16][16], then for each 32 columns the low four bits as Q4_0, and the
          high two as [2][16][4] bytes, of which bits 2i and 2i + 1 of byte 4j.. belong to columns 8i + 4j..

   Activations are prepared once for all strips, filled up to whole tiles with zeros:
   FLOATS floats. HALVES bfloat16. The others int8 [columns], then a float scale for each 32 columns, then int32 sums that
   take the offset of the weights' integers back: EIGHTS -8 times the sum of each 32, LARGE -128 times it, SIXTEENS the
   plain sum of each 16. */
#ifndef STRIPS_H
#define STRIPS_H

#include "crane.h"

static inline int tile_columns(int format) { return format == Q4_K || format == Q6_K ? 256 : TILE; }

static inline int64_t tile_bytes(int format) {
    switch (format) {
    case F32: return 64 * 64;
    case F16: case BF16: return 64 * 32;
    case Q8_0: return 64 + 1024;
    case Q5_0: return 64 + 640;
    case Q4_0: case A4_BF16: case A4_F16: return 64 + 512;
    case A8_BF16: case A8_F16: return 64 + 1024;
    case Q4_K: return 64 + 256 + 2048;
    default: return 64 + 256 + 3072;
    }
}

static inline int tiles(int format, int columns) { return (columns + tile_columns(format) - 1) / tile_columns(format); }
static inline int filled(int format, int columns) { return tiles(format, columns) * tile_columns(format); }
static inline int64_t strip_bytes(int format, int columns) { return tiles(format, columns) * tile_bytes(format); }
static inline int strips(int rows) { return (rows + STRIP - 1) / STRIP; }

static inline int of_integers(int format) { return format >= Q8_0; }

enum prepared { FLOATS, HALVES, EIGHTS, LARGE, SIXTEENS };

static inline int prepared_for(int format, int exact) {
    if (exact || format == F32 || format == F16) return FLOATS;
    return format == BF16 ? HALVES : format == Q4_0 || format == Q5_0 ? EIGHTS : format == Q8_0 ? LARGE : SIXTEENS;
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
