/* Publishers: HTTP posts with keep-alive, or operations over WebSockets. Each publisher has one of them under way. They post
 * as fast as answers come, or at a fixed rate. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "basics.h"
#include "connection.h"
#include "histogram.h"
#include "marker.h"
#include "options.h"
#include "publisher.h"
#include "tally.h"
#include "wire.h"

struct publisher {
    struct connection connection;
    int number;
    bool in_flight, warm_up, probe;
    enum { SOCKET_UPGRADING, SOCKET_GREETING, SOCKET_READY } socket; /* how far its WebSocket is; not looked at over HTTP */
    bool refused;                               /* the result before the operation's `complete` was an error */
    int channel;
    int64_t sent_ns, posted_ns;
    char *request; /* made once; the channel's digits and the marker are written into it for each post */
    size_t length, marker_at, channel_at[8];
    int channel_places;
};

struct posting posting;
struct histogram post_probe_time;
static struct publisher *publishers, control, probe;
static int next_channel;
static int64_t probe_due_ns = INT64_MAX;
static bool probe_running;

static void make_request(struct publisher *publisher)
{
    static const char content_place[] = "%CONTENT%", channel_digits[] = "bench77777";
    char *path = with_channel(options.post_path, 77777), *body = with_channel(options.post_body, 77777);
    char *place = strstr(body, content_place);
    if (!place)
        fail("--post-body has no %%CONTENT%%");
    char *content = malloc((size_t)options.content_bytes + 1);
    memset(content, '.', (size_t)options.content_bytes);
    content[options.content_bytes] = 0;
    if (options.post_by_socket) {
        static const char head[] = "{\"id\":\"p\",\"type\":\"subscribe\",\"payload\":";
        char *message;
        if (asprintf(&message, "%s%.*s%s%s}", head, (int)(place - body), body, content,
                place + sizeof content_place - 1) < 0)
            fail("out of memory");
        publisher->request = frame_make(1, message, strlen(message), &publisher->length);
        size_t before = publisher->length - strlen(message);
        publisher->marker_at = before + sizeof head - 1 + (size_t)(place - body);
        for (char *at = message; (at = strstr(at, channel_digits)) && publisher->channel_places < 8; at++)
            publisher->channel_at[publisher->channel_places++] = before + (size_t)(at - message) + 5;
        free(message);
        free(path);
        free(body);
        free(content);
        return;
    }
    size_t body_length = strlen(body) - (sizeof content_place - 1) + (size_t)options.content_bytes;
    if (asprintf(&publisher->request,
            "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\nAccept: application/json\r\n"
            "Content-Length: %zu\r\n\r\n%.*s%s%s", path, options.port, body_length, (int)(place - body), body, content,
            place + sizeof content_place - 1) < 0)
        fail("out of memory");
    publisher->length = strlen(publisher->request);
    publisher->marker_at = publisher->length - strlen(place + sizeof content_place - 1) - (size_t)options.content_bytes;
    for (char *at = publisher->request; (at = strstr(at, channel_digits)) && publisher->channel_places < 8; at++)
        publisher->channel_at[publisher->channel_places++] = (size_t)(at - publisher->request) + 5;
    free(path);
    free(body);
    free(content);
}

static void post(struct publisher *publisher, int channel, struct marker marker)
{
    char digits[16];
    snprintf(digits, sizeof digits, "%05d", channel);
    for (int i = 0; i < publisher->channel_places; i++)
        memcpy(publisher->request + publisher->channel_at[i], digits, 5);
    marker_write(publisher->request + publisher->marker_at, marker);
    if (publisher->connection.fd < 0)
        connection_open(&publisher->connection, options.subscribers, true);
    publisher->channel = channel;
    publisher->in_flight = true;
    publisher->sent_ns = now_ns();
    publisher->posted_ns = marker.posted_ns;
    if (!connection_send(&publisher->connection, publisher->request, publisher->length))
        fail("a post could not be sent");
}

