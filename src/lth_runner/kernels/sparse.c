/* Products of a sparse matrix with a batch, for several replicates at once.

   A batch lies feature by feature: x[feature][sample], samples padded to whole vectors, so that one
   surviving weight meets the whole batch in a few vector instructions and its neighbours in memory
   need not survive. A replicate's matrix is compressed by rows: the weights of row r are
   start[r] .. start[r + 1] - 1, weight k belongs to feature index[k].

   Every row is worked out by one thread in one order: the same bits with any number of threads and
   beside any other replicates. */

#include <stdint.h>

#define LANES 16 /* floats in a vector; compilers split it where the machine's are shorter */
#define BLOCK 4  /* vectors of samples that are summed in registers at a time */

typedef float vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef float half __attribute__((vector_size(2 * LANES)));
typedef float quarter __attribute__((vector_size(LANES)));

static inline float sum(vector whole)
{
    union { vector all; half part[2]; } two = {whole};
    union { half all; quarter part[2]; } four = {two.part[0] + two.part[1]};
    quarter left = four.part[0] + four.part[1];
    return (left[0] + left[1]) + (left[2] + left[3]);
}

/* y[r][.] = bias[r] + sum over k of w[k] x[index[k]][.], for `num` vectors of samples */
static inline __attribute__((always_inline)) void combine_row(
    int num, int32_t first, int32_t last, const int32_t *index, const int32_t *weight_of,
    const float *weights, float bias, const float *x, int64_t stride, float *y)
{
    vector total[BLOCK];
    for (int v = 0; v < num; v++) total[v] = (vector){0} + bias;
    for (int32_t k = first; k < last; k++) {
        const vector *from = (const vector *)(x + index[k] * stride);
        float weight = weights[weight_of ? weight_of[k] : k];
        for (int v = 0; v < num; v++) total[v] += weight * from[v];
    }
    for (int v = 0; v < num; v++) ((vector *)y)[v] = total[v];
}

/* w[k] (+)= sum over samples of dy[r][.] x[index[k]][.] */
static inline __attribute__((always_inline)) void correlate_row(
    int num, int again, int32_t first, int32_t last, const int32_t *index, const float *dy,
    const float *x, int64_t stride, float *weights)
{
    vector outer[BLOCK];
    for (int v = 0; v < num; v++) outer[v] = ((const vector *)dy)[v];
    for (int32_t k = first; k < last; k++) {
        const vector *from = (const vector *)(x + index[k] * stride);
        vector total = outer[0] * from[0];
        for (int v = 1; v < num; v++) total += outer[v] * from[v];
        float found = sum(total);
        weights[k] = again ? weights[k] + found : found;
    }
}

/* A constant number of vectors lets the compiler keep them in registers. */
#define BY_WIDTH(call)                                                                            \
    switch (num) {                                                                                \
    case 4: call(4); break;                                                                       \
    case 3: call(3); break;                                                                       \
    case 2: call(2); break;                                                                       \
    default: call(1);                                                                             \
    }

static inline int64_t smaller(int64_t one, int64_t other) { return one < other ? one : other; }

/* Samples are taken in blocks, rows within: the features of one block stay in the cache.
   `weight_of`: where the weights lie in another order than `index` (NULL: in the same).
   `bias`: NULL for none. Strides are between replicates, in values; `samples` is a multiple of
   LANES. */
void lth_combine(int64_t replicates, int64_t rows, int64_t samples, int64_t threads,
                 const int32_t *start, const int32_t *index, const int32_t *weight_of,
                 const float *weights, int64_t weights_stride, const float *bias,
                 int64_t bias_stride, const float *x, int64_t x_stride, float *y, int64_t y_stride)
{
    int64_t blocks = (samples + BLOCK * LANES - 1) / (BLOCK * LANES), pieces = (rows + 31) / 32;
#pragma omp parallel for num_threads(threads) schedule(static) collapse(3)
    for (int64_t n = 0; n < replicates; n++)
        for (int64_t block = 0; block < blocks; block++)
            for (int64_t piece = 0; piece < pieces; piece++) {
                const int32_t *begin = start + n * (rows + 1), *features = index + n * weights_stride;
                const int32_t *order = weight_of ? weight_of + n * weights_stride : 0;
                int64_t at = block * BLOCK * LANES, end = smaller(rows, 32 * piece + 32);
                int num = (int)smaller(BLOCK, (samples - at) / LANES);
                for (int64_t r = 32 * piece; r < end; r++) {
                    float shift = bias ? bias[n * bias_stride + r] : 0;
#define COMBINE(width)                                                                            \
    combine_row(width, begin[r], begin[r + 1], features, order, weights + n * weights_stride,     \
                shift, x + n * x_stride + at, samples, y + n * y_stride + r * samples + at)
                    BY_WIDTH(COMBINE)
                }
            }
}

/* The gradients of weights and biases: of weight k in row r the sum over samples of
   dy[r] x[index[k]], of bias r that of dy[r]. */
void lth_correlate(int64_t replicates, int64_t rows, int64_t samples, int64_t threads,
                   const int32_t *start, const int32_t *index, float *weights,
                   int64_t weights_stride, float *bias, int64_t bias_stride, const float *x,
                   int64_t x_stride, const float *dy, int64_t dy_stride)
{
    int64_t pieces = (rows + 31) / 32;
#pragma omp parallel for num_threads(threads) schedule(static) collapse(2)
    for (int64_t n = 0; n < replicates; n++)
        for (int64_t piece = 0; piece < pieces; piece++) {
            const int32_t *begin = start + n * (rows + 1), *features = index + n * weights_stride;
            int64_t end = smaller(rows, 32 * piece + 32);
            for (int64_t at = 0; at < samples; at += BLOCK * LANES)
                for (int64_t r = 32 * piece; r < end; r++) {
                    int num = (int)smaller(BLOCK, (samples - at) / LANES);
                    const float *outer = dy + n * dy_stride + r * samples + at;
#define CORRELATE(width)                                                                          \
    correlate_row(width, at > 0, begin[r], begin[r + 1], features, outer,                         \
                  x + n * x_stride + at, samples, weights + n * weights_stride)
                    BY_WIDTH(CORRELATE)
                    if (bias) {
                        float total = at ? bias[n * bias_stride + r] : 0;
                        for (int v = 0; v < num; v++) total += sum(((const vector *)outer)[v]);
                        bias[n * bias_stride + r] = total;
                    }
                }
        }
}

/* Batches for all replicates, feature by feature: x[n][f][s] = data[sample[n][s]][f]. The samples
   behind `num` stay as they are. */
void lth_gather(int64_t replicates, int64_t num, int64_t features, int64_t samples, int64_t threads,
                const int64_t *sample, const float *data, float *x)
{
    int64_t blocks = (num + LANES - 1) / LANES;
#pragma omp parallel for num_threads(threads) schedule(static) collapse(2)
    for (int64_t n = 0; n < replicates; n++)
        for (int64_t block = 0; block < blocks; block++) {
            const float *from[LANES];
            int64_t first = block * LANES, count = smaller(LANES, num - first);
            for (int64_t s = 0; s < LANES; s++) /* a last, short block repeats its first sample */
                from[s] = data + sample[n * num + first + (s < count ? s : 0)] * features;
            float *to = x + n * features * samples + first;
            for (int64_t f = 0; f < features; f++) {
                vector values;
                for (int s = 0; s < LANES; s++) values[s] = from[s][f];
                if (count == LANES)
                    *(vector *)(to + f * samples) = values;
                else
                    for (int64_t s = 0; s < count; s++) to[f * samples + s] = values[s];
            }
        }
}
