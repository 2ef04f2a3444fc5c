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

/* A constant number of vectors lets the compiler keep them in registers. */
#define BY_WIDTH(num, call)                                                                       \
    switch (num) {                                                                                \
    case 4: call(4 * EACH); break;                                                                \
    case 3: call(3 * EACH); break;                                                                \
    case 2: call(2 * EACH); break;                                                                \
    default: call(EACH);                                                                          \
    }