/* Posts the publisher's next message, to the next channel in turn. `posted_ns` is when it was due. */
static void post_next(struct publisher *publisher, int64_t posted_ns)
{
    int channel = next_channel;
    next_channel = (next_channel + 1) % options.channels;
    struct channel *to = &channels[channel];
    if (!to->counts && !(to->counts = calloc((size_t)options.publishers, sizeof *to->counts)))
        fail("out of memory");
    posting.sent++;
    posting.in_flight++;
    post(publisher, channel, (struct marker){(uint32_t)publisher->number, (uint32_t)channel,
                                             ++to->counts[publisher->number], posted_ns});
    if (options.posts && posting.sent >= (uint64_t)options.posts)
        posting.running = false;
}

static void answered(struct publisher *publisher, const struct answer *answer)
{
    bool success = answer->status == 200 && !contains(answer->body, answer->length, "\"errors\"");
    publisher->in_flight = false;
    if (!success)
        problem("a post was refused: ", answer->body, answer->length);
    if (publisher->probe) {
        int64_t interval_ns = (int64_t)(options.post_probe_interval_ms * 1e6);
        if (!probe_running)
            return;
        for (int64_t waited = read_ns - publisher->posted_ns; waited >= 0; waited -= interval_ns)
            histogram_add(&post_probe_time, waited); /* posts that were due while this one waited count as well */
        int64_t next = publisher->posted_ns + interval_ns;
        probe_due_ns = next > read_ns ? next : read_ns;
        return;
    }
    if (publisher->warm_up) {
        if (!success)
            fail("%s", tally.first_problem);
        return;
    }
    posting.in_flight--;
    if (success) {
        posting.accepted++;
        channels[publisher->channel].accepted++;
        tally.expected += channels[publisher->channel].subscribers;
        histogram_add(&posting.answer_time, read_ns - publisher->posted_ns);
    } else if (posting.refused++ > 1000) {
        fail("more than 1,000 posts were refused: %s", tally.first_problem);
    }
    if (!posting.running || read_ns >= posting.stop_ns)
        return;
    if (!options.rate)
        post_next(publisher, now_ns());
    else
        publishers_tick(read_ns);
}

