/* One step of a program: its instructions one after the other, each cut into chunks that the threads share.

   An instruction runs over the step's N tokens, or over the M that have logits if it is `choosing`. */
#include "kernels.h"
#include "matrix.h"
#include "pool.h"
#include "strips.h"

#include <math.h>
#include <stdlib.h>

struct running {
    const struct program *program;
    const struct step *step;
    int phases[]; /* which instruction each phase is */
};

static float *at(const struct step *s, struct view view, int n) {
    const struct buffer *buffer = s->buffers + view.buffer;
    return (float *)(buffer->base + n * buffer->stride) + view.offset;
}

static uint8_t *prepared_at(const struct step *s, struct view view, int n) {
    return (uint8_t *)at(s, view, n);
}

/* Columns from..to of `x`, of which the instruction's result has `width`, made ready for the products that follow. */
static void prepare(const struct instruction *i, const struct step *s, int n, const float *x, int from, int to) {
    if (i->prepared.buffer < 0) return;
    int wide = (i->width + i->filling - 1) / i->filling * i->filling;
    kernels->prepare(i->prepares, x, from, to, i->width, wide, prepared_at(s, i->prepared, n));
}

/* to [width] = the row of matrices[0] for each token. */
static void embed(const struct instruction *i, const struct step *s, int n) {
    expand_row(i->matrices[0], s->tokens[n], at(s, i->to, n));
}

/* to [2, turned]: cosines and sines of position times `inverse`. */
static void rotary(const struct instruction *i, const struct step *s, int n) {
    float *cos = at(s, i->to, n), position = (float)s->position[n];
    for (int j = 0; j < i->turned; j++) {
        float angle = position * i->inverse[j];
        cos[j] = cosf(angle);
        cos[i->turned + j] = sinf(angle);
    }
}

/* from += with, if there is `with`; to = from over its root mean square, times weight; then prepared. */
static void norm(const struct instruction *i, const struct step *s, int n) {
    float *x = at(s, i->from, n), *y = at(s, i->to, n);
    if (i->with.buffer >= 0) kernels->add(x, at(s, i->with, n), i->width, x);
    kernels->rms_norm(x, i->weight, i->eps, i->width, y);
    prepare(i, s, n, y, 0, i->width);
}

/* to = the row of `from` that is the m-th with logits; then prepared. */
static void take(const struct instruction *i, const struct step *s, int m) {
    prepare(i, s, m, at(s, i->from, s->out[m]), 0, i->width);
}

/* part_to[p] = from times matrices[p] transposed, `from` being prepared. Gated: to = silu(part 0) * part 1, prepared. */
static void product(const struct instruction *i, const struct step *s, int count, int chunk) {
    int per = strips_per_chunk(i->matrices[0], i->gated, count, s->threads), part = 0;
    if (!i->gated)
        for (int chunks; chunk >= (chunks = chunks_of(i->matrices[part], per)); part++) chunk -= chunks;
    int first = chunk * per, left = strips(i->matrices[part]->rows) - first, many = left < per ? left : per;
    for (int p = part; p <= part + i->gated; p++)
        multiply_strips(i->matrices[p], first, many, count, prepared_at(s, i->from, 0), s->buffers[i->from.buffer].stride,
                        at(s, i->part_to[p], 0) + first * STRIP, s->buffers[i->part_to[p].buffer].stride / 4);
    if (!i->gated) return;
    int from = first * STRIP, to = from + many * STRIP < i->width ? from + many * STRIP : i->width;
    for (int n = 0; n < count; n++) {
        float *y = at(s, i->to, n);
        kernels->swiglu(at(s, i->part_to[0], n) + from, at(s, i->part_to[1], n) + from, many * STRIP, y + from);
        prepare(i, s, n, y, from, to);
    }
}

static void normalise(const struct instruction *i, float *x, const float *weight) {
    if (weight) kernels->rms_norm(x, weight, i->eps, i->dim, x);
}

static struct held cached(const struct instruction *i, const struct program *p, const struct step *s,
                          const int64_t *pointers, int n, int group) {
    int row = s->row[n];
    int64_t capacity = s->capacities[row], size = capacity * i->dim * held_bytes(p->cache_format);
    uint8_t *all = (uint8_t *)pointers[row * p->layers + i->layer];
    return (struct held){all + group * size, (float *)(all + i->groups * size) + group * capacity};
}

