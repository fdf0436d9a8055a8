/* Sockets and the event loop. There is one thread, and every socket is non-blocking. Of its owner, a connection knows only
 * the function to call when there is something to read.
 */
#ifndef CONNECTION_H
#define CONNECTION_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct connection {
    int fd; /* -1 once it is closed */
    void (*ready)(struct connection *connection);
    char *held; /* bytes of an unfinished frame or answer */
    uint32_t held_length, held_capacity;
};
/* Connects from one of several loopback addresses, with 20,000 connections each. `urgent` ones are served first. */
void connection_open(struct connection *connection, int number, bool urgent);
void connection_close(struct connection *connection);
/* Sends all of it or fails. What a client sends here always fits into an empty socket buffer. */
bool connection_send(struct connection *connection, const char *data, size_t length);
/* Earlier and new bytes in one piece, which is valid until the next call. Returns 0 if there is nothing new, -1 at the end. */
ssize_t connection_read(struct connection *connection, char **data);
/* Like `connection_send`, for a frame that is made of the payload. */
bool frame_send(struct connection *connection, uint8_t opcode, const char *payload, size_t length);
void connection_hold(struct connection *connection, const char *data, size_t length);
void loop_start(void);
extern int64_t read_ns;         /* when the bytes being handled were read */
extern uint64_t received_bytes; /* by all connections */
/* Waits for sockets until `deadline_ns` at most, and serves those that are ready. */
void loop_once(int64_t deadline_ns);

#endif
