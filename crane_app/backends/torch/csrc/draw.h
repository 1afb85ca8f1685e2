/* Drawing a token from a row of logits, over the lanes of whichever file includes this.

   Sums run in the order of the ids: a row's token depends neither on other rows nor on the threads. */
#include "kernels.h"

enum { DRAWN = 64 }; /* logits at a time */

struct likely {
    float score;
    int32_t id;
};

/* Whether a is less likely than b: of equal scores the later one is. */
static int below(struct likely a, struct likely b) { return a.score < b.score || (a.score == b.score && a.id > b.id); }

/* Let what stands at `at` in a heap, whose least is first, sink to its place. */
static void sink(struct likely *heap, int count, int at) {
    for (int child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && below(heap[child + 1], heap[child])) child++;
        if (!below(heap[child], heap[at])) return;
        struct likely own = heap[at];
        heap[at] = heap[child], heap[child] = own;
    }
}

INLINE v16 v_max_of_drawn(const float *x, v16 t) {
    v16 a = v_max(v_div(v_load(x), t), v_div(v_load(x + 16), t));
    return v_max(a, v_max(v_div(v_load(x + 32), t), v_div(v_load(x + 48), t)));
}

/* ids [keep]: where the likeliest of x [count] / temperature stand, the likeliest first, and of equals the first. */
static void top(const float *x, int count, float temperature, int keep, int32_t *ids) {
    struct likely heap[keep];
    for (int i = 0; i < keep; i++) heap[i] = (struct likely){x[i] / temperature, i};
    for (int i = keep / 2 - 1; i >= 0; i--) sink(heap, keep, i);
    for (int k = keep; k < count; k += DRAWN) {
        if (k + DRAWN <= count && !(v_biggest(v_max_of_drawn(x + k, v_set(temperature))) > heap[0].score)) continue;
        for (int i = k; i < count && i < k + DRAWN; i++) {
            float score = x[i] / temperature;
            if (!(score > heap[0].score)) continue;
            heap[0] = (struct likely){score, i};
            sink(heap, keep, 0);
        }
    }
    for (int i = keep - 1; i > 0; i--) {
        struct likely least = heap[0];
        heap[0] = heap[i], heap[i] = least;
        sink(heap, i, 0);
    }
    for (int i = 0; i < keep; i++) ids[i] = heap[i].id;
}

/* out [DRAWN]: exp(x / temperature - most) where that is at least `least`, else 0, of what is left of x [count]; gives
   the sum. What the exponential's range ends at counts as nothing: so does what may not be drawn. */
INLINE float masses(const float *x, int count, float temperature, float most, float least, float *out) {
    float rest[DRAWN];
    for (int i = 0; i < DRAWN && count < DRAWN; i++) rest[i] = i < count ? x[i] : -__builtin_inff();
    const float *from = count < DRAWN ? rest : x;
    for (int k = 0; k < DRAWN; k += 16)
        v_store(out + k, v_exp(v_sub(v_div(v_load(from + k), v_set(temperature)), v_set(most))));
    if (least < 2e-38f) least = 2e-38f; /* exp(-87) is less */
    for (int i = 0; i < DRAWN; i++) out[i] = out[i] >= least ? out[i] : 0;
    return v_sum(v_add(v_add(v_load(out), v_load(out + 16)), v_add(v_load(out + 32), v_load(out + 48))));
}

/* The sum of exp(x / temperature - most) over x [count]. */
static float mass(const float *x, int count, float temperature, float most) {
    double sum = 0;
    float each[DRAWN];
    for (int k = 0; k < count; k += DRAWN) sum += masses(x + k, count - k, temperature, most, 0, each);
    return (float)sum;
}

/* Where the mass of x [count] so far, of what has at least min_p of the largest, first exceeds noise times the whole. */
static int pick(const float *x, int count, float temperature, float min_p, float noise) {
    float most, each[DRAWN];
    int found = best(x, count, &most), blocks = (count + DRAWN - 1) / DRAWN;
    double sums[blocks], whole = 0, before = 0;
    most /= temperature;
    for (int b = 0; b < blocks; b++)
        whole += sums[b] = masses(x + b * DRAWN, count - b * DRAWN, temperature, most, min_p, each);
    for (int b = 0; b < blocks; before += sums[b++]) {
        if (!(before + sums[b] > noise * whole)) continue;
        masses(x + b * DRAWN, count - b * DRAWN, temperature, most, min_p, each);
        for (int i = 0; i < DRAWN; i++) {
            if (each[i] == 0) continue;
            found = b * DRAWN + i, before += each[i];
            if (before > noise * whole) return found;
        }
        return found; /* the sum of the block was rounded up */
    }
    return found;
}
