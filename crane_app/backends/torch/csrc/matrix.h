/* Products with a packed matrix, cut into chunks of strips. */
#ifndef MATRIX_H
#define MATRIX_H

#include "crane.h"

/* How many strips a chunk of `count` tokens has, `twice` where it runs the same strips of a second matrix too. Always
   even, so that a chunk's columns are whole blocks of whatever is prepared from them. */
int strips_per_chunk(const struct matrix *m, int twice, int count, int threads);
int chunks_of(const struct matrix *m, int per);

/* y [count, 16 * many] = prepared x [count] times `many` strips from `first` on, plus their bias; y is that of the first
   strip. Distances from token to token in bytes and in floats. */
void multiply_strips(const struct matrix *m, int first, int many, int count, const uint8_t *x, int64_t x_stride, float *y,
                     int64_t y_stride);

/* Row `index` in floats. */
void expand_row(const struct matrix *m, int index, float *out);

#endif
