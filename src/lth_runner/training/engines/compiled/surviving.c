/* Products of a sparse matrix with a batch, for several replicates at once.

   One surviving weight meets a whole batch, so that its neighbours in memory need not survive. A
   replicate's matrix is compressed by rows: the weights of row r are start[r] .. start[r + 1] - 1,
   weight k belongs to feature index[k]. */

#include "samples.h"

/* y[r][.] = bias[r] + sum over k of w[k] x[index[k]][.], for `num` vectors of samples */
INLINE void combine_row(
    int num, int32_t first, int32_t last, const int32_t *index, const int32_t *weight_of,
    const float *weights, float bias, const float *x, int64_t stride, float *y)
{
    vector total[SPARSE * EACH];
    for (int v = 0; v < num; v++) total[v] = (vector){0} + bias;
    for (int32_t k = first; k < last; k++) {
        const vector *from = (const vector *)(x + index[k] * stride);
        float weight = weights[weight_of ? weight_of[k] : k];
        for (int v = 0; v < num; v++) total[v] += weight * from[v];
    }
    for (int v = 0; v < num; v++) ((vector *)y)[v] = total[v];
}

/* w[k] (+)= sum over samples of dy[r][.] x[index[k]][.] */
INLINE void correlate_row(
    int num, int again, int32_t first, int32_t last, const int32_t *index, const float *dy,
    const float *x, int64_t stride, float *weights)
{
    vector outer[SPARSE * EACH];
    for (int v = 0; v < num; v++) outer[v] = ((const vector *)dy)[v];
    for (int32_t k = first; k < last; k++) {
        const vector *from = (const vector *)(x + index[k] * stride);
        vector total = outer[0] * from[0];
        for (int v = 1; v < num; v++) total += outer[v] * from[v];
        float found = sum(total);
        weights[k] = again ? weights[k] + found : found;
    }
}

/* Samples are taken in blocks, rows within: the features of one block stay in the cache.
   `weight_of`: where the weights lie in another order than `index` (NULL: in the same).
   `width`: between the replicates' indices. `bias`: NULL for none. Strides are between replicates,
   in values; `samples` is a multiple of LANES. */
void lth_combine(int64_t replicates, int64_t rows, int64_t samples, int64_t threads,
                 int64_t width, const int32_t *start, const int32_t *index, const int32_t *weight_of,
                 const float *weights, int64_t weights_stride, const float *bias,
                 int64_t bias_stride, const float *x, int64_t x_stride, float *y, int64_t y_stride)
{
    int64_t block = SPARSE * LANES, blocks = (samples + block - 1) / block;
    int64_t pieces = (rows + 31) / 32;
#pragma omp parallel for num_threads(threads) schedule(static) collapse(3)
    for (int64_t n = 0; n < replicates; n++)
        for (int64_t b = 0; b < blocks; b++)
            for (int64_t piece = 0; piece < pieces; piece++) {
                const int32_t *begin = start + n * (rows + 1), *features = index + n * width;
                const int32_t *order = weight_of ? weight_of + n * width : 0;
                int64_t at = b * block, end = smaller(rows, 32 * piece + 32);
                int num = (int)smaller(SPARSE, (samples - at) / LANES);
                for (int64_t r = 32 * piece; r < end; r++) {
                    float shift = bias ? bias[n * bias_stride + r] : 0;
#define COMBINE(width)                                                                            \
    combine_row(width, begin[r], begin[r + 1], features, order, weights + n * weights_stride,     \
                shift, x + n * x_stride + at, samples, y + n * y_stride + r * samples + at)
                    BY_WIDTH(SPARSE, num, COMBINE)
                }
            }
}

/* The gradients of weights and biases: of weight k in row r the sum over samples of
   dy[r] x[index[k]], of bias r that of dy[r]. */
void lth_correlate(int64_t replicates, int64_t rows, int64_t samples, int64_t threads,
                   int64_t width, const int32_t *start, const int32_t *index, float *weights,
                   int64_t weights_stride, float *bias, int64_t bias_stride, const float *x,
                   int64_t x_stride, const float *dy, int64_t dy_stride)
{
    int64_t pieces = (rows + 31) / 32;
#pragma omp parallel for num_threads(threads) schedule(static) collapse(2)
    for (int64_t n = 0; n < replicates; n++)
        for (int64_t piece = 0; piece < pieces; piece++) {
            const int32_t *begin = start + n * (rows + 1), *features = index + n * width;
            int64_t end = smaller(rows, 32 * piece + 32);
            for (int64_t at = 0; at < samples; at += SPARSE * LANES)
                for (int64_t r = 32 * piece; r < end; r++) {
                    int num = (int)smaller(SPARSE, (samples - at) / LANES);
                    const float *outer = dy + n * dy_stride + r * samples + at;
#define CORRELATE(width)                                                                          \
    correlate_row(width, at > 0, begin[r], begin[r + 1], features, outer,                         \
                  x + n * x_stride + at, samples, weights + n * weights_stride)
                    BY_WIDTH(SPARSE, num, CORRELATE)
                    if (bias) {
                        float total = at ? bias[n * bias_stride + r] : 0;
                        for (int v = 0; v < num * EACH; v++) total += sum(((const vector *)outer)[v]);
                        bias[n * bias_stride + r] = total;
                    }
                }
        }
}
