#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "basics.h"
#include "connection.h"
#include "histogram.h"
#include "marker.h"
#include "options.h"
#include "subscriber.h"
#include "tally.h"
#include "wire.h"

struct subscriber *subscribers;
static int handshakes;

static void lose(struct subscriber *subscriber, const char *why, const char *data, size_t length)
{
    problem(why, data, length);
    if (subscriber->state == LIVE)
        tally.live--;
    else
        handshakes--;
    subscriber->state = LOST;
    tally.lost++;
    connection_close(&subscriber->connection);
}

static void live(struct subscriber *subscriber)
{
    subscriber->state = LIVE;
    handshakes--;
    tally.live++;
}

/* A message has reached a subscriber: is it the next one of this channel? */
static void deliver(struct subscriber *subscriber, struct marker marker)
{
    if (marker.channel != subscriber->channel) {
        tally.wrong_channel++;
        return;
    }
    if (marker.publisher == WARM_UP_PUBLISHER) {
        if (marker.count > subscriber->warm_up)
            subscriber->warm_up = marker.count;
        return;
    }
    struct channel *channel = &channels[marker.channel];
    uint64_t identity = (uint64_t)marker.publisher << 32 | marker.count;
    uint32_t place = subscriber->delivered++;
    if (place == channel->length) {
        if (channel->length == channel->capacity) {
            channel->capacity = channel->capacity ? channel->capacity * 2 : 1024;
            channel->order = realloc(channel->order, channel->capacity * sizeof *channel->order);
            if (!channel->order)
                fail("out of memory");
        }
        channel->order[channel->length++] = identity;
    } else if (channel->order[place] != identity) {
        if (!tally.out_of_order++) {
            char text[160];
            snprintf(text, sizeof text, "subscriber %u of channel %u, place %u: wanted %llx, got %llx", subscriber->number,
                     subscriber->channel, place, (unsigned long long)channel->order[place], (unsigned long long)identity);
            problem(text, "", 0);
        }
    }
    tally.deliveries++;
    tally.last_delivery_ns = read_ns;
    histogram_add(&tally.latency, read_ns - marker.posted_ns);
}

/* Finds the marker of a frame: first where it was in the frame before, then anywhere. */
static const char *find_marker(struct subscriber *subscriber, const char *data, size_t length, struct marker *marker)
{
    if (length >= subscriber->hint + MARKER_BYTES && marker_read(data + subscriber->hint, marker))
        return data + subscriber->hint;
    for (const char *at = data; (at = memmem(at, (size_t)(data + length - at), MARKER_HEAD, 4)); at++) {
        if ((size_t)(data + length - at) < MARKER_BYTES)
            return NULL;
        if (marker_read(at, marker)) {
            subscriber->hint = (uint32_t)(at - data);
            return at;
        }
    }
    return NULL;
}

static bool has_type(const struct frame *frame, const char *type)
{
    char text[64];
    snprintf(text, sizeof text, "\"type\":\"%s\"", type);
    if (contains(frame->payload, frame->length, text))
        return true;
    snprintf(text, sizeof text, "\"type\": \"%s\"", type);
    return contains(frame->payload, frame->length, text);
}

static void send_text(struct subscriber *subscriber, const char *text)
{
    frame_send(&subscriber->connection, 1, text, strlen(text));
}

static void subscribe(struct subscriber *subscriber)
{
    const char *selection = options.selections[(int)subscriber->number / options.channels % options.selection_count];
    char *payload = with_channel(selection, (int)subscriber->channel), text[16384];
    snprintf(text, sizeof text, "{\"id\":\"%u\",\"type\":\"subscribe\",\"payload\":%s}", subscriber->number % 10, payload);
    free(payload);
    send_text(subscriber, text);
    send_text(subscriber, "{\"type\":\"ping\"}"); /* its pong says that the server has read the subscribe */
    subscriber->state = PONG_WAIT;
}

/* False when the subscriber is lost. */
static bool take_frame(struct subscriber *subscriber, const struct frame *frame)
{
    struct marker marker;
    if (frame->opcode == 9) {
        frame_send(&subscriber->connection, 10, frame->payload, frame->length);
    } else if (frame->opcode == 8) {
        size_t skip = frame->length < 2 ? frame->length : 2;
        char why[64];
        snprintf(why, sizeof why, "closed with %d: ",
                 skip == 2 ? (uint8_t)frame->payload[0] << 8 | (uint8_t)frame->payload[1] : 1005);
        lose(subscriber, why, frame->payload + skip, frame->length - skip);
        return false;
    } else if (frame->opcode == 10) {
        return true;
    } else if (frame->opcode != 1 || !frame->final) {
        tally.unexpected++;
        problem("a binary or fragmented message", "", 0);
    } else if (find_marker(subscriber, frame->payload, frame->length, &marker)) {
        deliver(subscriber, marker);
    } else if (options.mode == MODE_GRAPHQL_WS && has_type(frame, "connection_ack") && subscriber->state == ACK_WAIT) {
        subscribe(subscriber);
    } else if (options.mode == MODE_GRAPHQL_WS && has_type(frame, "pong") && subscriber->state == PONG_WAIT) {
        live(subscriber);
    } else if (options.mode == MODE_GRAPHQL_WS && has_type(frame, "ping")) {
        send_text(subscriber, "{\"type\":\"pong\"}");
    } else {
        tally.unexpected++;
        problem("an unexpected frame: ", frame->payload, frame->length);
    }
    return true;
}

