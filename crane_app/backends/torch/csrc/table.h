/* The table of an instruction set, from the lanes that the including file has chosen. */
#include "kernels.h"
#include "product.h"
#include "rows.h"
#include "attention.h" /* needs the exponential of rows.h */
#include "draw.h"

static void expand(int format, const uint8_t *tile, float *out) { expand_tile(format, tile, out); }

/* Read it all and keep nothing: what the memory gives, with the loads of this instruction set. */
static int64_t stream(const uint8_t *bytes, int64_t size) {
    b64 a = b_set(0), b = a, c = a, d = a;
    for (int64_t k = 0; k + 256 <= size; k += 256) {
        a = b_or(a, b_load(bytes + k));
        b = b_or(b, b_load(bytes + k + 64));
        c = b_or(c, b_load(bytes + k + 128));
        d = b_or(d, b_load(bytes + k + 192));
    }
    int64_t words[8];
    a = b_or(b_or(a, b), b_or(c, d));
    memcpy(words, &a, 64);
    return words[0] | words[1] | words[2] | words[3] | words[4] | words[5] | words[6] | words[7];
}

#define TABLE(NAME) TABLE_WITH(NAME, product)
#define TABLE_WITH(NAME, PRODUCT) \
    const struct kernels kernels_##NAME = {#NAME, PRODUCT, expand, prepare, rms_norm, add, swiglu, rope, keep, best, attend, stream, \
                                             top,  mass,    pick};
