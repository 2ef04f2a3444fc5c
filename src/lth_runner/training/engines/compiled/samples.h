/* Batches as these loops see them: x[feature][sample], feature by feature, samples padded to whole
   vectors, so that one weight meets the whole batch in a few vector instructions.

   Every value is summed by one thread in one order: the same bits with any number of threads and
   beside any other replicates. */

#include <stdint.h>

#ifndef LANES /* samples that belong together: a batch is a multiple of them */
#error "-DLANES is not given"
#endif

/* Floats in a vector of this machine; a longer one would be taken apart, value by value. And how
   many sums fit into its registers: ROWS rows of a matrix by WHOLE times LANES samples, or one row
   by SPARSE times LANES. */
#if defined(__AVX512F__)
enum { WIDTH = 16, ROWS = 4, WHOLE = 4, SPARSE = 4 };
#elif defined(__AVX__)
enum { WIDTH = 8, ROWS = 6, WHOLE = 1, SPARSE = 4 };
#elif defined(__aarch64__)
enum { WIDTH = 4, ROWS = 4, WHOLE = 1, SPARSE = 4 };
#else
enum { WIDTH = 4, ROWS = 2, WHOLE = 1, SPARSE = 2 };
#endif
enum { EACH = LANES / WIDTH };

typedef float vector __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
_Static_assert(LANES % WIDTH == 0, "samples come in whole vectors");

#define INLINE static inline __attribute__((always_inline, unused))

INLINE int64_t smaller(int64_t one, int64_t other) { return one < other ? one : other; }

/* Halves added to each other until one is left. */
INLINE float sum(vector whole)
{
    typedef float four __attribute__((vector_size(16)));
    union { vector all; four part[WIDTH / 4]; } parts = {whole};
    for (int num = WIDTH / 8; num; num /= 2)
        for (int k = 0; k < num; k++) parts.part[k] += parts.part[k + num];
    four left = parts.part[0];
    return (left[0] + left[1]) + (left[2] + left[3]);
}

/* A constant number of vectors, at most `most` times EACH, lets the compiler keep them in
   registers. */
#define BY_WIDTH(most, num, call)                                                                 \
    switch (num) {                                                                                \
    case 4: if (most >= 4) call((most >= 4 ? 4 : 1) * EACH); break;                               \
    case 3: if (most >= 3) call((most >= 3 ? 3 : 1) * EACH); break;                               \
    case 2: if (most >= 2) call((most >= 2 ? 2 : 1) * EACH); break;                               \
    default: call(EACH);                                                                          \
    }

/* A vector of which only `num` values may be there, zeros for the others. */
INLINE vector taken(const float *from, int64_t num)
{
    if (num >= WIDTH) return *(const vector *)from;
    vector found = {0};
    for (int64_t k = 0; k < num; k++) found[k] = from[k];
    return found;
}

INLINE void put(float *to, vector values, int64_t num)
{
    if (num >= WIDTH)
        *(vector *)to = values;
    else
        for (int64_t k = 0; k < num; k++) to[k] = values[k];
}

/* row[i][j] becomes row[j][i]: blocks beside the diagonal change places, halved until they are
   single values. */
INLINE void transpose(vector row[WIDTH])
{
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define UPPER(j, b) ((j) & (b) ? WIDTH + (j) - (b) : (j))
#define LOWER(j, b) ((j) & (b) ? WIDTH + (j) : (j) + (b))
#define FOUR(which, j, b) which(j, b), which(j + 1, b), which(j + 2, b), which(j + 3, b)
#define EIGHT(which, j, b) FOUR(which, j, b), FOUR(which, j + 4, b)
#if defined(__AVX512F__)
#define ALL(which, b) EIGHT(which, 0, b), EIGHT(which, 8, b)
#elif defined(__AVX__)
#define ALL(which, b) EIGHT(which, 0, b)
#else
#define ALL(which, b) FOUR(which, 0, b)
#endif
#define EXCHANGE(b)                                                                               \
    for (int i = 0; i < WIDTH; i++)                                                               \
        if (!(i & (b)) && (b) < WIDTH) {                                                          \
            vector one = row[i], other = row[i | (b)];                                            \
            row[i] = __builtin_shufflevector(one, other, ALL(UPPER, (b) % WIDTH));                \
            row[i | (b)] = __builtin_shufflevector(one, other, ALL(LOWER, (b) % WIDTH));          \
        }
    EXCHANGE(8) EXCHANGE(4) EXCHANGE(2) EXCHANGE(1)
    return;
#endif
#endif
    for (int i = 0; i < WIDTH; i++)
        for (int j = 0; j < i; j++) {
            float kept = row[i][j];
            row[i][j] = row[j][i], row[j][i] = kept;
        }
}
