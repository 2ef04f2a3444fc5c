/* Batches as these loops see them: x[feature][sample], feature by feature, samples padded to whole
   vectors, so that one weight meets the whole batch in a few vector instructions.

   Every value is summed by one thread in one order: the same bits with any number of threads and
   beside any other replicates. */

#include <stdint.h>

#ifndef LANES /* floats in a vector; compilers split it where the machine's are shorter */
#error "-DLANES is not given"
#endif
#define BLOCK 4  /* vectors of samples that are summed in registers at a time */

typedef float vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef float half __attribute__((vector_size(2 * LANES)));
typedef float quarter __attribute__((vector_size(LANES)));
_Static_assert(LANES == 16, "sum() below halves a vector of 16");

#define INLINE static inline __attribute__((always_inline, unused))

INLINE int64_t smaller(int64_t one, int64_t other) { return one < other ? one : other; }

INLINE float sum(vector whole)
{
    union { vector all; half part[2]; } two = {whole};
    union { half all; quarter part[2]; } four = {two.part[0] + two.part[1]};
    quarter left = four.part[0] + four.part[1];
    return (left[0] + left[1]) + (left[2] + left[3]);
}

/* A constant number of vectors lets the compiler keep them in registers. */
#define BY_WIDTH(call)                                                                            \
    switch (num) {                                                                                \
    case 4: call(4); break;                                                                       \
    case 3: call(3); break;                                                                       \
    case 2: call(2); break;                                                                       \
    default: call(1);                                                                             \
    }