static void socket_open(struct publisher *publisher)
{
    char request[512];
    int length = snprintf(request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n", options.post_path, options.port);
    publisher->socket = SOCKET_UPGRADING;
    connection_send(&publisher->connection, request, (size_t)length);
}

static void socket_frame(struct publisher *publisher, const struct frame *frame)
{
    static const char reply[] = "{\"type\":\"pong\"}";
    if (frame->opcode == 9)
        frame_send(&publisher->connection, 10, frame->payload, frame->length);
    else if (frame->opcode == 8)
        fail("the server closed a publisher's socket: %.*s", (int)frame->length - 2, frame->payload + 2);
    else if (publisher->socket == SOCKET_GREETING && contains(frame->payload, frame->length, "\"connection_ack\""))
        publisher->socket = SOCKET_READY;
    else if (contains(frame->payload, frame->length, "\"type\":\"next\""))
        publisher->refused = contains(frame->payload, frame->length, "\"errors\"");
    else if (contains(frame->payload, frame->length, "\"type\":\"complete\"")
             || contains(frame->payload, frame->length, "\"type\":\"error\""))
        answered(publisher, &(struct answer){
            publisher->refused || contains(frame->payload, frame->length, "\"type\":\"error\"") ? 400 : 200,
            frame->payload, frame->length});
    else if (contains(frame->payload, frame->length, "\"ping\""))
        frame_send(&publisher->connection, 1, reply, sizeof reply - 1);
}

static void socket_ready(struct connection *connection)
{
    static const char init[] = "{\"type\":\"connection_init\"}";
    struct publisher *publisher = (struct publisher *)connection;
    char *data;
    ssize_t length = connection_read(connection, &data);
    if (length < 0)
        fail("the server dropped a publisher's socket after %llu posts", (unsigned long long)posting.accepted);
    size_t at = 0, used = 1;
    while (used && (ssize_t)at < length) {
        const char *from = data + at;
        size_t rest = (size_t)length - at;
        struct frame frame;
        if (publisher->socket == SOCKET_UPGRADING) {
            const char *end = memmem(from, rest, "\r\n\r\n", 4);
            if (end && strncmp(from, "HTTP/1.1 101", 12))
                fail("a publisher's socket was refused: %.100s", from);
            used = end ? (size_t)(end - from) + 4 : 0;
            if (end) {
                frame_send(connection, 1, init, sizeof init - 1);
                publisher->socket = SOCKET_GREETING;
            }
        } else if ((used = frame_parse(from, rest, &frame))) {
            socket_frame(publisher, &frame);
        }
        at += used;
    }
    if (length > 0 && at < (size_t)length)
        connection_hold(connection, data + at, (size_t)length - at);
}

static void publisher_ready(struct connection *connection)
{
    struct publisher *publisher = (struct publisher *)connection;
    char *data;
    ssize_t length = connection_read(connection, &data);
    if (length < 0 && publisher->in_flight)
        fail("the server dropped a publisher's connection after %llu posts", (unsigned long long)posting.accepted);
    if (length < 0)
        connection_close(connection); /* idle for too long; the next post opens another */
    if (length <= 0)
        return;
    struct answer answer;
    size_t used = answer_parse(data, (size_t)length, &answer);
    if (!used)
        connection_hold(connection, data, (size_t)length);
    else if (used != (size_t)length || !publisher->in_flight)
        fail("an answer that nobody asked for: %.80s", data);
    else
        answered(publisher, &answer);
}

static void publisher_open(struct publisher *publisher, int number)
{
    publisher->number = number;
    publisher->connection.ready = options.post_by_socket ? socket_ready : publisher_ready;
    make_request(publisher);
    connection_open(&publisher->connection, options.subscribers, true);
    if (!options.post_by_socket)
        return;
    socket_open(publisher);
    int64_t limit_ns = now_ns() + (int64_t)(options.connect_timeout_seconds * 1e9);
    while (publisher->socket != SOCKET_READY) {
        if (now_ns() > limit_ns)
            fail("no acknowledgement for a publisher's socket");
        loop_once(limit_ns);
    }
}

void publishers_connect(void)
{
    publishers = calloc((size_t)options.publishers + 1, sizeof *publishers);
    for (int i = 0; i < options.publishers; i++)
        publisher_open(&publishers[i], i);
    control.warm_up = true;
    publisher_open(&control, WARM_UP_PUBLISHER);
    probe.probe = true;
    if (options.post_probe_interval_ms)
        publisher_open(&probe, WARM_UP_PUBLISHER);
}

void publish_warm_up(int channel, uint32_t round)
{
    int64_t limit_ns = now_ns() + (int64_t)(options.warm_up_timeout_seconds * 1e9);
    post(&control, channel, (struct marker){WARM_UP_PUBLISHER, (uint32_t)channel, round, now_ns()});
    while (control.in_flight) {
        if (now_ns() > limit_ns)
            fail("no answer to a warm-up post within %.0f s", options.warm_up_timeout_seconds);
        loop_once(limit_ns);
    }
}

void publishers_start(int64_t stop_ns)
{
    posting.stop_ns = stop_ns;
    posting.running = true;
    posting.next_due_ns = options.rate ? now_ns() : INT64_MAX;
    if (!options.rate)
        for (int i = 0; i < options.publishers && posting.running; i++)
            post_next(&publishers[i], now_ns());
    publishers_tick(now_ns());
}

/* Posts what is due. With a fixed rate, if no publisher is idle, a post keeps the time at which it was due. */
void publishers_tick(int64_t now)
{
    if (now >= posting.stop_ns)
        posting.running = false;
    for (int i = 0; options.rate && posting.running && posting.next_due_ns <= now && i < options.publishers; i++) {
        if (publishers[i].in_flight)
            continue;
        post_next(&publishers[i], posting.next_due_ns);
        posting.next_due_ns += (int64_t)(1e9 / options.rate);
    }
    if (probe_running && probe_due_ns <= now && !probe.in_flight) {
        post(&probe, PROBE_CHANNEL, (struct marker){WARM_UP_PUBLISHER, PROBE_CHANNEL & 0xffff, 0, probe_due_ns});
        probe_due_ns = INT64_MAX;
    }
}

int64_t post_probe_due_ns(void) { return probe_due_ns; }

void post_probe_start(int64_t now)
{
    probe_running = options.post_probe_interval_ms > 0;
    probe_due_ns = probe_running ? now : INT64_MAX;
}

/* Ends the probe. A post that is not answered yet counts with the time that it has waited so far. */
void post_probe_stop(int64_t now)
{
    if (probe_running && probe.in_flight)
        histogram_add(&post_probe_time, now - probe.posted_ns);
    probe_running = false;
    probe_due_ns = INT64_MAX;
}
