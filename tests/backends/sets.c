/* Holds instruction sets against the portable twin, where Python does not run: on an emulated processor (tools/neon.py).

   Arguments: the sets that this processor must have beside the plain one, the widest last; any other must be refused.
   "present": those that it has. "last" before them: only the last one is held against the twin.
   What is wrong goes to stdout, and the status is 1.

   Whole numbers, roundings and single operations must have the twin's bits. Sums of floats may differ by how often they
   round; among the sets that are asked for they may not, but where one has an instruction of its own. */
#include "../../crane_app/backends/torch/csrc/kernels.h"
#include "../../crane_app/backends/torch/csrc/strips.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[FORMATS] = {
    "F32",  "F16",  "BF16", "Q8_0", "Q4_0", "Q5_0",   "Q4_1",    "Q5_1",   "IQ4_NL",  "Q2_K",
    "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS", "A4_BF16", "A4_F16", "A8_BF16", "A8_F16",
};
static const char *const every[] = {"neon", "neon_dotprod", "neon_i8mm", "avx2", "avx512", "avx512_bf16"};
static const double EPS = 1.1920928955078125e-07;

static int wrong, held;

static void expect(int right, const char *set, const char *what, const char *name, int a, int b, int c) {
    held++;
    if (right) return;
    if (wrong++ < 20) printf("%s: %s of %s is wrong at %d, %d, %d\n", set, what, name, a, b, c);
}

static uint64_t state = 88172645463325252u;

static uint32_t chance(void) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (uint32_t)(state >> 32);
}

/* About normal, with now and then a large one. */
static float number(void) {
    float sum = 0;
    for (int i = 0; i < 4; i++) sum += (float)(chance() >> 8) / (1 << 24) - 0.5f;
    return chance() % 64 ? sum * 1.7f : sum * 20;
}

static float *numbers(int count) {
    float *x = malloc(sizeof(float) * (size_t)count);
    for (int i = 0; i < count; i++) x[i] = number();
    return x;
}

/* A scale of either sign, now and then one that is not normal. */
static uint16_t half_scale(void) {
    uint16_t exponent = chance() % 32 ? 5 + chance() % 5 : 0;
    return (uint16_t)((chance() & 1) << 15 | exponent << 10 | (chance() & 1023));
}

static uint16_t bfloat_scale(void) { return (uint16_t)((chance() & 1) << 15 | (118 + chance() % 4) << 7 | (chance() & 127)); }

static uint8_t *noise(int64_t size) {
    uint8_t *bytes = malloc((size_t)size);
    for (int64_t i = 0; i < size; i++) bytes[i] = (uint8_t)chance();
    return bytes;
}

/* Rows in GGUF's blocks, or floats of 16 and 32 bits; gives the bytes of a row. */
static int64_t blocks(int format, int rows, int columns, uint8_t **out) {
    static const int sizes[] = {[Q8_0] = 34, [Q4_0] = 18, [Q5_0] = 22, [Q4_1] = 20, [Q5_1] = 24, [IQ4_NL] = 18,
                                [Q2_K] = 84, [Q3_K] = 110, [Q4_K] = 144, [Q5_K] = 176, [Q6_K] = 210, [IQ4_XS] = 136};
    static const int scale_at[A4_BF16] = {[Q2_K] = 80, [Q3_K] = 108, [Q6_K] = 208};
    int wide = in_blocks_of_256(format) ? 256 : 32;
    if (!of_integers(format)) {
        int size = format == F32 ? 4 : 2;
        *out = malloc((size_t)(rows * columns * size));
        for (int i = 0; i < rows * columns; i++) {
            float x = number() * 0.1f;
            uint16_t half = format == F16 ? half_scale() : 0;
            if (format == BF16) half = bfloat_scale();
            memcpy(*out + i * size, format == F32 ? (void *)&x : (void *)&half, (size_t)size);
        }
        return columns * size;
    }
    int64_t stride = columns / wide * sizes[format];
    *out = noise(rows * stride);
    for (int64_t i = 0; i < rows * stride; i += sizes[format]) {
        uint16_t scale = half_scale(), least = half_scale();
        memcpy(*out + i + scale_at[format], &scale, 2);
        if (has_least(format)) memcpy(*out + i + scale_at[format] + 2, &least, 2);
    }
    return stride;
}