/* One key or value into the cache. */
static void keep(const struct instruction *i, const struct program *p, const struct step *s, const int64_t *pointers, int n,
                 int group, const float *x) {
    struct held held = cached(i, p, s, pointers, n, group);
    int64_t place = s->place[n];
    kernels->keep(p->cache_format, x, i->dim, held.numbers + place * i->dim * held_bytes(p->cache_format),
                  held.scales + place);
}

/* The queries and the key of one group, normalised and turned; key and value into the row's cache. */
static void turn(const struct instruction *i, const struct program *p, const struct step *s, int n, int group) {
    int many = i->heads / i->groups;
    const float *cos = at(s, i->rotary, n), *sin = cos + i->turned;
    float *key = at(s, i->k, n) + group * i->dim;
    for (int h = 0; h <= many; h++) {
        int of_key = h == many;
        float *x = of_key ? key : at(s, i->q, n) + (group * many + h) * i->dim;
        normalise(i, x, of_key ? i->k_before : i->q_before);
        kernels->rope(x, cos, sin, i->turned, i->pairs);
        normalise(i, x, of_key ? i->k_after : i->q_after);
    }
    keep(i, p, s, s->keys, n, group, key);
    keep(i, p, s, s->values, n, group, at(s, i->v, n) + group * i->dim);
}

/* to [H, D]: attention of one group's queries over what their row has up to this token; prepared. */
static void attend(const struct instruction *i, const struct program *p, const struct step *s, int n, int group) {
    int many = i->heads / i->groups, end = s->place[n] + 1, from = group * many * i->dim;
    int first = i->window && end > i->window ? end - i->window : 0;
    float *y = at(s, i->to, n);
    kernels->attend(p->cache_format, i->dim, at(s, i->q, n) + from, many, cached(i, p, s, s->keys, n, group),
                    cached(i, p, s, s->values, n, group), first, end - first, i->scale, y + from);
    prepare(i, s, n, y, from, from + many * i->dim);
}

static int count_of(const struct instruction *i, const struct step *s) { return i->choosing ? s->chosen : s->count; }

static int chunks_in(const struct instruction *i, const struct step *s) {
    int count = count_of(i, s);
    if (!count) return 0;
    if (i->kind == TURN || i->kind == ATTEND) return count * i->groups;
    if (i->kind != PRODUCT) return count;
    int chunks = 0, per = strips_per_chunk(i->matrices[0], i->gated, count, s->threads);
    for (int part = 0; part < (i->gated ? 1 : i->parts); part++) chunks += chunks_of(i->matrices[part], per);
    return chunks;
}

static void run_chunk(void *data, int phase, int chunk) {
    const struct running *r = data;
    const struct step *s = r->step;
    const struct instruction *i = r->program->code + r->phases[phase];
    switch (i->kind) {
    case EMBED: embed(i, s, chunk); break;
    case ROTARY: rotary(i, s, chunk); break;
    case NORM: norm(i, s, chunk); break;
    case TAKE: take(i, s, chunk); break;
    case PREPARE: prepare(i, s, chunk, at(s, i->from, chunk), 0, i->width); break;
    case ADD: kernels->add(at(s, i->from, chunk), at(s, i->with, chunk), i->width, at(s, i->to, chunk)); break;
    case PRODUCT: product(i, s, count_of(i, s), chunk); break;
    case SWIGLU: kernels->swiglu(at(s, i->from, chunk), at(s, i->with, chunk), i->width, at(s, i->to, chunk)); break;
    case TURN: turn(i, r->program, s, chunk % s->count, chunk / s->count); break;
    case ATTEND: attend(i, r->program, s, chunk % s->count, chunk / s->count); break;
    }
}

void crane_run(const struct program *program, const struct step *step) {
    int phases = 0, *chunks = malloc(sizeof(int) * (size_t)program->length);
    struct running *running = malloc(sizeof *running + sizeof(int) * (size_t)program->length);
    *running = (struct running){program, step};
    for (int i = 0; i < program->length; i++) {
        int count = chunks_in(program->code + i, step);
        if (!count) continue;
        running->phases[phases] = i;
        chunks[phases++] = count;
    }
    struct job job = {phases, chunks, run_chunk, running};
    pool_run(&job, step->threads);
    free(running);
    free(chunks);
}
