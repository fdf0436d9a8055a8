#include <string.h>

#include "marker.h"

static void hex_write(char *out, uint64_t value, int digits)
{
    for (int i = digits - 1; i >= 0; i--, value >>= 4)
        out[i] = "0123456789abcdef"[value & 15];
}

static uint64_t hex_read(const char *data, int digits)
{
    uint64_t value = 0;
    for (int i = 0; i < digits; i++) /* lower-case digits only, as they were written */
        value = value << 4 | (uint64_t)((data[i] & 15) + 9 * (data[i] >> 6));
    return value;
}

void marker_write(char *out, struct marker marker)
{
    memcpy(out, MARKER_HEAD, 4);
    hex_write(out + 4, marker.publisher, 3);
    hex_write(out + 7, marker.channel, 4);
    hex_write(out + 11, marker.count, 8);
    hex_write(out + 19, (uint64_t)marker.posted_ns, 16);
    out[35] = '~';
}

bool marker_read(const char *data, struct marker *marker)
{
    if (memcmp(data, MARKER_HEAD, 4) || data[35] != '~')
        return false;
    marker->publisher = (uint32_t)hex_read(data + 4, 3);
    marker->channel = (uint32_t)hex_read(data + 7, 4);
    marker->count = (uint32_t)hex_read(data + 11, 8);
    marker->posted_ns = (int64_t)hex_read(data + 19, 16);
    return true;
}