static uint8_t *packed(int format, int rows, int columns) {
    int64_t size = strips(rows) * strip_bytes(format, columns);
    uint8_t *out = aligned_alloc(64, (size_t)size), *source;
    if (format < A4_BF16) {
        int64_t stride = blocks(format, rows, columns, &source);
        expect(crane_pack(format, source, stride, rows, columns, out, 2), "plain", "packing", names[format], rows, columns, 0);
        free(source);
        return out;
    }
    int groups = rows * columns / 64, bfloat = format == A4_BF16 || format == A8_BF16;
    uint16_t *scales = malloc(sizeof(uint16_t) * (size_t)groups), *biases = malloc(sizeof(uint16_t) * (size_t)groups);
    for (int i = 0; i < groups; i++) {
        scales[i] = bfloat ? bfloat_scale() : half_scale();
        biases[i] = bfloat ? bfloat_scale() : half_scale();
    }
    source = noise(rows * columns);
    crane_pack_groups(format, source, scales, biases, 64, rows, columns, out, 2);
    free(source), free(scales), free(biases);
    return out;
}

enum { COUNT = 19 /* rows of activations: two eights and a rest */, MOST = 1024 };

/* Of one matrix: products y [COUNT, whole strips] with x [COUNT, columns], and how large what they sum is. */
struct known {
    float *weights, *x, *y, *first; /* first: of the first set that sums as this one does */
    double *size;                   /* |x| times |w| */
};

/* The largest of the 32 columns from `first` on, in 127ths of which they are rounded. */
static double most_of_block(const float *x, int first, int columns) {
    double most = 0;
    for (int i = first; i < first + 32 && i < columns; i++) most = fmax(most, fabs(x[i]));
    return most;
}

static void known_by_twin(const struct matrix *m, struct known *k) {
    int wide = strips(m->rows) * STRIP;
    int32_t *index = malloc(sizeof(int32_t) * (size_t)m->rows);
    for (int r = 0; r < m->rows; r++) index[r] = r;
    crane_expand(m, index, m->rows, k->weights, 2);
    crane_product(m, k->x, COUNT, k->y, wide, 2);
    for (int n = 0; n < COUNT; n++)
        for (int r = 0; r < m->rows; r++) {
            double sum = 0, size = 0, loss = 0, most = 0;
            for (int c = 0; c < m->columns; c++) {
                double x = k->x[n * m->columns + c], w = k->weights[r * m->columns + c];
                if (c % 32 == 0) most = most_of_block(k->x + n * m->columns, c, m->columns);
                sum += x * w, size += fabs(x * w), loss += most * fabs(w);
            }
            double bound = 64 * EPS * size + 1e-6;
            if (of_integers(m->format) && !m->exact) bound += 1.01 / 254 * loss;
            if (m->format == BF16) bound += size / 256;
            expect(fabs(k->y[n * wide + r] - sum) <= bound, "plain", "the product", names[m->format], n, r, m->columns);
            k->size[n * wide + r] = size;
        }
    free(index);
}

static void hold_products(const struct matrix *m, const struct known *k, const char *set, int first) {
    int wide = strips(m->rows) * STRIP;
    size_t bytes = sizeof(float) * (size_t)(COUNT * wide);
    float *y = malloc(bytes), *weights = malloc(sizeof(float) * (size_t)(m->rows * m->columns));
    int32_t *index = malloc(sizeof(int32_t) * (size_t)m->rows);
    for (int r = 0; r < m->rows; r++) index[r] = r;
    crane_expand(m, index, m->rows, weights, 2);
    expect(!memcmp(weights, k->weights, sizeof(float) * (size_t)(m->rows * m->columns)), set, "a row", names[m->format],
           m->rows, m->columns, m->exact);
    crane_product(m, k->x, COUNT, y, wide, 2);
    for (int n = 0; n < COUNT; n++)
        for (int r = 0; r < m->rows; r++)
            expect(fabs((double)y[n * wide + r] - k->y[n * wide + r]) <= 64 * EPS * k->size[n * wide + r], set, "the product",
                   names[m->format], n, r, m->columns);
    if (first) memcpy(k->first, y, bytes);
    for (int count = 1; count <= COUNT; count += count < 9 ? 1 : 5) { /* a row has the same bits in any company */
        crane_product(m, k->x + (COUNT - count) * m->columns, count, y, wide, 1 + count % 2);
        for (int n = 0; n < count; n++)
            expect(!memcmp(y + n * wide, k->first + (COUNT - count + n) * wide, sizeof(float) * (size_t)m->rows), set,
                   "a row among others", names[m->format], count, n, m->columns);
    }
    free(y), free(weights), free(index);
}

