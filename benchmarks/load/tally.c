#include <stdio.h>
#include <stdlib.h>

#include "tally.h"

struct channel channels[CHANNELS_MAX];
struct tally tally;

void problem(const char *what, const char *data, size_t length)
{
    if (tally.first_problem[0])
        return;
    size_t at = (size_t)snprintf(tally.first_problem, sizeof tally.first_problem, "%s", what);
    for (size_t i = 0; i < length && at < sizeof tally.first_problem - 1; i++)
        if (data[i] >= ' ' && data[i] < 127)
            tally.first_problem[at++] = data[i] == '"' || data[i] == '\\' ? '\'' : data[i];
    tally.first_problem[at] = 0;
}

uint64_t order_check(void)
{
    uint64_t violations = 0;
    for (int c = 0; c < options.channels; c++) {
        struct channel *channel = &channels[c];
        uint32_t *seen = calloc((size_t)options.publishers + 1, sizeof *seen);
        for (size_t i = 0; i < channel->length; i++) {
            uint32_t publisher = (uint32_t)(channel->order[i] >> 32), count = (uint32_t)channel->order[i];
            if (publisher >= (uint32_t)options.publishers || count != seen[publisher] + 1)
                violations++;
            if (publisher < (uint32_t)options.publishers)
                seen[publisher] = count;
        }
        free(seen);
    }
    return violations;
}
