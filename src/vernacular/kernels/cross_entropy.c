/* What rows of logits say in training: their losses and normalisers; and rows of their gradients, in place,
   `weight · (softmax · (1 + 2 z · logsumexp) - onehot)`. */
#include "numbers.h"

INLINE float logit_at(const int bfloat, const char *logits, long at) {
    return bfloat ? float_of(((const uint16_t *)logits)[at]) : ((const float *)logits)[at];
}

/* logsumexp, and the largest logit. */
INLINE float normaliser_of(const int bfloat, const char *logits, float *best, long width) {
    floats most = all_floats(-INFINITY), sums = all_floats(0);
    for (long at = 0; at < width; at += LANES) {
        if (width - at < LANES) {
            for (long i = at; i < width; i++) most = max_floats(most, all_floats(logit_at(bfloat, logits, i)));
        } else most = max_floats(most, load(bfloat, logits, at, width - at));
    }
    float largest = -INFINITY;
    for (int i = 0; i < LANES; i++) largest = most[i] > largest ? most[i] : largest;
    for (long at = 0; at < width; at += LANES) {
        const floats x = load(bfloat, logits, at, width - at) - largest;
        floats e = weight_of(x);
        if (width - at < LANES)
            for (long i = width - at; i < LANES; i++) e[i] = 0;
        sums += e;
    }
    *best = largest;
    return largest + logf(sum_of(sums));
}

INLINE void cross_entropy_row(const int bfloat, const int gradient, char *logits, int64_t target, float weight, float z,
                              float *loss, float *normaliser, int32_t *best, long width) {
    float largest;
    const float wanted = logit_at(bfloat, logits, target);
    *normaliser = normaliser_of(bfloat, logits, &largest, width);
    *loss = *normaliser - wanted;
    *best = wanted == largest;
    if (*best) /* of equal scores, the first is the best */
        for (long i = 0; i < target && *best; i++)
            *best = logit_at(bfloat, logits, i) != largest;
    if (!gradient) return;
    const float factor = weight * (1 + 2 * z * *normaliser), shift = *normaliser;
    for (long at = 0; at < width; at += LANES) {
        const floats x = load(bfloat, logits, at, width - at) - shift;
        store(bfloat, logits, at, width - at, weight_of(x) * factor);
    }
    const float changed = expf(wanted - shift) * factor - weight;
    if (bfloat) ((uint16_t *)logits)[target] = bfloat_of(changed);
    else ((float *)logits)[target] = changed;
}

/* Of each row: -log p(target), logsumexp, and whether the target has the best score. logits [rows, width]. */
int cross_entropy(int bfloat, int gradient, char *logits, const int64_t *targets, const float *weights, float z,
                  float *losses, float *normalisers, int32_t *best, long rows, long width, int threads) {
    const long bytes = width * (bfloat ? 2 : 4);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long r = 0; r < rows; r++) {
        char *row = logits + r * bytes;
        if (bfloat)
            cross_entropy_row(1, gradient, row, targets[r], weights[r], z, losses + r, normalisers + r, best + r, width);
        else
            cross_entropy_row(0, gradient, row, targets[r], weights[r], z, losses + r, normalisers + r, best + r, width);
    }
    return 0;
}
