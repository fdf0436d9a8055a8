/* The options of the command line. Every part reads them, and none writes them after `options_parse`. */
#ifndef OPTIONS_H
#define OPTIONS_H
#include <sys/types.h>

#define SELECTIONS_MAX 64
#define PUBLISHERS_MAX 1024
#define CHANNELS_MAX 4096
#define WARM_UP_PUBLISHER 0xfff           /* the publisher's number in the markers of warm-up and probe */
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

#endif
