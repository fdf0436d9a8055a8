#define _GNU_SOURCE
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "basics.h"
#include "marker.h"
#include "options.h"

struct options options = {
    .path = "/graphql",
    .post_path = "/graphql",
    .channels = 1,
    .publishers = 1,
    .seconds = 3,
    .content_bytes = 64,
    .connect_window = 64,
    .connect_timeout_seconds = 120,
    .warm_up_timeout_seconds = 60,
    .drain_seconds = 20,
};

static const char usage[] =
    "usage: load --port N --post-body JSON [--subscribe JSON]... [options]\n"
    "  --mode graphql-ws|plain|sse  --path P  --post-path P  --pid N (the server's, for CPU and memory)\n"
    "  --subscribers N  --channels N  --publishers N  --rate POSTS_PER_SECOND (0: closed loop)\n"
    "  --seconds S  --posts N (0: no limit)  --content-bytes N  --connect-window N\n"
    "  --settle-seconds S  --connect-timeout S  --warm-up-timeout S  --drain-seconds S\n"
    "  --ping-interval-ms MS  --post-probe-interval-ms MS (0: no probe)\n"
    "  --post-by-socket 0|1 (1: posts are operations of graphql-transport-ws sockets)\n";

static double number(const char *name, const char *text, double lowest, double highest)
{
    char *end;
    double value = strtod(text, &end);
    if (*end || end == text || value < lowest || value > highest)
        fail("%s wants a number from %.0f to %.0f, not %s", name, lowest, highest, text);
    return value;
}

static enum mode mode(const char *text)
{
    static const char *const names[] = {"graphql-ws", "plain", "sse"};
    for (int i = 0; i < 3; i++)
        if (!strcmp(text, names[i]))
            return (enum mode)i;
    fail("--mode is graphql-ws, plain or sse, not %s", text);
}

void options_parse(int argc, char **argv)
{
    for (int i = 1; i < argc; i += 2) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!value) {
            fputs(usage, stderr);
            exit(2);
        }
        const struct { const char *name; double low, high; double *number; int *integer; } numbers[] = {
            {"--port", 1, 65535, NULL, &options.port},
            {"--pid", 0, 1 << 30, NULL, &options.pid},
            {"--subscribers", 0, 1000000, NULL, &options.subscribers},
            {"--channels", 1, CHANNELS_MAX, NULL, &options.channels},
            {"--publishers", 1, PUBLISHERS_MAX, NULL, &options.publishers},
            {"--content-bytes", MARKER_BYTES, 8192, NULL, &options.content_bytes},
            {"--connect-window", 1, 4096, NULL, &options.connect_window},
            {"--post-by-socket", 0, 1, NULL, &options.post_by_socket},
            {"--rate", 0, 1e6, &options.rate, NULL},
            {"--seconds", 0, 86400, &options.seconds, NULL},
            {"--settle-seconds", 0, 3600, &options.settle_seconds, NULL},
            {"--connect-timeout", 0, 3600, &options.connect_timeout_seconds, NULL},
            {"--warm-up-timeout", 0, 3600, &options.warm_up_timeout_seconds, NULL},
            {"--drain-seconds", 0, 3600, &options.drain_seconds, NULL},
            {"--ping-interval-ms", 0, 60000, &options.ping_interval_ms, NULL},
            {"--post-probe-interval-ms", 0, 60000, &options.post_probe_interval_ms, NULL},
        };
        bool known = false;
        for (size_t n = 0; n < sizeof numbers / sizeof *numbers && !known; n++) {
            known = !strcmp(name, numbers[n].name);
            if (!known)
                continue;
            double given = number(name, value, numbers[n].low, numbers[n].high);
            if (numbers[n].number)
                *numbers[n].number = given;
            else
                *numbers[n].integer = (int)given;
        }
        if (known) {
            continue;
        } else if (!strcmp(name, "--posts")) {
            options.posts = (long)number(name, value, 0, 1e12);
        } else if (!strcmp(name, "--mode")) {
            options.mode = mode(value);
        } else if (!strcmp(name, "--path")) {
            options.path = value;
        } else if (!strcmp(name, "--post-path")) {
            options.post_path = value;
        } else if (!strcmp(name, "--post-body")) {
            options.post_body = value;
        } else if (!strcmp(name, "--subscribe")) {
            if (options.selection_count == SELECTIONS_MAX)
                fail("at most %d times --subscribe", SELECTIONS_MAX);
            options.selections[options.selection_count++] = value;
        } else {
            fputs(usage, stderr);
            exit(2);
        }
    }
    if (!options.port || !options.post_body || (options.mode != MODE_PLAIN && !options.selection_count)) {
        fputs(usage, stderr);
        exit(2);
    }
}
