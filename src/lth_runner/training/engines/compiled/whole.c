/* Products of a whole matrix with a batch, for several replicates at once. A few rows share what is
   loaded of a batch, which keeps the vector units busy; libraries for all shapes need large
   matrices for that. */

#include "samples.h"

/* total[r][v] += row[r] x[v] */
INLINE void add_products(
    int rows, int num, vector total[ROWS][WHOLE * EACH], const float *row, int64_t apart,
    const float *x)
{
    vector shared[WHOLE * EACH];
    for (int v = 0; v < num; v++) {
        shared[v] = ((const vector *)x)[v];
#ifdef __AVX__ /* compilers would load it again for each product, and wait for that */
        __asm__("" : "+v"(shared[v]));
#endif
    }
    for (int r = 0; r < rows; r++) {
        float own = row[r * apart];
        for (int v = 0; v < num; v++) total[r][v] += own * shared[v];
    }
}

/* y[r][.] = bias[r] + sum over f of w[r][f] x[f][.], for a few rows and vectors of samples */
INLINE void multiply_rows(
    int rows, int num, int64_t features, const float *w, int64_t row, int64_t feature,
    const float *bias, const float *x, int64_t stride, float *y)
{
    vector total[ROWS][WHOLE * EACH];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < num; v++) total[r][v] = (vector){0} + (bias ? bias[r] : 0);
    for (int64_t f = 0; f < features; f++)
        add_products(rows, num, total, w + f * feature, row, x + f * stride);
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
    int64_t size = WHOLE * LANES, blocks = (samples + size - 1) / size;
    int64_t piece = 8 * ROWS, pieces = (rows + piece - 1) / piece;
#pragma omp parallel for num_threads(threads) schedule(static) collapse(3)
    for (int64_t n = 0; n < replicates; n++)
        for (int64_t block = 0; block < blocks; block++)
            for (int64_t p = 0; p < pieces; p++) {
                int64_t at = block * size, end = smaller(rows, (p + 1) * piece);
                int num = (int)smaller(WHOLE, (samples - at) / LANES);
                const float *from = x + n * x_stride + at;
#define MULTIPLY(count, width)                                                                    \
    multiply_rows(count, width, features, weights + n * weights_stride + r * row, row, feature,   \
                  bias ? bias + n * bias_stride + r : 0, from, samples,                           \
                  y + n * y_stride + r * samples + at)
#define MULTIPLY_ALL(width) MULTIPLY(ROWS, width)
#define MULTIPLY_ONE(width) MULTIPLY(1, width)
                int64_t r = p * piece;
                for (; r + ROWS <= end; r += ROWS) BY_WIDTH(WHOLE, num, MULTIPLY_ALL)
                for (; r < end; r++) BY_WIDTH(WHOLE, num, MULTIPLY_ONE)
            }
}

/* What an optimizer does to a weight w of gradient g, its moments m and v:
     g += decay w;  w *= shrink
     ADAM      m += rest (g - m);  v = second v + second_rest g^2;
               w -= rate m / (root sqrt(v) + epsilon)
     MOMENTUM  m = first m + g;  w -= rate m
     NESTEROV  m = first m + g;  w -= rate (g + first m)
     PLAIN     w -= rate g
   and then w *= factor, where there is a mask. */
enum { ADAM, MOMENTUM, NESTEROV, PLAIN };
typedef struct {
    int32_t kind;
    float rate, decay, shrink, first, first_rest, second, second_rest, epsilon, root;
} rule;

/* Where one matrix and what belongs to it lie; NULL for what there is not. */
typedef struct {
    float *weights, *first, *second;
    const float *factor;
} place;

INLINE void step_some(rule by, vector gradient, place at, int64_t offset, int64_t num)
{
    vector weights = taken(at.weights + offset, num), first, second, root;
    gradient += by.decay * weights;
    weights *= by.shrink;
    if (by.kind == ADAM) {
        first = taken(at.first + offset, num), second = taken(at.second + offset, num);
        first += by.first_rest * (gradient - first);
        second = by.second * second + by.second_rest * gradient * gradient;
        for (int k = 0; k < WIDTH; k++) root[k] = __builtin_sqrtf(second[k]);
        weights -= by.rate * first / (by.root * root + by.epsilon);
        put(at.first + offset, first, num), put(at.second + offset, second, num);
    } else if (by.kind == PLAIN) {
        weights -= by.rate * gradient;
    } else {
        first = by.first * taken(at.first + offset, num) + gradient;
        put(at.first + offset, first, num);
        if (by.kind == NESTEROV) first = by.first * first + gradient;
        weights -= by.rate * first;
    }
    if (at.factor) weights *= taken(at.factor + offset, num);
    put(at.weights + offset, weights, num);
}

/* One step of the rule for `num` weights that lie together, at most a vector of them. */
INLINE void step(rule by, vector gradient, place at, int64_t offset, int64_t num)
{
    if (num >= WIDTH)
        step_some(by, gradient, at, offset, WIDTH);
    else
        step_some(by, gradient, at, offset, num);
}

