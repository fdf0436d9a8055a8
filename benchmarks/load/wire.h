/* Parses and makes frames, HTTP answers and templates. It does no I/O. */
#ifndef WIRE_H
#define WIRE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct frame {
    bool final;
    uint8_t opcode;
    const char *payload;
    size_t length;
};
/* Reads the frame at the front of the bytes. Returns how many bytes it takes, or 0 if it is not complete yet. */
size_t frame_parse(const char *data, size_t length, struct frame *frame);
/* A client's frame. Its mask, which the standard requires, is zero, so masking costs neither side anything. malloc'ed. */
char *frame_make(uint8_t opcode, const char *payload, size_t length, size_t *size);
struct answer {
    int status;
    const char *body; /* chunked bodies with their chunk heads */
    size_t length;
};
size_t answer_parse(const char *data, size_t length, struct answer *answer);
/* The length of a chunk's head with its line end, or 0 if it is not complete yet. `size` is the length of the chunk. */
size_t chunk_head(const char *data, size_t length, size_t *size);
/* The value of a header up to the end of its line, or NULL. */
const char *header_value(const char *data, size_t length, const char *name);
bool contains(const char *data, size_t length, const char *text);
/* `text` with %CHANNEL% replaced; malloc'ed. */
char *with_channel(const char *text, int channel);

#endif
