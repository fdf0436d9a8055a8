#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "basics.h"
#include "wire.h"

size_t frame_parse(const char *data, size_t length, struct frame *frame)
{
    const uint8_t *bytes = (const uint8_t *)data;
    if (length < 2)
        return 0;
    size_t head = 2, payload = bytes[1] & 127;
    if (bytes[1] & 128)
        fail("the server sent a masked frame");
    if (payload == 126) {
        if (length < 4)
            return 0;
        head = 4;
        payload = (size_t)bytes[2] << 8 | bytes[3];
    } else if (payload == 127) {
        if (length < 10)
            return 0;
        head = 10;
        payload = 0;
        for (int i = 2; i < 10; i++)
            payload = payload << 8 | bytes[i];
    }
    if (payload > length - head)
        return 0;
    *frame = (struct frame){.final = bytes[0] >> 7, .opcode = bytes[0] & 15, .payload = data + head, .length = payload};
    return head + payload;
}

char *frame_make(uint8_t opcode, const char *payload, size_t length, size_t *size)
{
    size_t head = length < 126 ? 2 : 4;
    if (length >= 1 << 16)
        fail("a frame of %zu bytes is too long", length);
    char *out = calloc(1, head + 4 + length);
    if (!out)
        fail("out of memory");
    out[0] = (char)(0x80 | opcode);
    out[1] = (char)(0x80 | (length < 126 ? length : 126));
    if (head == 4) {
        out[2] = (char)(length >> 8);
        out[3] = (char)length;
    }
    memcpy(out + head + 4, payload, length);
    *size = head + 4 + length;
    return out;
}

const char *header_value(const char *data, size_t length, const char *name)
{
    const char *end = memmem(data, length, "\r\n\r\n", 4);
    size_t name_length = strlen(name);
    if (!end)
        return NULL;
    for (const char *line = data; line < end;) {
        const char *stop = memmem(line, (size_t)(end + 2 - line), "\r\n", 2);
        if ((size_t)(stop - line) > name_length && !strncasecmp(line, name, name_length) && line[name_length] == ':')
            return line + name_length + 1 + strspn(line + name_length + 1, " ");
        line = stop + 2;
    }
    return NULL;
}

size_t chunk_head(const char *data, size_t length, size_t *size)
{
    const char *end = memmem(data, length < 64 ? length : 64, "\r\n", 2);
    if (!end) {
        if (length >= 64)
            fail("a chunk without a length");
        return 0;
    }
    *size = strtoul(data, NULL, 16);
    return (size_t)(end - data) + 2;
}

size_t answer_parse(const char *data, size_t length, struct answer *answer)
{
    const char *end = memmem(data, length, "\r\n\r\n", 4);
    if (!end)
        return 0;
    const char *body = end + 4;
    size_t rest = length - (size_t)(body - data), used = 0;
    if (length < 12 || sscanf(data, "HTTP/1.1 %d", &answer->status) != 1)
        fail("not an HTTP answer: %.80s", data);
    const char *value = header_value(data, length, "content-length");
    if (value) {
        used = strtoul(value, NULL, 10);
        if (used > rest)
            return 0;
    } else if ((value = header_value(data, length, "transfer-encoding")) && !strncasecmp(value, "chunked", 7)) {
        for (size_t size = 1; size;) {
            size_t head = chunk_head(body + used, rest - used, &size);
            if (!head || size + 2 > rest - used - head)
                return 0;
            used += head + size + 2;
        }
    }
    answer->body = body;
    answer->length = used;
    return (size_t)(body - data) + used;
}

bool contains(const char *data, size_t length, const char *text)
{
    return memmem(data, length, text, strlen(text)) != NULL;
}

char *with_channel(const char *text, int channel)
{
    static const char place[] = "%CHANNEL%";
    size_t room = strlen(text) * 2 + 64, length = 0;
    char *out = malloc(room);
    if (!out)
        fail("out of memory");
    while (*text) {
        if (!strncmp(text, place, sizeof place - 1)) {
            length += (size_t)snprintf(out + length, room - length, "bench%05d", channel);
            text += sizeof place - 1;
        } else {
            out[length++] = *text++;
        }
    }
    out[length] = 0;
    return out;
}
