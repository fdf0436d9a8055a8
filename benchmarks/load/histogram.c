#include "histogram.h"

void histogram_add(struct histogram *histogram, int64_t value)
{
    uint64_t v = value < 0 ? 0 : (uint64_t)value;
    int shift = v < 64 ? 0 : 63 - __builtin_clzll(v) - 5; /* 32 to 63 once shifted */
    histogram->buckets[(uint64_t)shift * 32 + (v >> shift)]++;
    histogram->count++;
    histogram->sum += v;
    if (v > histogram->max)
        histogram->max = v;
}

/* The upper edge of the bucket in which the quantile lies, in milliseconds; 0 when nothing was recorded. */
double histogram_ms(const struct histogram *histogram, double quantile)
{
    uint64_t wanted = (uint64_t)(quantile * (double)histogram->count), seen = 0;
    if (wanted >= histogram->count)
        return (double)histogram->max / 1e6;
    for (uint64_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen > wanted) {
            uint64_t shift = i < 64 ? 0 : i / 32 - 1;
            uint64_t edge = ((i - shift * 32 + 1) << shift) - 1;
            return (double)(edge < histogram->max ? edge : histogram->max) / 1e6;
        }
    }
    return (double)histogram->max / 1e6;
}
