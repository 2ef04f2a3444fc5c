#include "samples.h"

/* Batches for all replicates, feature by feature: x[n][f][s] = data[sample[n][s]][f]. A last, short
   vector of samples repeats its first one: zeros in its place might be divided by. `samples` is
   `num` in whole vectors. */
void lth_gather(int64_t replicates, int64_t num, int64_t features, int64_t samples, int64_t threads,
                const int64_t *sample, const float *data, float *x)
{
    int64_t blocks = (num + LANES - 1) / LANES;
#pragma omp parallel for num_threads(threads) schedule(static) collapse(2)
    for (int64_t n = 0; n < replicates; n++)
        for (int64_t block = 0; block < blocks; block++) {
            const float *from[LANES];
            int64_t first = block * LANES, count = smaller(LANES, num - first);
            for (int64_t s = 0; s < LANES; s++)
                from[s] = data + sample[n * num + first + (s < count ? s : 0)] * features;
            float *to = x + n * features * samples + first;
            for (int64_t f = 0; f < features; f += WIDTH)
                for (int v = 0; v < EACH; v++) {
                    int64_t here = smaller(WIDTH, features - f);
                    vector row[WIDTH];
                    for (int s = 0; s < WIDTH; s++) row[s] = taken(from[v * WIDTH + s] + f, here);
                    transpose(row);
                    for (int k = 0; k < here; k++)
                        ((vector *)(to + (f + k) * samples))[v] = row[k];
                }
        }
}
