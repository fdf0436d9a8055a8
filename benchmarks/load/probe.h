/* The ping probe: a separate socket without a subscription, which sends pings at a fixed rate. */
#ifndef PROBE_H
#define PROBE_H
#include <stdint.h>
#include "histogram.h"

extern struct histogram ping_time; /* also counts the pings that were due while one waited, like the post probe */
void ping_probe_connect(void);
void ping_probe_start(int64_t now);
void ping_probe_tick(int64_t now);
int64_t ping_probe_due_ns(void);
/* Ends the probe. A ping that is not answered yet counts with the time that it has waited so far. */
void ping_probe_stop(int64_t now);

#endif
