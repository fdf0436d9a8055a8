/* The floor: what a channel server costs that does nothing but the system calls.
 *
 * It has one thread and uses epoll. POST /api/messages is answered after one send() of the message's frame to each socket of
 * its channel (WebSocket /api/ws/<channel>). There is no GraphQL, no JSON parser (two fields are cut out of the body by their
 * names) and no batching. A server that writes once for each message and subscriber cannot be cheaper than this.
 *
 *   floor PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "handshake.h"

#define CHANNELS_MAX 4096
#define NAME_MAX_BYTES 128
#define INPUT_MAX_BYTES 65536
#define FRAME_MAX_BYTES 65536

struct channel {
    char name[NAME_MAX_BYTES + 1];
    struct client **members;
    size_t count, capacity;
    unsigned sequence;
};

struct client {
    int fd;
    struct channel *channel; /* NULL until it is a WebSocket */
    size_t place;            /* its index among the channel's members */
    char *input;             /* an unfinished request or frame */
    size_t input_length;
    char *output;            /* what the socket did not take */
    size_t output_length, output_capacity;
};

static struct channel channels[CHANNELS_MAX];
static int epoll_fd;
static char scratch[INPUT_MAX_BYTES * 2];

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static struct channel *channel_named(const char *name, size_t length)
{
    if (length > NAME_MAX_BYTES)
        length = NAME_MAX_BYTES;
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (uint8_t)name[i]) * 16777619u;
    for (size_t i = 0; i < CHANNELS_MAX; i++) {
        struct channel *channel = &channels[(hash + i) % CHANNELS_MAX];
        if (!channel->name[0])
            memcpy(channel->name, name, length);
        if (strlen(channel->name) == length && !memcmp(channel->name, name, length))
            return channel;
    }
    fprintf(stderr, "floor: more than %d channels\n", CHANNELS_MAX);
    exit(2);
}

static void client_close(struct client *client)
{
    if (client->channel) {
        struct channel *channel = client->channel;
        channel->members[client->place] = channel->members[--channel->count];
        channel->members[client->place]->place = client->place;
    }
    close(client->fd);
    free(client->input);
    free(client->output);
    client->fd = -1;
    client->channel = NULL;
    client->input = client->output = NULL; /* the struct itself stays: an event of this round may still name it */
}

/* Sends all of the bytes, or keeps them for later. It is one send(), unless an earlier one still waits. */
static void client_send(struct client *client, const char *data, size_t length)
{
    ssize_t sent = 0;
    if (!client->output_length) {
        sent = send(client->fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN)
            return; /* epoll will tell of the lost connection */
        if (sent < 0)
            sent = 0;
        if ((size_t)sent == length)
            return;
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = client};
        epoll_ctl(epoll_fd, EPOLL_CTL_MOD, client->fd, &event);
    }
    size_t rest = length - (size_t)sent;
    if (client->output_length + rest > client->output_capacity) {
        client->output_capacity = (client->output_length + rest) * 2;
        client->output = realloc(client->output, client->output_capacity);
        if (!client->output)
            die("realloc");
    }
    memcpy(client->output + client->output_length, data + sent, rest);
    client->output_length += rest;
}

static void client_flush(struct client *client)
{
    ssize_t sent = send(client->fd, client->output, client->output_length, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent <= 0)
        return;
    client->output_length -= (size_t)sent;
    memmove(client->output, client->output + sent, client->output_length);
    if (!client->output_length) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
        epoll_ctl(epoll_fd, EPOLL_CTL_MOD, client->fd, &event);
    }
}

/* The text between the quotes of `"name": "…"`. Escapes are passed on as they are. */
static const char *json_text(const char *body, const char *end, const char *name, size_t *length)
{
    char key[64];
    int key_length = snprintf(key, sizeof key, "\"%s\"", name);
    const char *at = memmem(body, (size_t)(end - body), key, (size_t)key_length);
    if (!at)
        return NULL;
    for (at += key_length; at < end && (*at == ' ' || *at == ':'); at++) {}
    if (at >= end || *at != '"')
        return NULL;
    const char *from = ++at;
    while (at < end && *at != '"')
        at += *at == '\\' ? 2 : 1;
    *length = (size_t)(at - from);
    return from;
}

static size_t frame_head(uint8_t *out, uint8_t opcode, size_t length)
{
    out[0] = 0x80 | opcode;
    if (length < 126) {
        out[1] = (uint8_t)length;
        return 2;
    }
    out[1] = 126;
    out[2] = (uint8_t)(length >> 8);
    out[3] = (uint8_t)length;
    return 4;
}

static void publish(struct client *client, const char *body, const char *end)
{
    static char item[FRAME_MAX_BYTES], frame[FRAME_MAX_BYTES + 64], answer[FRAME_MAX_BYTES + 256];
    size_t name_length, author_length, content_length;
    const char *name = json_text(body, end, "channel_id", &name_length);
    const char *author = json_text(body, end, "author", &author_length);
    const char *content = json_text(body, end, "content", &content_length);
    if (!name || !author || !content || content_length > FRAME_MAX_BYTES / 2) {
        static const char refused[] = "HTTP/1.1 422 Unprocessable Content\r\nContent-Length: 0\r\n\r\n";
        client_send(client, refused, sizeof refused - 1);
        return;
    }
    struct channel *channel = channel_named(name, name_length);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct tm utc;
    gmtime_r(&now.tv_sec, &utc);
    char stamp[40];
    size_t stamp_length = strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(stamp + stamp_length, sizeof stamp - stamp_length, ".%06ldZ", now.tv_nsec / 1000);
    channel->sequence++;
    int item_length = snprintf(item, sizeof item,
        "{\"id\":\"%s:%u\",\"channel_id\":\"%s\",\"sequence\":%u,\"author\":\"%.*s\",\"content\":\"%.*s\","
        "\"lane\":null,\"provider\":null,\"timestamp\":\"%s\"}",
        channel->name, channel->sequence, channel->name, channel->sequence,
        (int)author_length, author, (int)content_length, content, stamp);
    size_t payload = (size_t)item_length + sizeof "{\"type\":\"message\",\"data\":}" - 1;
    size_t head = frame_head((uint8_t *)frame, 1, payload);
    snprintf(frame + head, sizeof frame - head, "{\"type\":\"message\",\"data\":%s}", item);
    for (size_t i = 0; i < channel->count; i++)
        client_send(channel->members[i], frame, head + payload);
    int length = snprintf(answer, sizeof answer,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        "{\"success\": true, \"message\": %s}", item_length + 30, item);
    client_send(client, answer, (size_t)length);
}

