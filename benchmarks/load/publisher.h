/* Publishers: they own their connections, and post. */
#ifndef PUBLISHER_H
#define PUBLISHER_H
#include <stdbool.h>
#include <stdint.h>
#include "histogram.h"

extern struct posting {
    uint64_t sent, accepted, refused;
    int in_flight;
    int64_t next_due_ns; /* with a rate: when the next post is due, INT64_MAX for none */
    int64_t stop_ns;
    bool running;
    struct histogram answer_time;
} posting;
void publishers_connect(void);
void publishers_start(int64_t stop_ns);
void publishers_tick(int64_t now);
/* Posts one warm-up message to a channel and waits for the answer. */
void publish_warm_up(int channel, uint32_t round);

/* The post probe: a separate publisher that posts at a fixed rate while the others post. Like HdrHistogram, it also counts
 * the posts that were due while one waited, so a stall is more than one sample. */
extern struct histogram post_probe_time;
void post_probe_start(int64_t now);
int64_t post_probe_due_ns(void);
void post_probe_stop(int64_t now);

#endif
