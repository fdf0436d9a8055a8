/* The server's half of a WebSocket handshake: Sec-WebSocket-Accept (RFC 6455, section 4.2.2). */
#ifndef HANDSHAKE_H
#define HANDSHAKE_H
#include <stddef.h>

#define ACCEPT_LENGTH 28

/* Writes the 28 characters and a NUL for a client's key. */
void handshake_accept(const char *key, size_t key_length, char accept[ACCEPT_LENGTH + 1]);

#endif
