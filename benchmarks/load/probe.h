/* The ping probe: a socket of its own, with no subscription, that asks at a fixed rate for a sign of life. */
#ifndef PROBE_H
#define PROBE_H
#include <stdint.h>
#include "histogram.h"

extern struct histogram ping_time; /* counts also the pings that were due while one waited, as the post probe does */
void ping_probe_connect(void);
void ping_probe_start(int64_t now);
void ping_probe_tick(int64_t now);
int64_t ping_probe_due_ns(void);
/* Ends the probe; a ping that is still unanswered counts with the time it has waited so far. */
void ping_probe_stop(int64_t now);

#endif