static void hold_matrices(const char **sets, int count) {
    static const int plain[] = {7, 64, 300}, small[] = {32, 96, 896}, large[] = {256, 1024}, grouped[] = {64, 192, 896};
    static const int rows[] = {1, 16, 50};
    for (int format = 0; format < FORMATS; format++) {
        const int *widths = format >= A4_BF16 ? grouped : in_blocks_of_256(format) ? large : of_integers(format) ? small : plain;
        for (int i = 0; i < (widths == large ? 2 : 3) * 3 * 2; i++) {
            struct matrix m = {format, rows[i % 3], widths[i / 6], i / 3 % 2, NULL, NULL};
            int wide = strips(m.rows) * STRIP;
            struct known k = {numbers(m.rows * m.columns), numbers(COUNT * m.columns), numbers(COUNT * wide),
                              numbers(COUNT * wide), malloc(sizeof(double) * (size_t)(COUNT * wide))};
            memset(k.x + m.columns, 0, sizeof(float) * (size_t)m.columns); /* a row of zeros among them */
            m.strips = packed(format, m.rows, m.columns);
            crane_choose("plain");
            known_by_twin(&m, &k);
            for (int s = 0; s < count; s++) {
                crane_choose(sets[s]);
                /* its instruction for bfloat16 rounds by rules of its own */
                int of_its_own = format == BF16 && !strcmp(sets[s], "avx512_bf16");
                hold_products(&m, &k, sets[s], s == 0 || of_its_own);
            }
            free(k.weights), free(k.x), free(k.y), free(k.first), free(k.size), free((void *)m.strips);
        }
    }
}

static int close_to(const float *x, const float *y, int count, double most) {
    for (int i = 0; i < count; i++)
        if (isnan(x[i]) ? !isnan(y[i]) : !(x[i] == y[i] || fabs((double)x[i] - y[i]) <= most * fabs(y[i]))) return 0;
    return 1;
}

/* What a format of the cache keeps, bit by bit. */
static void hold_keeping(const struct kernels *own, const float *x) {
    static const int formats[] = {F32, F16, BF16, I8};
    for (int i = 0; i < 4; i++)
        for (int dim = 16; dim <= 256; dim += 16) {
            uint8_t mine[1024] = {0}, twin[1024] = {0};
            float scales[2] = {0};
            own->keep(formats[i], x, dim, mine, scales);
            kernels_plain.keep(formats[i], x, dim, twin, scales + 1);
            expect(!memcmp(mine, twin, 1024) && scales[0] == scales[1], own->name, "keeping", "a key", formats[i], dim, 0);
        }
}

static void hold_preparing(const struct kernels *own, const float *x) {
    for (int kind = FLOATS; kind <= SIXTEENS; kind++)
        for (int columns = 1; columns <= 320; columns += 29) {
            int wide = (columns + 63) / 64 * 64;
            uint8_t mine[4 * MOST] = {0}, twin[4 * MOST] = {0};
            own->prepare(kind, x, 0, columns, columns, wide, mine);
            kernels_plain.prepare(kind, x, 0, columns, columns, wide, twin);
            expect(!memcmp(mine, twin, sizeof mine), own->name, "preparing", "a row", kind, columns, wide);
        }
}

static void hold_rows(const struct kernels *own) {
    float *x = numbers(MOST), *w = numbers(MOST), *turned = numbers(MOST), mine[MOST], twin[MOST], value[2];
    x[3] = 0.0f, x[5] = -0.0f, x[40] = 1e-41f, x[100] = 7e4f, x[101] = -3e38f, x[103] = 65519, x[104] = 65520, x[105] = 6.1e-5f;
    x[16] = 1 + 0x1p-8f, x[17] = 1 + 0x3p-8f, x[18] = 0x1p-25f, x[19] = 0x3p-25f; /* halfway between two */
    hold_preparing(own, x);
    hold_preparing(own, w);
    for (int from = 0; from < MOST; from += 256) hold_keeping(own, (from == 256 ? w : x) + from);
    for (int width = 1; width <= 200; width += 7) {
        own->add(x, w, width, mine);
        kernels_plain.add(x, w, width, twin);
        expect(!memcmp(mine, twin, sizeof(float) * (size_t)width), own->name, "adding", "a row", width, 0, 0);
        own->rms_norm(w, turned, 1e-6f, width, mine);
        kernels_plain.rms_norm(w, turned, 1e-6f, width, twin);
        expect(close_to(mine, twin, width, 1e-6), own->name, "the norm", "a row", width, 0, 0);
        int found = own->best(w, width, value), sought = kernels_plain.best(w, width, value + 1);
        expect(found == sought && value[0] == value[1], own->name, "the largest", "a row", width, found, sought);
        int32_t ids[2][20];
        int kept = width < 20 ? width : 20;
        own->top(w, width, 0.7f, kept, ids[0]), kernels_plain.top(w, width, 0.7f, kept, ids[1]);
        expect(!memcmp(ids[0], ids[1], sizeof(int32_t) * (size_t)kept), own->name, "the likeliest", "a row", width, 0, 0);
        value[0] = own->mass(w, width, 0.7f, w[found] / 0.7f), value[1] = kernels_plain.mass(w, width, 0.7f, w[found] / 0.7f);
        expect(close_to(value, value + 1, 1, 4e-6), own->name, "the mass", "a row", width, 0, 0);
        found = own->pick(w, width, 0.7f, 0.01f, 0.37f), sought = kernels_plain.pick(w, width, 0.7f, 0.01f, 0.37f);
        expect(found == sought, own->name, "a draw", "a row", width, found, sought);
    }
    float edges[32] = {INFINITY, -INFINITY, NAN, 0, -0.0f, 87, -87, 88, -88, 89, -89, 1e-30f, -1e30f, 1e30f, 127, -127};
    own->swiglu(edges, w, 32, mine);
    kernels_plain.swiglu(edges, w, 32, twin);
    expect(close_to(mine, twin, 32, 4e-6), own->name, "the gate", "edges", 0, 0, 0);
    own->swiglu(w, turned, MOST, mine);
    kernels_plain.swiglu(w, turned, MOST, twin);
    expect(close_to(mine, twin, MOST, 4e-6), own->name, "the gate", "a row", MOST, 0, 0);
    for (int pairs = 0; pairs < 2; pairs++) {
        memcpy(mine, w, sizeof mine), memcpy(twin, w, sizeof twin);
        own->rope(mine, turned, turned + 128, 37, pairs);
        kernels_plain.rope(twin, turned, turned + 128, 37, pairs);
        expect(!memcmp(mine, twin, sizeof mine), own->name, "turning", "a row", pairs, 0, 0);
    }
    expect(own->stream((uint8_t *)x, 4 * MOST) == kernels_plain.stream((uint8_t *)x, 4 * MOST), own->name, "reading",
           "memory", 0, 0, 0);
    free(x), free(w), free(turned);
}

