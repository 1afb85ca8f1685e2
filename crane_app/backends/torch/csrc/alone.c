/* Single operations outside a program: a product, the likeliest of each row, and reading for the bandwidth's sake. */
#include "kernels.h"
#include "matrix.h"
#include "pool.h"
#include "strips.h"

#include <stdlib.h>

struct single {
    const struct matrix *matrix;
    const float *x;
    float *y;
    uint8_t *prepared;
    int64_t stride, prepared_stride;
    int count, per;
};

static void single_chunk(void *data, int phase, int chunk) {
    struct single *s = data;
    const struct matrix *m = s->matrix;
    if (!phase) {
        kernels->prepare(prepared_for(m->format, m->exact), s->x + (int64_t)chunk * m->columns, 0, m->columns, m->columns,
                         filled(m->format, m->columns), s->prepared + chunk * s->prepared_stride);
        return;
    }
    int first = chunk * s->per, left = strips(m->rows) - first, many = left < s->per ? left : s->per;
    multiply_strips(m, first, many, s->count, s->prepared, s->prepared_stride, s->y + first * STRIP, s->stride);
}

/* y [count, stride] = x [count, columns] times the matrix transposed, plus its bias; y has room for whole strips. */
void crane_product(const struct matrix *matrix, const float *x, int32_t count, float *y, int64_t stride, int32_t threads) {
    struct single single = {matrix, x, y, NULL, stride, prepared_bytes(matrix->format, matrix->columns, matrix->exact),
                            count, strips_per_chunk(matrix, 0, count, threads)};
    if (count < 1) return;
    single.prepared = aligned_alloc(64, (size_t)(single.prepared_stride * count));
    int chunks[] = {count, chunks_of(matrix, single.per)};
    struct job job = {2, chunks, single_chunk, &single};
    pool_run(&job, threads);
    free(single.prepared);
}

enum { SLICE = 8192 }; /* floats that one chunk looks through */

struct choosing {
    const float *x;
    int width, slices;
    int64_t stride;
    int32_t *found;
    float *values;
    int32_t *places;
};

static void choose_chunk(void *data, int phase, int chunk) {
    const struct choosing *c = data;
    if (!phase) {
        int row = chunk / c->slices, from = chunk % c->slices * SLICE;
        int count = c->width - from < SLICE ? c->width - from : SLICE;
        c->places[chunk] = from + kernels->best(c->x + row * c->stride + from, count, c->values + chunk);
        return;
    }
    int first = chunk * c->slices, most = first;
    for (int i = first + 1; i < first + c->slices; i++)
        if (c->values[i] > c->values[most]) most = i;
    c->found[chunk] = c->places[most];
}

/* found [rows]: where the largest of each x [rows, width] stands, the first of equals. */
void crane_best(const float *x, int32_t rows, int32_t width, int64_t stride, int32_t *found, int32_t threads) {
    int slices = (width + SLICE - 1) / SLICE;
    if (rows < 1) return;
    float *values = malloc(sizeof(float) * (size_t)(rows * slices));
    int32_t *places = malloc(sizeof(int32_t) * (size_t)(rows * slices));
    struct choosing choosing = {x, width, slices, stride, found, values, places};
    int chunks[] = {rows * slices, rows};
    struct job job = {2, chunks, choose_chunk, &choosing};
    pool_run(&job, threads);
    free(places);
    free(values);
}

struct drawing {
    const float *x;
    int width, keep;
    int64_t stride;
    const float *temperature, *min_p, *noise;
    int32_t *found;
    float *total;
};

static void top_chunk(void *data, int phase, int row) {
    (void)phase;
    const struct drawing *d = data;
    const float *x = d->x + row * d->stride;
    int32_t *ids = d->found + (int64_t)row * d->keep;
    kernels->top(x, d->width, d->temperature[row], d->keep, ids);
    d->total[row] = kernels->mass(x, d->width, d->temperature[row], x[ids[0]] / d->temperature[row]);
}

/* ids [rows, keep]: where the likeliest of each x [rows, width] / temperature stand, in descending order; total [rows]: the
   sum of exp(x / temperature - the largest). keep: from 1 to width. */
void crane_top(const float *x, int32_t rows, int32_t width, int64_t stride, const float *temperature, int32_t keep,
               int32_t *ids, float *total, int32_t threads) {
    struct drawing drawing = {x, width, keep, stride, temperature, NULL, NULL, ids, total};
    struct job job = {rows > 0, &rows, top_chunk, &drawing};
    pool_run(&job, threads);
}

static void pick_chunk(void *data, int phase, int row) {
    (void)phase;
    const struct drawing *d = data;
    d->found[row] = kernels->pick(d->x + row * d->stride, d->width, d->temperature[row], d->min_p[row], d->noise[row]);
}

/* found [rows]: drawn from each x [rows, width] by its temperature, the least mass by that of the likeliest, and its noise. */
void crane_pick(const float *x, int32_t rows, int32_t width, int64_t stride, const float *temperature,
                const float *min_p, const float *noise, int32_t *found, int32_t threads) {
    struct drawing drawing = {x, width, 0, stride, temperature, min_p, noise, found, NULL};
    struct job job = {rows > 0, &rows, pick_chunk, &drawing};
    pool_run(&job, threads);
}

static _Atomic int64_t sink; /* so that reading is not left out */

struct streaming {
    const uint8_t *bytes;
    int64_t part;
};

static void stream_chunk(void *data, int phase, int chunk) {
    (void)phase;
    const struct streaming *s = data;
    sink |= kernels->stream(s->bytes + chunk * s->part, s->part);
}

/* Read all bytes once; gives how many were read. */
double crane_stream(const uint8_t *bytes, int64_t size, int32_t threads) {
    struct streaming streaming = {bytes, 1 << 17};
    int chunks = (int)(size / streaming.part);
    struct job job = {1, &chunks, stream_chunk, &streaming};
    pool_run(&job, threads);
    return (double)(chunks * streaming.part);
}
