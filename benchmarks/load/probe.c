#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include "basics.h"
#include "connection.h"
#include "histogram.h"
#include "options.h"
#include "probe.h"
#include "wire.h"

static struct {
    struct connection connection;
    enum { OFF, UPGRADE, ACK, IDLE, PINGED } state;
    int64_t due_ns, asked_ns; /* when the ping under way was due */
} probe;
struct histogram ping_time;

static void pong(void)
{
    int64_t interval_ns = (int64_t)(options.ping_interval_ms * 1e6); /* not 0, or there were no probe */
    for (int64_t waited = read_ns - probe.asked_ns; waited >= 0; waited -= interval_ns)
        histogram_add(&ping_time, waited);
    probe.state = IDLE;
    probe.due_ns = probe.asked_ns + interval_ns > read_ns ? probe.asked_ns + interval_ns : read_ns;
}

static void probe_ready(struct connection *connection)
{
    static const char init[] = "{\"type\":\"connection_init\"}", reply[] = "{\"type\":\"pong\"}";
    char *data;
    ssize_t length = connection_read(connection, &data);
    if (length < 0)
        fail("the server dropped the ping probe");
    size_t at = 0, used = 1;
    while (used && (ssize_t)at < length) {
        const char *from = data + at;
        size_t rest = (size_t)length - at;
        struct frame frame;
        if (probe.state == UPGRADE) {
            const char *end = memmem(from, rest, "\r\n\r\n", 4);
            if (end && strncmp(from, "HTTP/1.1 101", 12))
                fail("the ping probe was refused: %.100s", from);
            used = end ? (size_t)(end - from) + 4 : 0;
            if (end && options.mode == MODE_GRAPHQL_WS)
                frame_send(connection, 1, init, sizeof init - 1);
            if (end)
                probe.state = options.mode == MODE_GRAPHQL_WS ? ACK : IDLE;
        } else if ((used = frame_parse(from, rest, &frame))) {
            if (frame.opcode == 9)
                frame_send(connection, 10, frame.payload, frame.length);
            else if (probe.state == PINGED && (frame.opcode == 10 || contains(frame.payload, frame.length, "\"pong\"")))
                pong();
            else if (probe.state == ACK && contains(frame.payload, frame.length, "\"connection_ack\""))
                probe.state = IDLE;
            else if (contains(frame.payload, frame.length, "\"ping\""))
                frame_send(connection, 1, reply, sizeof reply - 1);
        }
        at += used;
    }
    if (length > 0 && at < (size_t)length)
        connection_hold(connection, data + at, (size_t)length - at);
}

void ping_probe_connect(void)
{
    probe.due_ns = INT64_MAX;
    if (!options.ping_interval_ms || options.mode == MODE_SSE)
        return;
    char *path = with_channel(options.path, PROBE_CHANNEL), request[4096];
    int length = snprintf(request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n", path, options.port,
        options.mode == MODE_GRAPHQL_WS ? "Sec-WebSocket-Protocol: graphql-transport-ws\r\n" : "");
    probe.connection.ready = probe_ready;
    connection_open(&probe.connection, options.subscribers, true);
    connection_send(&probe.connection, request, (size_t)length);
    probe.state = UPGRADE;
    int64_t limit_ns = now_ns() + (int64_t)(options.connect_timeout_seconds * 1e9);
    while (probe.state != IDLE) {
        if (now_ns() > limit_ns)
            fail("the ping probe got no connection within %.0f s", options.connect_timeout_seconds);
        loop_once(limit_ns);
    }
}

void ping_probe_start(int64_t now)
{
    if (probe.state == IDLE)
        probe.due_ns = now;
}

int64_t ping_probe_due_ns(void) { return probe.due_ns; }

void ping_probe_tick(int64_t now)
{
    static const char text[] = "{\"type\":\"ping\"}";
    if (probe.state != IDLE || now < probe.due_ns)
        return;
    bool graphql = options.mode == MODE_GRAPHQL_WS;
    frame_send(&probe.connection, graphql ? 1 : 9, text, graphql ? sizeof text - 1 : 0);
    probe.asked_ns = probe.due_ns;
    probe.due_ns = INT64_MAX;
    probe.state = PINGED;
}

void ping_probe_stop(int64_t now)
{
    if (probe.state == PINGED)
        histogram_add(&ping_time, now - probe.asked_ns);
    probe.state = OFF;
    probe.due_ns = INT64_MAX;
}