/* Server-sent events: splits the chunks and looks for markers, also across two chunks. */
static size_t take_stream(struct subscriber *subscriber, const char *data, size_t length)
{
    static char text[2 * 1024 * 1024];
    size_t at = 0, end = subscriber->tail_length;
    memcpy(text, subscriber->tail, end);
    while (at < length) {
        size_t take = length - at;
        if (subscriber->chunked) {
            if (!subscriber->chunk_left) {
                size_t size, head = chunk_head(data + at, length - at, &size);
                if (!head)
                    break;
                subscriber->chunk_left = (uint32_t)size + 2; /* with the line end behind it */
                at += head;
                continue;
            }
            if (take > subscriber->chunk_left)
                take = subscriber->chunk_left;
            subscriber->chunk_left -= (uint32_t)take;
        }
        memcpy(text + end, data + at, take);
        end += take;
        at += take;
    }
    const char *from = text, *found;
    struct marker marker;
    while ((found = memmem(from, (size_t)(text + end - from), MARKER_HEAD, 4))) {
        if ((size_t)(text + end - found) < MARKER_BYTES)
            break;
        if (marker_read(found, &marker))
            deliver(subscriber, marker);
        from = found + (marker_read(found, &marker) ? MARKER_BYTES : 1);
    }
    size_t rest = (size_t)(text + end - from);
    subscriber->tail_length = (uint8_t)(rest < MARKER_BYTES - 1 ? rest : MARKER_BYTES - 1);
    memcpy(subscriber->tail, text + end - subscriber->tail_length, subscriber->tail_length);
    return at;
}

static size_t take_upgrade(struct subscriber *subscriber, const char *data, size_t length)
{
    const char *end = memmem(data, length, "\r\n\r\n", 4);
    if (!end)
        return 0;
    if (strncmp(data, options.mode == MODE_SSE ? "HTTP/1.1 200" : "HTTP/1.1 101", 12)) {
        lose(subscriber, "refused: ", data, length);
        return length;
    }
    if (options.mode == MODE_GRAPHQL_WS) {
        send_text(subscriber, "{\"type\":\"connection_init\"}");
        subscriber->state = ACK_WAIT;
    } else {
        const char *value = header_value(data, length, "transfer-encoding");
        subscriber->chunked = value && !strncasecmp(value, "chunked", 7);
        live(subscriber);
    }
    return (size_t)(end - data) + 4;
}

static void subscriber_ready(struct connection *connection)
{
    struct subscriber *subscriber = (struct subscriber *)connection;
    char *data;
    ssize_t length = connection_read(connection, &data);
    if (length < 0)
        lose(subscriber, "the server dropped a connection", "", 0);
    if (length <= 0)
        return;
    size_t at = 0, used = 1;
    while (used && at < (size_t)length && subscriber->state != LOST) {
        struct frame frame;
        if (subscriber->state == UPGRADING)
            used = take_upgrade(subscriber, data + at, (size_t)length - at);
        else if (options.mode == MODE_SSE)
            used = take_stream(subscriber, data + at, (size_t)length - at);
        else if ((used = frame_parse(data + at, (size_t)length - at, &frame)))
            take_frame(subscriber, &frame);
        at += used;
    }
    if (subscriber->state != LOST && at < (size_t)length)
        connection_hold(connection, data + at, (size_t)length - at);
}

static void greet(struct subscriber *subscriber)
{
    char *path = with_channel(options.path, (int)subscriber->channel), request[16384];
    int length;
    if (options.mode == MODE_SSE) {
        const char *selection = options.selections[(int)subscriber->number / options.channels % options.selection_count];
        char *payload = with_channel(selection, (int)subscriber->channel);
        length = snprintf(request, sizeof request,
            "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/event-stream\r\nContent-Type: application/json\r\n"
            "Content-Length: %zu\r\n\r\n%s", path, options.port, strlen(payload), payload);
        free(payload);
    } else {
        length = snprintf(request, sizeof request,
            "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n", path, options.port,
            options.mode == MODE_GRAPHQL_WS ? "Sec-WebSocket-Protocol: graphql-transport-ws\r\n" : "");
    }
    free(path);
    connection_open(&subscriber->connection, (int)subscriber->number, false);
    connection_send(&subscriber->connection, request, (size_t)length);
    subscriber->state = UPGRADING;
    handshakes++;
}

void subscribers_connect(void)
{
    subscribers = calloc((size_t)options.subscribers + 1, sizeof *subscribers);
    if (!subscribers)
        fail("out of memory");
    int64_t limit_ns = now_ns() + (int64_t)(options.connect_timeout_seconds * 1e9);
    for (int next = 0; tally.live < options.subscribers;) {
        while (handshakes < options.connect_window && next < options.subscribers) {
            struct subscriber *subscriber = &subscribers[next];
            subscriber->number = (uint32_t)next++;
            subscriber->channel = subscriber->number % (uint32_t)options.channels;
            subscriber->connection.ready = subscriber_ready;
            channels[subscriber->channel].subscribers++;
            greet(subscriber);
        }
        if (tally.lost || tally.unexpected)
            fail("a handshake failed after %d: %s", tally.live, tally.first_problem);
        if (now_ns() > limit_ns)
            fail("only %d of %d subscribers after %.0f s", tally.live, options.subscribers,
                 options.connect_timeout_seconds);
        loop_once(limit_ns);
    }
}

bool subscribers_warm(uint32_t round)
{
    for (int i = 0; i < options.subscribers; i++)
        if (subscribers[i].state == LIVE && subscribers[i].warm_up < round)
            return false;
    return true;
}
