/* The load generator's parts, and how they meet. One thread; every socket is non-blocking.
 *
 * A delivery is recognised by a marker in the message's content, not by parsing JSON. The publisher writes it:
 *     ~rq:PPPCCCCNNNNNNNNTTTTTTTTTTTTTTTT~     (hexadecimal, 36 bytes)
 * publisher, channel, the publisher's count on that channel, and the time of posting (CLOCK_MONOTONIC, nanoseconds).
 */
#ifndef LOAD_H
#define LOAD_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MARKER_HEAD "~rq:"
#define MARKER_BYTES 36
#define SELECTIONS_MAX 64
#define PUBLISHERS_MAX 1024
#define CHANNELS_MAX 4096
#define WARM_UP_PUBLISHER 0xfff
#define PROBE_CHANNEL (CHANNELS_MAX + 1)

enum mode { MODE_GRAPHQL_WS, MODE_PLAIN, MODE_SSE };

struct options {
    enum mode mode;
    int port;
    pid_t pid;                 /* the server's, 0 for unknown */
    const char *path;          /* what subscribers open; may hold %CHANNEL% */
    const char *selections[SELECTIONS_MAX]; /* subscribe payloads (JSON) with %CHANNEL% */
    int selection_count;
    const char *post_path, *post_body; /* %CHANNEL%, %CONTENT% */
    int post_by_socket;        /* posts are operations of graphql-transport-ws sockets, one each publisher */
    int subscribers, channels, publishers;
    double rate;               /* posts per second in all; 0: closed loop, each publisher waits for its answer */
    double seconds;
    long posts;                /* stop after so many, 0 for no such limit */
    int content_bytes;
    int connect_window;        /* handshakes under way at once */
    double settle_seconds, connect_timeout_seconds, warm_up_timeout_seconds, drain_seconds;
    double ping_interval_ms, post_probe_interval_ms; /* 0: no probe */
};
extern struct options options;
void options_parse(int argc, char **argv);

/* ---- time, failure -------------------------------------------------------------------------------------------- */
int64_t now_ns(void);
extern int64_t read_ns; /* when the bytes being handled were read */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- histogram: 1/32 relative precision, nanoseconds ---------------------------------------------------------- */
#define HISTOGRAM_BUCKETS (60 * 32)
struct histogram {
    uint64_t count, sum, max, buckets[HISTOGRAM_BUCKETS];
};
void histogram_add(struct histogram *histogram, int64_t value);
double histogram_ms(const struct histogram *histogram, double quantile);

/* ---- connections ---------------------------------------------------------------------------------------------- */
struct connection {
    int fd; /* -1 once it is closed */
    void (*ready)(struct connection *connection);
    char *held; /* bytes of an unfinished frame or answer */
    uint32_t held_length, held_capacity;
};
/* Connects from one of several loopback addresses, 20,000 connections each; `urgent` ones are served first. */
void connection_open(struct connection *connection, int number, bool urgent);
void connection_close(struct connection *connection);
/* Sends all of it or fails: what a client sends here always fits an empty socket buffer. */
bool connection_send(struct connection *connection, const char *data, size_t length);
/* What was held and what is new, in one piece that is valid until the next call; 0: nothing new, -1: the end. */
ssize_t connection_read(struct connection *connection, char **data);
void connection_hold(struct connection *connection, const char *data, size_t length);
void loop_start(void);
/* Waits for sockets until `deadline_ns` at most, and serves those that are ready. */
void loop_once(int64_t deadline_ns);

/* ---- wire ----------------------------------------------------------------------------------------------------- */
struct frame {
    bool final;
    uint8_t opcode;
    const char *payload;
    size_t length;
};
/* The whole frame at the front of the bytes; returns the bytes it takes, 0 when it is not whole yet. */
size_t frame_parse(const char *data, size_t length, struct frame *frame);
/* A client's frame, masked with zeros: it is masked by the letter, and costs nobody anything. malloc'ed. */
char *frame_make(uint8_t opcode, const char *payload, size_t length, size_t *size);
bool frame_send(struct connection *connection, uint8_t opcode, const char *payload, size_t length);
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

/* ---- what was delivered --------------------------------------------------------------------------------------- */
struct marker {
    uint32_t publisher, channel, count;
    int64_t posted_ns;
};
void marker_write(char *out, struct marker marker);
bool marker_read(const char *data, struct marker *marker);

struct channel {
    uint64_t *order; /* publisher and count of each message, as the first subscriber to reach that place saw it */
    size_t length, capacity;
    uint32_t subscribers;
    uint64_t accepted; /* posts that were answered with success */
    uint32_t *counts;  /* by publisher: how many it has posted here */
};
extern struct channel channels[CHANNELS_MAX];

struct subscriber {
    struct connection connection;
    enum { UPGRADING, ACK_WAIT, PONG_WAIT, LIVE, LOST } state;
    uint32_t channel, number;
    uint32_t warm_up;   /* the newest round it has seen */
    uint32_t delivered; /* its place in the channel's order */
    uint32_t hint;      /* where in a frame the marker was last */
    bool chunked;
    uint32_t chunk_left; /* SSE: rest of the chunk being read */
    uint8_t tail_length;
    char tail[MARKER_BYTES]; /* SSE: the end of the last bytes, in case a marker is cut in two */
};
extern struct subscriber *subscribers;

struct tally {
    uint64_t deliveries, expected, out_of_order, wrong_channel, unexpected, bytes;
    int64_t last_delivery_ns;
    int live, lost;
    char first_problem[600];
    struct histogram latency;
};
extern struct tally tally;
void problem(const char *what, const char *data, size_t length);
void subscribers_connect(void);
bool subscribers_warm(uint32_t round);
/* Compares the channels' orders with what the publishers posted; returns the number of violations. */
uint64_t order_check(void);

/* ---- posting -------------------------------------------------------------------------------------------------- */
extern struct posting {
    uint64_t sent, accepted, refused;
    int in_flight;
    int64_t next_due_ns; /* with a rate: when the next post is due, INT64_MAX for none */
    int64_t stop_ns;
    bool running;
    struct histogram answer_time;
} posting;
void publishers_connect(void);
void publishers_start(int64_t stop_ns);
void publishers_tick(int64_t now);
/* Posts one warm-up message to a channel and waits for the answer. */
void publish_warm_up(int channel, uint32_t round);

/* ---- probes: other clients of the same server while it fans out -------------------------------------------------- */
/* Both count, as HdrHistogram does, also the requests that were due while one waited: a stall is not one sample. */
extern struct histogram ping_time, post_probe_time;
void ping_probe_connect(void);
void ping_probe_start(int64_t now);
void ping_probe_tick(int64_t now);
int64_t ping_probe_due_ns(void);
void ping_probe_stop(int64_t now);
void post_probe_start(int64_t now);
int64_t post_probe_due_ns(void);
void post_probe_stop(int64_t now);

/* ---- the server as a process ---------------------------------------------------------------------------------- */
int64_t server_cpu_ns(void);
int64_t own_cpu_ns(void);
long server_rss_kib(void);

#endif
