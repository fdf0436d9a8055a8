/* Subscribers: they own their connections, and count what arrives. */
#ifndef SUBSCRIBER_H
#define SUBSCRIBER_H
#include <stdbool.h>
#include <stdint.h>
#include "connection.h"
#include "marker.h"

struct subscriber {
    struct connection connection;
    enum { UPGRADING, ACK_WAIT, PONG_WAIT, LIVE, LOST } state;
    uint32_t channel, number;
    uint32_t warm_up;   /* the newest round it has seen */
    uint32_t delivered; /* its place in the channel's order */
    uint32_t hint;      /* where in a frame the marker was last */
    bool chunked;
    uint32_t chunk_left; /* SSE: rest of the chunk being read */
    uint8_t tail_length;
    char tail[MARKER_BYTES]; /* SSE: the end of the last bytes, in case a marker is cut in two */
};
extern struct subscriber *subscribers;

void subscribers_connect(void);
/* Whether every subscriber has seen warm-up round `round` or a later one. */
bool subscribers_warm(uint32_t round);

#endif