/* The gradients of a few rows and vectors of features, the sums over samples of dy[r][s] x[s][.]:
   written to their places, or taken there by a rule. */
INLINE void relate_rows(
    int rows, int num, int64_t samples, const float *dy, const float *x, int fused, rule by,
    place at, int64_t offset, int64_t row, int64_t last)
{
    vector total[ROWS][WHOLE * EACH];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < num; v++) {
            total[r][v] = (vector){0};
            if (fused) { /* what these sums will meet is on its way while they are made */
                int64_t soon = offset + r * row + WIDTH * v;
                __builtin_prefetch(at.weights + soon, 1);
                if (at.first) __builtin_prefetch(at.first + soon, 1);
                if (at.second) __builtin_prefetch(at.second + soon, 1);
                if (at.factor) __builtin_prefetch(at.factor + soon);
            }
        }
    for (int64_t s = 0; s < samples; s++)
        add_products(rows, num, total, dy + s, samples, x + s * WHOLE * LANES);
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < num; v++) {
            int64_t here = offset + r * row + WIDTH * v, left = last - WIDTH * v;
            if (fused)
                step(by, total[r][v], at, here, left);
            else
                put(at.weights + here, total[r][v], left);
        }
}

/* Features sample by sample, WHOLE times LANES of them, zeros for those beyond `num`. */
INLINE void turn(int64_t samples, const float *from, int64_t num, float *to)
{
    for (int v = 0; v < WHOLE * EACH; v++)
        for (int64_t s = 0; s < samples; s += WIDTH) {
            vector row[WIDTH];
            for (int k = 0; k < WIDTH; k++) {
                int64_t f = v * WIDTH + k;
                row[k] = f < num ? *(const vector *)(from + f * samples + s) : (vector){0};
            }
            transpose(row);
            for (int j = 0; j < WIDTH; j++)
                ((vector *)(to + (s + j) * WHOLE * LANES))[v] = row[j];
        }
}

/* `transposed` has room for the batch sample by sample, in blocks of features: `samples` times
   `features` in whole blocks a replicate. */
INLINE void relate(
    int64_t replicates, int64_t rows, int64_t features, int64_t samples, int64_t threads,
    float *transposed, int fused, rule by, place at, int64_t stride, const float *x, int64_t x_stride,
    const float *dy, int64_t dy_stride)
{
    int64_t block = WHOLE * LANES, blocks = (features + block - 1) / block;
#pragma omp parallel for num_threads(threads) schedule(static) collapse(2)
    for (int64_t n = 0; n < replicates; n++)
        for (int64_t b = 0; b < blocks; b++) {
            int64_t f = b * block, here = smaller(block, features - f);
            int num = (int)((here + LANES - 1) / LANES);
            float *own = transposed + (n * blocks + b) * samples * block;
            const float *from = x + n * x_stride + f * samples, *outer = dy + n * dy_stride;
            turn(samples, from, here, own);
#define RELATE(count, width)                                                                      \
    relate_rows(count, width, samples, outer + r * samples, own, fused, by, at,                \
                n * stride + r * features + f, features, here)
#define RELATE_ALL(width) RELATE(ROWS, width)
#define RELATE_ONE(width) RELATE(1, width)
            int64_t r = 0;
            for (; r + ROWS <= rows; r += ROWS) BY_WIDTH(WHOLE, num, RELATE_ALL)
            for (; r < rows; r++) BY_WIDTH(WHOLE, num, RELATE_ONE)
        }
}

/* The gradients of weights: w[r][f] = sum over samples of dy[r][s] x[f][s]. */
void lth_relate(int64_t replicates, int64_t rows, int64_t features, int64_t samples,
                int64_t threads, float *transposed, float *weights, int64_t stride, const float *x,
                int64_t x_stride, const float *dy, int64_t dy_stride)
{
    relate(replicates, rows, features, samples, threads, transposed, 0, (rule){0},
           (place){weights, 0, 0, 0}, stride, x, x_stride, dy, dy_stride);
}

/* The same, and a step of a rule in one go: no gradient is written. */
void lth_fused_step(int64_t replicates, int64_t rows, int64_t features, int64_t samples,
                 int64_t threads, float *transposed, const rule *by, float *weights, float *first,
                 float *second, const float *factor, int64_t stride, const float *x,
                 int64_t x_stride, const float *dy, int64_t dy_stride)
{
    relate(replicates, rows, features, samples, threads, transposed, 1, *by,
           (place){weights, first, second, factor}, stride, x, x_stride, dy, dy_stride);
}

/* The gradients of biases: b[r] = sum over samples of dy[r][s]. */
void lth_total(int64_t replicates, int64_t rows, int64_t samples, float *bias, int64_t bias_stride,
               const float *dy, int64_t dy_stride)
{
    for (int64_t n = 0; n < replicates; n++)
        for (int64_t r = 0; r < rows; r++) {
            float total = 0;
            for (int64_t s = 0; s < samples; s += WIDTH)
                total += sum(*(const vector *)(dy + n * dy_stride + r * samples + s));
            bias[n * bias_stride + r] = total;
        }
}
