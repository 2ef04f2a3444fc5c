/* Products of a whole matrix with a batch, for several replicates at once. Four rows share what is
   loaded of a batch, which keeps the vector units busy; libraries for all shapes need large
   matrices for that. */

#include "samples.h"

#define ROWS 4

/* y[r][.] = bias[r] + sum over f of w[r][f] x[f][.], for a few rows and vectors of samples */
INLINE void multiply_rows(
    int rows, int num, int64_t features, const float *w, int64_t row, int64_t feature,
    const float *bias, const float *x, int64_t stride, float *y)
{
    vector total[ROWS][BLOCK];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < num; v++) total[r][v] = (vector){0} + (bias ? bias[r] : 0);
    for (int64_t f = 0; f < features; f++)
        for (int v = 0; v < num; v++) {
            vector samples = ((const vector *)(x + f * stride))[v];
            for (int r = 0; r < rows; r++) total[r][v] += w[r * row + f * feature] * samples;
        }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < num; v++) ((vector *)(y + r * stride))[v] = total[r][v];
}

/* `row` and `feature`: how far apart a matrix's rows and features lie, so that it may be a
   transposed one. `bias`: NULL for none. `samples` is a multiple of LANES. */
void lth_multiply(int64_t replicates, int64_t rows, int64_t features, int64_t samples,
                  int64_t threads, int64_t row, int64_t feature, const float *weights,
                  int64_t weights_stride, const float *bias, int64_t bias_stride, const float *x,
                  int64_t x_stride, float *y, int64_t y_stride)
{
    int64_t blocks = (samples + BLOCK * LANES - 1) / (BLOCK * LANES), pieces = (rows + 31) / 32;
#pragma omp parallel for num_threads(threads) schedule(static) collapse(3)
    for (int64_t n = 0; n < replicates; n++)
        for (int64_t block = 0; block < blocks; block++)
            for (int64_t piece = 0; piece < pieces; piece++) {
                int64_t at = block * BLOCK * LANES, end = smaller(rows, 32 * piece + 32);
                int num = (int)smaller(BLOCK, (samples - at) / LANES);
                const float *from = x + n * x_stride + at;
#define MULTIPLY(count, width)                                                                    \
    multiply_rows(count, width, features, weights + n * weights_stride + r * row, row, feature,   \
                  bias ? bias + n * bias_stride + r : 0, from, samples,                           \
                  y + n * y_stride + r * samples + at)
#define MULTIPLY_ALL(width) MULTIPLY(ROWS, width)
#define MULTIPLY_ONE(width) MULTIPLY(1, width)
                int64_t r = 32 * piece;
                for (; r + ROWS <= end; r += ROWS) BY_WIDTH(MULTIPLY_ALL)
                for (; r < end; r++) BY_WIDTH(MULTIPLY_ONE)
            }
}

/* w[r][.] = sum over samples of dy[r][s] x[s][.], for a few rows and vectors of features */
INLINE void relate_rows(
    int rows, int num, int64_t samples, const float *dy, int64_t dy_row, const float *x,
    int64_t x_row, float *w, int64_t row, int64_t last)
{
    vector total[ROWS][BLOCK];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < num; v++) total[r][v] = (vector){0};
    for (int64_t s = 0; s < samples; s++)
        for (int v = 0; v < num; v++) {
            vector features = ((const vector *)(x + s * x_row))[v];
            for (int r = 0; r < rows; r++) total[r][v] += dy[r * dy_row + s] * features;
        }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < num; v++)
            if (LANES * (v + 1) <= last)
                ((vector *)(w + r * row))[v] = total[r][v];
            else /* a matrix's rows lie close: the next one begins here */
                for (int64_t f = LANES * v; f < last; f++) w[r * row + f] = total[r][v][f - LANES * v];
}

/* The gradients of weights and biases: w[r][f] = sum over samples of dy[r][s] x[f][s], and of bias
   r that of dy[r]. `turned` has room for the batch sample by sample: `samples` times `features` in
   whole vectors a replicate. */
void lth_relate(int64_t replicates, int64_t rows, int64_t features, int64_t samples,
                int64_t threads, float *turned, float *weights, int64_t weights_stride, float *bias,
                int64_t bias_stride, const float *x, int64_t x_stride, const float *dy,
                int64_t dy_stride)
{
    int64_t wide = (features + LANES - 1) / LANES * LANES, pieces = (rows + 15) / 16;
#pragma omp parallel for num_threads(threads) schedule(static) collapse(2)
    for (int64_t n = 0; n < replicates; n++)
        for (int64_t f = 0; f < wide; f += LANES) {
            float *to = turned + n * samples * wide + f;
            const float *from = x + n * x_stride + f * samples;
            int64_t here = smaller(LANES, features - f);
            for (int64_t s = 0; s < samples; s++)
                for (int64_t k = 0; k < LANES; k++)
                    to[s * wide + k] = k < here ? from[k * samples + s] : 0;
        }
#pragma omp parallel for num_threads(threads) schedule(static) collapse(2)
    for (int64_t n = 0; n < replicates; n++)
        for (int64_t piece = 0; piece < pieces; piece++) {
            int64_t end = smaller(rows, 16 * piece + 16);
            const float *outer = dy + n * dy_stride;
            for (int64_t f = 0; f < wide; f += BLOCK * LANES) {
                int num = (int)smaller(BLOCK, (wide - f) / LANES);
                const float *from = turned + n * samples * wide + f;
#define RELATE(count, width)                                                                      \
    relate_rows(count, width, samples, outer + r * samples, samples, from, wide,                  \
                weights + n * weights_stride + r * features + f, features, features - f)
#define RELATE_ALL(width) RELATE(ROWS, width)
#define RELATE_ONE(width) RELATE(1, width)
                int64_t r = 16 * piece;
                for (; r + ROWS <= end; r += ROWS) BY_WIDTH(RELATE_ALL)
                for (; r < end; r++) BY_WIDTH(RELATE_ONE)
            }
            for (int64_t r = 16 * piece; bias && r < end; r++) {
                float total = 0;
                for (int64_t s = 0; s < samples; s += LANES)
                    total += sum(*(const vector *)(outer + r * samples + s));
                bias[n * bias_stride + r] = total;
            }
        }
}
