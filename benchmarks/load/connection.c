/* connect() blocks. On loopback it takes microseconds as long as the backlog has room, and the limit of handshakes under
 * way makes sure of that. After it every socket is non-blocking. Publishers and probes wait in a second epoll, which is
 * checked after every few subscribers. So a thousand readable sockets do not delay the answer that a publisher waits for. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "basics.h"
#include "connection.h"
#include "options.h"
#include "wire.h"

#define READ_BYTES (256 * 1024)
#define HELD_MAX_BYTES (1024 * 1024)
#define CONNECTIONS_PER_ADDRESS 20000
#define EVENTS_PER_ROUND 32

int64_t read_ns;
uint64_t received_bytes;
static int main_epoll, urgent_epoll, timer_fd;
static int64_t timer_ns;
static char scratch[HELD_MAX_BYTES + READ_BYTES];

void loop_start(void)
{
    main_epoll = epoll_create1(0);
    urgent_epoll = epoll_create1(0);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (main_epoll < 0 || urgent_epoll < 0 || timer_fd < 0 || epoll_ctl(main_epoll, EPOLL_CTL_ADD, urgent_epoll, &event)
        || epoll_ctl(main_epoll, EPOLL_CTL_ADD, timer_fd, &event))
        fail("epoll: %s", strerror(errno));
}

static void serve_urgent(void)
{
    struct epoll_event events[64];
    int count = epoll_wait(urgent_epoll, events, 64, 0);
    for (int i = 0; i < count; i++) {
        struct connection *connection = events[i].data.ptr;
        if (connection->fd >= 0)
            connection->ready(connection);
    }
}

void loop_once(int64_t deadline_ns)
{
    if (deadline_ns != timer_ns) {
        struct itimerspec at = {.it_value = {deadline_ns / 1000000000, deadline_ns % 1000000000}};
        if (deadline_ns <= 0)
            at.it_value.tv_nsec = 1;
        timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
        timer_ns = deadline_ns;
    }
    struct epoll_event events[EVENTS_PER_ROUND];
    int count = epoll_wait(main_epoll, events, EVENTS_PER_ROUND, -1);
    serve_urgent();
    for (int i = 0; i < count; i++) {
        struct connection *connection = events[i].data.ptr;
        if (connection && connection->fd >= 0)
            connection->ready(connection);
    }
    if (timer_ns <= now_ns())
        timer_ns = -1; /* armed anew next time: an expired timer stays readable until it is set */
}

void connection_open(struct connection *connection, int number, bool urgent)
{
    int on = 1;
    connection->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connection->fd < 0)
        fail("socket: %s (the limit of open files?)", strerror(errno));
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(connection->fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(number / CONNECTIONS_PER_ADDRESS));
    if (bind(connection->fd, (struct sockaddr *)&address, sizeof address))
        fail("bind: %s", strerror(errno));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((uint16_t)options.port);
    if (connect(connection->fd, (struct sockaddr *)&address, sizeof address))
        fail("connect: %s", strerror(errno));
    fcntl(connection->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    if (epoll_ctl(urgent ? urgent_epoll : main_epoll, EPOLL_CTL_ADD, connection->fd, &event))
        fail("epoll_ctl: %s", strerror(errno));
}

void connection_close(struct connection *connection)
{
    close(connection->fd);
    connection->fd = -1;
    free(connection->held);
    connection->held = NULL;
    connection->held_length = connection->held_capacity = 0;
}

bool connection_send(struct connection *connection, const char *data, size_t length)
{
    ssize_t sent = send(connection->fd, data, length, MSG_NOSIGNAL);
    if (sent >= 0 && (size_t)sent < length)
        fail("a socket took %zd of %zu bytes", sent, length);
    return sent >= 0;
}

bool frame_send(struct connection *connection, uint8_t opcode, const char *payload, size_t length)
{
    size_t size;
    char *frame = frame_make(opcode, payload, length, &size);
    bool sent = connection_send(connection, frame, size);
    free(frame);
    return sent;
}

ssize_t connection_read(struct connection *connection, char **data)
{
    size_t held = connection->held_length;
    if (held)
        memcpy(scratch, connection->held, held);
    ssize_t got = recv(connection->fd, scratch + held, READ_BYTES, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (got <= 0)
        return -1;
    read_ns = now_ns();
    received_bytes += (uint64_t)got;
    *data = scratch;
    connection->held_length = 0;
    return (ssize_t)held + got;
}

void connection_hold(struct connection *connection, const char *data, size_t length)
{
    if (length > HELD_MAX_BYTES)
        fail("a frame or answer of more than %d bytes", HELD_MAX_BYTES);
    if (length > connection->held_capacity) {
        connection->held = realloc(connection->held, length * 2);
        if (!connection->held)
            fail("out of memory");
        connection->held_capacity = (uint32_t)(length * 2);
    }
    memcpy(connection->held, data, length);
    connection->held_length = (uint32_t)length;
}
