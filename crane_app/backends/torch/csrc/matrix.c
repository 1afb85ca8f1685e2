/* Products with a packed matrix, cut into chunks of strips. */
#include "matrix.h"

#include "kernels.h"
#include "strips.h"

/* Of weights: large, since each chunk has to be asked for; small enough that the last one keeps nobody waiting. Of many
   tokens, half of a second cache: each chunk reads them anew. */
enum { MOST_BYTES = 131072, MOST_OF_MANY = 524288, MANY = 64, CHUNKS_EACH = 4 };

int strips_per_chunk(const struct matrix *m, int twice, int count, int threads) {
    int64_t size = strip_bytes(m->format, m->columns) * (twice ? 2 : 1);
    int most = (int)((count < MANY ? MOST_BYTES : MOST_OF_MANY) / size);
    int many = strips(m->rows) / (CHUNKS_EACH * (threads > 0 ? threads : 1));
    many = (many < most ? many : most) / 2 * 2;
    return many > 2 ? many : 2;
}

int chunks_of(const struct matrix *m, int per) { return (strips(m->rows) + per - 1) / per; }

void multiply_strips(const struct matrix *m, int first, int many, int count, const uint8_t *x, int64_t x_stride, float *y,
                     int64_t y_stride) {
    const uint8_t *strip = m->strips + first * strip_bytes(m->format, m->columns);
    kernels->product(m->format, m->exact, strip, many, m->columns, count, x, x_stride, y, y_stride);
    if (!m->bias) return;
    int left = m->rows - first * STRIP, width = left < many * STRIP ? left : many * STRIP;
    for (int n = 0; n < count; n++) kernels->add(y + n * y_stride, m->bias + first * STRIP, width, y + n * y_stride);
}

void expand_row(const struct matrix *m, int index, float *out) {
    float tile[256 * STRIP];
    int wide = tile_columns(m->format);
    const uint8_t *strip = m->strips + index / STRIP * strip_bytes(m->format, m->columns);
    for (int first = 0; first < m->columns; first += wide, strip += tile_bytes(m->format)) {
        kernels->expand_tile(m->format, strip, tile);
        for (int k = first; k < m->columns && k < first + wide; k++) out[k] = tile[(k - first) * STRIP + index % STRIP];
    }
}
