/* Frames, HTTP answers and templates: bytes in, meaning out. */
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
/* The whole frame at the front of the bytes; returns the bytes it takes, 0 when it is not whole yet. */
size_t frame_parse(const char *data, size_t length, struct frame *frame);
/* A client's frame. It has the mask that the standard asks for, of zeros, which cost neither side anything. malloc'ed. */
char *frame_make(uint8_t opcode, const char *payload, size_t length, size_t *size);
struct answer {
    int status;
    const char *body; /* chunked bodies with their chunk heads */
    size_t length;
};
size_t answer_parse(const char *data, size_t length, struct answer *answer);
/* The length of a chunk's head with its line end, 0 when it is not whole yet; `size` is what follows. */
size_t chunk_head(const char *data, size_t length, size_t *size);
/* The value of a header, up to its line's end, or NULL. */
const char *header_value(const char *data, size_t length, const char *name);
bool contains(const char *data, size_t length, const char *text);
/* `text` with %CHANNEL% replaced; malloc'ed. */
char *with_channel(const char *text, int channel);

#endif
