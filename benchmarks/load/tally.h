/* What was posted, what was delivered, and what went wrong. Subscribers and publishers write it, and `main` reports it. */
#ifndef TALLY_H
#define TALLY_H
#include <stddef.h>
#include <stdint.h>
#include "histogram.h"
#include "options.h"

struct channel {
    uint64_t *order; /* publisher and count of each message, as the first subscriber to reach that place saw it */
    size_t length, capacity;
    uint32_t subscribers;
    uint64_t accepted; /* posts that were answered with success */
    uint32_t *counts;  /* by publisher: how many it has posted here */
};
extern struct channel channels[CHANNELS_MAX];

struct tally {
    uint64_t deliveries, expected, out_of_order, wrong_channel, unexpected;
    int64_t last_delivery_ns;
    int live, lost;
    char first_problem[600];
    struct histogram latency;
};
extern struct tally tally;
/* Stores the first thing that went wrong, with printable characters only, so that it fits into a JSON string. */
void problem(const char *what, const char *data, size_t length);
/* Compares the order in each channel with what the publishers have posted. Returns the number of violations. */
uint64_t order_check(void);

#endif
