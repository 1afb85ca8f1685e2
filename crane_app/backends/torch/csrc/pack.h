/* What packs rows in the form of a file, a strip at a time; all of the strip is written. */
#ifndef PACK_H
#define PACK_H

#include <stdint.h>

/* MLX's affine groups (mlx.core.quantize) of `size` columns, a multiple of 64; scales, biases [rows, groups]. */
struct grouping {
    int format, size, rows, columns;
    const uint8_t *packed;
    const uint16_t *scales, *biases;
    uint8_t *strips;
};

/* Bytes of a row in a file; of groups, without their scales and biases. */
int64_t row_bytes(int format, int columns);

/* `count` rows, 16 at most. */
void pack_rows(int format, const uint8_t *rows, int64_t stride, int count, int columns, uint8_t *strip);

/* Strip number `number`. */
void pack_grouped(const struct grouping *grouping, int number);

#endif
