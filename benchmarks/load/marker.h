/* A delivery is recognised by a marker in the message's content, not by parsing JSON. The publisher writes it:
 *     ~rq:PPPCCCCNNNNNNNNTTTTTTTTTTTTTTTT~     (hexadecimal, 36 bytes)
 * publisher, channel, the publisher's count on that channel, and the time of posting (CLOCK_MONOTONIC, nanoseconds).
 */
#ifndef MARKER_H
#define MARKER_H
#include <stdbool.h>
#include <stdint.h>

#define MARKER_HEAD "~rq:"
#define MARKER_BYTES 36

struct marker {
    uint32_t publisher, channel, count;
    int64_t posted_ns;
};
void marker_write(char *out, struct marker marker);
bool marker_read(const char *data, struct marker *marker);

#endif
