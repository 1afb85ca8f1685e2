/* What happens to one row of activations between products, over the lanes of whichever file includes this. */
#include "strips.h"

/* Formula: Cephes' expf: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2]; below -87 it is as at -87. */
INLINE v16 v_exp(v16 x) {
    x = v_min(v_max(x, v_set(-87.0f)), v_set(88.0f));
    v16 n = v_round(v_mul(x, v_set(1.44269504088896341f)));
    v16 r = v_fma(n, v_set(-0.693359375f), x);
    r = v_fma(n, v_set(2.12194440e-4f), r);
    v16 y = v_fma(v_set(1.9875691500e-4f), r, v_set(1.3981999507e-3f));
    y = v_fma(y, r, v_set(8.3334519073e-3f));
    y = v_fma(y, r, v_set(4.1665795894e-2f));
    y = v_fma(y, r, v_set(1.6666665459e-1f));
    y = v_fma(y, r, v_set(5.0000001201e-1f));
    y = v_add(v_fma(v_mul(r, r), y, r), v_set(1.0f));
    return v_mul(y, v_power(n));
}

INLINE void prepare_block(int kind, const float *x, int8_t *whole, float *scale, int32_t *sums) {
    v16 a = v_load(x), b = v_load(x + 16);
    float most = v_biggest(v_max(v_abs(a), v_abs(b)));
    v16 inverse = v_set(most > 0 ? 127.0f / most : 0.0f);
    w16 first = w_round(v_mul(a, inverse)), second = w_round(v_mul(b, inverse));
    *scale = most / 127.0f;
    w_store_i8(whole, first);
    w_store_i8(whole + 16, second);
    if (kind == SIXTEENS) sums[0] = w_sum(first), sums[1] = w_sum(second);
    else sums[0] = (kind == EIGHTS ? -8 : -128) * w_sum(w_add(first, second));
}

/* Columns from..to of x [columns], whole blocks of 32 unless at its end; what is past the end is zero. */
static void prepare(int kind, const float *x, int from, int to, int columns, int wide, uint8_t *out) {
    int last = to == columns ? wide : to;
    for (int k = from; k < last; k += 32) {
        float rest[32];
        const float *at = x + k;
        if (k + 32 > columns) {
            for (int i = 0; i < 32; i++) rest[i] = k + i < columns ? x[k + i] : 0.0f;
            at = rest;
        }
        if (kind == FLOATS) {
            v_store((float *)out + k, v_load(at));
            v_store((float *)out + k + 16, v_load(at + 16));
        } else if (kind == HALVES) {
            v_store_bf16((uint16_t *)out + k, v_load(at));
            v_store_bf16((uint16_t *)out + k + 16, v_load(at + 16));
        } else {
            int32_t *sums = (int32_t *)(out + sums_at(wide)) + k / (kind == SIXTEENS ? 16 : 32);
            prepare_block(kind, at, (int8_t *)out + k, (float *)(out + scales_at(wide)) + k / 32, sums);
        }
    }
}

/* x / sqrt(mean(x^2) + eps) * w; y may be x. */
static void rms_norm(const float *x, const float *w, float eps, int width, float *y) {
    v16 squares = v_set(0);
    float rest = 0;
    int k = 0;
    for (; k + 16 <= width; k += 16) {
        v16 part = v_load(x + k);
        squares = v_fma(part, part, squares);
    }
    for (int i = k; i < width; i++) rest += x[i] * x[i];
    float factor = 1.0f / __builtin_sqrtf((v_sum(squares) + rest) / (float)width + eps);
    for (k = 0; k + 16 <= width; k += 16) v_store(y + k, v_mul(v_mul(v_load(x + k), v_set(factor)), v_load(w + k)));
    for (; k < width; k++) y[k] = x[k] * factor * w[k];
}

static void add(const float *x, const float *with, int width, float *y) {
    int k = 0;
    for (; k + 16 <= width; k += 16) v_store(y + k, v_add(v_load(x + k), v_load(with + k)));
    for (; k < width; k++) y[k] = x[k] + with[k];
}

/* silu(gate) * up; widths of whole sixteens, which buffers have room for. */
static void swiglu(const float *gate, const float *up, int width, float *y) {
    for (int k = 0; k < width; k += 16) {
        v16 g = v_load(gate + k), negative = v_sub(v_set(0), g);
        v_store(y + k, v_mul(v_div(g, v_add(v_set(1), v_exp(negative))), v_load(up + k)));
    }
}

/* Turn x [dim] by `turned` angles, cos and sin [turned] each. arXiv 2104.09864. */
static void rope(float *x, const float *cos, const float *sin, int turned, int pairs) {
    int j = 0;
    for (; j + 16 <= turned && !pairs; j += 16) {
        v16 a = v_load(x + j), b = v_load(x + turned + j), c = v_load(cos + j), s = v_load(sin + j);
        v_store(x + j, v_sub(v_mul(a, c), v_mul(b, s)));
        v_store(x + turned + j, v_add(v_mul(b, c), v_mul(a, s)));
    }
    for (; j < turned; j++) {
        int one = pairs ? 2 * j : j, other = pairs ? 2 * j + 1 : j + turned;
        float a = x[one], b = x[other];
        x[one] = a * cos[j] - b * sin[j];
        x[other] = b * cos[j] + a * sin[j];
    }
}

/* x [dim] in 127ths of its largest number; gives what one of them is worth. */
static float keep_bytes(const float *x, int dim, int8_t *out) {
    v16 largest = v_set(0);
    for (int k = 0; k < dim; k += 16) largest = v_max(v_abs(v_load(x + k)), largest);
    float most = v_biggest(largest);
    v16 inverse = v_set(most > 0 ? 127.0f / most : 0.0f);
    for (int k = 0; k < dim; k += 16) w_store_i8(out + k, w_round(v_mul(v_load(x + k), inverse)));
    return most / 127.0f;
}

/* Keep x [dim] as the cache does. */
static void keep(int format, const float *x, int dim, uint8_t *out, float *scale) {
    if (format == I8) {
        *scale = keep_bytes(x, dim, (int8_t *)out);
        return;
    }
    for (int k = 0; k < dim; k += 16) {
        if (format == BF16) v_store_bf16((uint16_t *)out + k, v_load(x + k));
        else if (format == F16) v_store_f16((uint16_t *)out + k, v_load(x + k));
        else v_store((float *)out + k, v_load(x + k));
    }
}

/* The largest of x [count] and where it stands first. */
static int best(const float *x, int count, float *value) {
    int found = 0;
    float most = x[0];
    for (int k = 0; k < count; k += 16) {
        if (k + 16 <= count && !(v_biggest(v_load(x + k)) > most)) continue;
        for (int i = k; i < count && i < k + 16; i++)
            if (x[i] > most) most = x[i], found = i;
    }
    *value = most;
    return found;
}
