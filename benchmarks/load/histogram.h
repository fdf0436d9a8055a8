/* A histogram of nanoseconds with a relative precision of 1/32. */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H
#include <stdint.h>

#define HISTOGRAM_BUCKETS (60 * 32)
struct histogram {
    uint64_t count, sum, max, buckets[HISTOGRAM_BUCKETS];
};
void histogram_add(struct histogram *histogram, int64_t value);
double histogram_ms(const struct histogram *histogram, double quantile);

#endif