/* `heads` queries over `count` keys of a cache with room for more. */
static void hold_attention(const struct kernels *own, int format, int dim, int heads, int first, int count) {
    int capacity = first + count, bytes = dim * held_bytes(format);
    float *q = numbers(heads * dim), *x = numbers(capacity * dim * 2), *scales = numbers(capacity * 2);
    uint8_t *held_here = malloc((size_t)(2 * capacity * bytes)), *values = held_here + capacity * bytes;
    float mine[8 * 256], twin[8 * 256], most = 0;
    for (int p = 0; p < 2 * capacity; p++) {
        kernels_plain.keep(format, x + p * dim, dim, held_here + p * bytes, scales + p);
        for (int i = 0; i < dim; i++) most = fmaxf(most, fabsf(x[p * dim + i]));
    }
    struct held keys = {held_here, scales}, taken = {values, scales + capacity};
    own->attend(format, dim, q, heads, keys, taken, first, count, 0.3f / sqrtf((float)dim), mine);
    kernels_plain.attend(format, dim, q, heads, keys, taken, first, count, 0.3f / sqrtf((float)dim), twin);
    for (int i = 0; i < heads * dim; i++)
        expect(fabsf(mine[i] - twin[i]) <= 1e-5f * most, own->name, "attention", "heads", format, dim, count);
    free(q), free(x), free(scales), free(held_here);
}

static void hold_all_attention(const struct kernels *own) {
    static const int formats[] = {F32, F16, BF16, I8}, dims[] = {16, 48, 64, 80, 128, 256}, counts[] = {1, 15, 64, 65, 200};
    for (int f = 0; f < 4; f++)
        for (int d = 0; d < 6; d++)
            for (int c = 0; c < 5; c++)
                for (int heads = 1; heads <= 7; heads += 2 + c)
                    hold_attention(own, formats[f], dims[d], heads, c % 2 * 3, counts[c]);
}

int main(int count, char **arguments) {
    const char *present[sizeof every / sizeof *every], **sets = (const char **)arguments + 1;
    int last = --count && !strcmp(sets[0], "last");
    sets += last, count -= last;
    if (count == 1 && !strcmp(sets[0], "present")) {
        count = 0, sets = present;
        for (size_t i = 0; i < sizeof every / sizeof *every; i++)
            if (crane_choose(every[i])) present[count++] = every[i];
    }
    for (size_t i = 0; i < sizeof every / sizeof *every; i++) {
        int asked = 0;
        for (int s = 0; s < count; s++) asked |= !strcmp(sets[s], every[i]);
        expect(crane_choose(every[i]) == asked, every[i], "the presence", "the set", asked, 0, 0);
    }
    crane_choose("");
    expect(!strcmp(crane_kernels(), count ? sets[count - 1] : "plain"), crane_kernels(), "the choice", "the widest", 0, 0, 0);
    if (last && count) sets += count - 1, count = 1;
    for (int s = 0; s < count && !wrong; s++) {
        crane_choose(sets[s]);
        hold_rows(kernels);
        hold_all_attention(kernels);
    }
    if (!wrong) hold_matrices(sets, count);
    for (int s = 0; s < count; s++) printf("%s%s", s ? ", " : "", sets[s]);
    printf(": %d of %d as they must be\n", held - wrong, held);
    return wrong > 0;
}