static const char *header(const char *head, const char *end, const char *name, size_t *length)
{
    size_t name_length = strlen(name);
    for (const char *line = head; line < end;) {
        const char *stop = memmem(line, (size_t)(end - line), "\r\n", 2);
        if (!stop)
            return NULL;
        if ((size_t)(stop - line) > name_length && !strncasecmp(line, name, name_length) && line[name_length] == ':') {
            const char *value = line + name_length + 1;
            while (value < stop && *value == ' ')
                value++;
            *length = (size_t)(stop - value);
            return value;
        }
        line = stop + 2;
    }
    return NULL;
}

static void upgrade(struct client *client, const char *path, const char *key, size_t key_length)
{
    char accept[ACCEPT_LENGTH + 1], answer[256];
    const char *end = path + strcspn(path, " ?");
    client->channel = channel_named(path, (size_t)(end - path));
    struct channel *channel = client->channel;
    if (channel->count == channel->capacity) {
        channel->capacity = channel->capacity ? channel->capacity * 2 : 64;
        channel->members = realloc(channel->members, channel->capacity * sizeof *channel->members);
        if (!channel->members)
            die("realloc");
    }
    client->place = channel->count;
    channel->members[channel->count++] = client;
    handshake_accept(key, key_length, accept);
    int length = snprintf(answer, sizeof answer,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: %s\r\n\r\n", accept);
    client_send(client, answer, (size_t)length);
}

/* Handles one complete request or frame at the front of the input. Returns its length, or 0 if it is not complete yet. */
static size_t handle(struct client *client, char *data, size_t length)
{
    if (client->channel) {
        uint8_t *frame = (uint8_t *)data;
        if (length < 6)
            return 0;
        size_t payload = frame[1] & 127;
        if (payload > 125 || length < payload + 6)
            return payload > 125 ? length : 0; /* nobody sends this server a long frame */
        if ((frame[0] & 15) == 9) {
            char pong[131];
            size_t head = frame_head((uint8_t *)pong, 10, payload);
            for (size_t i = 0; i < payload; i++)
                pong[head + i] = (char)(frame[6 + i] ^ frame[2 + i % 4]);
            client_send(client, pong, head + payload);
        } else if ((frame[0] & 15) == 8) {
            client_close(client);
        }
        return payload + 6;
    }
    char *end = memmem(data, length, "\r\n\r\n", 4);
    if (!end)
        return 0;
    char *body = end + 4;
    size_t value_length;
    const char *key = header(data, end + 2, "Sec-WebSocket-Key", &value_length);
    if (key && !strncmp(data, "GET /api/ws/", 12)) {
        upgrade(client, data + 12, key, value_length);
        return (size_t)(body - data);
    }
    const char *value = header(data, end + 2, "Content-Length", &value_length);
    size_t body_length = value ? strtoul(value, NULL, 10) : 0;
    if ((size_t)(body - data) + body_length > length)
        return 0;
    publish(client, body, body + body_length);
    return (size_t)(body - data) + body_length;
}

static void client_read(struct client *client)
{
    size_t length = client->input_length;
    if (length)
        memcpy(scratch, client->input, length);
    ssize_t got = recv(client->fd, scratch + length, INPUT_MAX_BYTES, MSG_DONTWAIT);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN)
            client_close(client);
        return;
    }
    length += (size_t)got;
    size_t at = 0, used;
    while (at < length && client->fd >= 0 && (used = handle(client, scratch + at, length - at)))
        at += used;
    if (client->fd < 0)
        return;
    client->input_length = length - at;
    if (!client->input_length) {
        free(client->input);
        client->input = NULL;
    } else if (client->input_length > INPUT_MAX_BYTES) {
        client_close(client);
    } else {
        client->input = realloc(client->input, client->input_length);
        if (!client->input)
            die("realloc");
        memcpy(client->input, scratch + at, client->input_length);
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: floor PORT\n");
        return 2;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096))
        die("listen");
    epoll_fd = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[256];
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(epoll_fd, events, 256, -1);
        for (int i = 0; i < count; i++) {
            struct client *client = events[i].data.ptr;
            if (!client) {
                int fd;
                while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                    client = calloc(1, sizeof *client);
                    if (!client)
                        die("calloc");
                    client->fd = fd;
                    event = (struct epoll_event){.events = EPOLLIN, .data.ptr = client};
                    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
                }
                continue;
            }
            if (client->fd >= 0 && events[i].events & EPOLLOUT)
                client_flush(client);
            if (client->fd >= 0 && events[i].events & ~(unsigned)EPOLLOUT)
                client_read(client);
        }
    }
}
