/* The load generator: connect, warm up, measure, drain, report one JSON object.
 *
 * Each part includes only parts below it: main uses subscriber, publisher and probe; these use tally and connection; all
 * use options, wire, marker, histogram and basics.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/resource.h>

#include "basics.h"
#include "connection.h"
#include "histogram.h"
#include "options.h"
#include "probe.h"
#include "process.h"
#include "publisher.h"
#include "subscriber.h"
#include "tally.h"

#define WARM_UP_ROUNDS_MAX 50

static int64_t seconds_after(int64_t start, double seconds) { return start + (int64_t)(seconds * 1e9); }

static void wait_until(int64_t deadline)
{
    while (now_ns() < deadline)
        loop_once(deadline);
}

/* A pong says that a subscribe was read, and not that its source runs. So this posts until everyone has received a first
 * message, then once more to each channel, and waits until all of that has arrived. After that, counting is exact. */
static void warm_up(void)
{
    int64_t limit = seconds_after(now_ns(), options.warm_up_timeout_seconds);
    uint32_t round = 0;
    for (int pass = 0; pass < 2; pass++) {
        uint32_t wanted = pass ? round + 1 : 1;
        do {
            if (++round > WARM_UP_ROUNDS_MAX || now_ns() > limit)
                fail("not every subscriber was reached by the warm-up (%s)", tally.first_problem);
            for (int channel = 0; channel < options.channels; channel++)
                publish_warm_up(channel, round);
            int64_t patience = pass ? limit : seconds_after(now_ns(), 0.5 + options.subscribers / 2000.0);
            while (!subscribers_warm(wanted) && now_ns() < patience)
                wait_until(now_ns() + 20000000);
        } while (!subscribers_warm(wanted));
    }
}

static void print_times(const char *name, const struct histogram *histogram)
{
    printf("  \"%s\": {\"count\": %llu, \"mean\": %.3f, \"p50\": %.3f, \"p90\": %.3f, \"p99\": %.3f, \"max\": %.3f},\n", name,
           (unsigned long long)histogram->count,
           histogram->count ? (double)histogram->sum / (double)histogram->count / 1e6 : 0, histogram_ms(histogram, 0.5),
           histogram_ms(histogram, 0.9), histogram_ms(histogram, 0.99), (double)histogram->max / 1e6);
}

int main(int argc, char **argv)
{
    options_parse(argc, argv);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    loop_start();
    ping_probe_connect();
    publishers_connect();

    long rss_before = server_rss_kib();
    int64_t cpu = server_cpu_ns(), start = now_ns();
    subscribers_connect();
    double connect_seconds = (double)(now_ns() - start) / 1e9;
    double connect_cpu_seconds = (double)(server_cpu_ns() - cpu) / 1e9;
    wait_until(seconds_after(now_ns(), options.settle_seconds));
    long rss_idle = server_rss_kib();

    warm_up();
    long rss_warm = server_rss_kib();
    tally.unexpected = 0;
    cpu = server_cpu_ns();
    int64_t own_cpu = own_cpu_ns();
    start = now_ns();
    int64_t stop = seconds_after(start, options.seconds);
    uint64_t bytes = received_bytes;
    ping_probe_start(start);
    post_probe_start(start);
    publishers_start(stop);

    static char samples[65536];
    size_t samples_length = 0;
    uint64_t window_deliveries = 0;
    int64_t next_sample = start, limit = INT64_MAX;
    for (;;) {
        int64_t now = now_ns();
        ping_probe_tick(now);
        publishers_tick(now);
        if (now >= next_sample && samples_length < sizeof samples - 64) {
            samples_length += (size_t)snprintf(samples + samples_length, 64, "%s[%.2f, %llu, %ld]",
                samples_length ? ", " : "", (double)(now - start) / 1e9, (unsigned long long)tally.deliveries,
                server_rss_kib());
            next_sample = now + 1000000000;
        }
        if (!posting.running && limit == INT64_MAX) {
            window_deliveries = tally.deliveries;
            stop = now;
            limit = seconds_after(now, options.drain_seconds);
            ping_probe_stop(now);
            post_probe_stop(now);
        }
        if (!posting.running && !posting.in_flight && tally.deliveries >= tally.expected)
            break;
        if (now >= limit)
            break;
        int64_t deadline = next_sample;
        const int64_t dues[] = {posting.running ? posting.next_due_ns : limit, posting.running ? stop : limit,
                                ping_probe_due_ns(), post_probe_due_ns()};
        for (size_t i = 0; i < sizeof dues / sizeof *dues; i++)
            if (dues[i] > now && dues[i] < deadline)
                deadline = dues[i];
        loop_once(deadline);
    }
    int64_t end = tally.last_delivery_ns > stop ? tally.last_delivery_ns : stop;
    double elapsed = (double)(end - start) / 1e9;
    double cpu_seconds = (double)(server_cpu_ns() - cpu) / 1e9, own_seconds = (double)(own_cpu_ns() - own_cpu) / 1e9;
    uint64_t missing = 0, extra = 0;
    wait_until(now_ns() + 50000000); /* would anything come twice? */
    for (int i = 0; i < options.subscribers; i++) {
        uint64_t accepted = channels[subscribers[i].channel].accepted;
        missing += accepted > subscribers[i].delivered ? accepted - subscribers[i].delivered : 0;
        extra += subscribers[i].delivered > accepted ? subscribers[i].delivered - accepted : 0;
    }
    uint64_t unordered = tally.out_of_order + (posting.refused ? 0 : order_check());
    bool complete = !missing && !extra && !unordered && !tally.wrong_channel && !tally.unexpected && !tally.lost
                    && !posting.refused && !posting.in_flight;

    printf("{\n  \"complete\": %s,\n", complete ? "true" : "false");
    printf("  \"problems\": {\"missing\": %llu, \"extra\": %llu, \"out_of_order\": %llu, \"wrong_channel\": %llu, "
           "\"unexpected_frames\": %llu, \"lost_subscribers\": %d, \"refused_posts\": %llu, \"unanswered_posts\": %d, "
           "\"first\": \"%s\"},\n",
           (unsigned long long)missing, (unsigned long long)extra, (unsigned long long)unordered,
           (unsigned long long)tally.wrong_channel, (unsigned long long)tally.unexpected, tally.lost,
           (unsigned long long)posting.refused, posting.in_flight, tally.first_problem);
    printf("  \"subscribers\": %d, \"channels\": %d, \"publishers\": %d,\n", options.subscribers, options.channels,
           options.publishers);
    printf("  \"connect_seconds\": %.4f, \"connect_server_cpu_seconds\": %.4f,\n", connect_seconds, connect_cpu_seconds);
    printf("  \"rss_before_kib\": %ld, \"rss_idle_kib\": %ld, \"rss_warm_kib\": %ld, \"rss_end_kib\": %ld,\n", rss_before,
           rss_idle, rss_warm, server_rss_kib());
    printf("  \"seconds\": %.4f, \"window_seconds\": %.4f, \"window_deliveries\": %llu,\n", elapsed,
           (double)(stop - start) / 1e9, (unsigned long long)window_deliveries);
    printf("  \"posts\": %llu, \"deliveries\": %llu, \"received_bytes\": %llu,\n", (unsigned long long)posting.accepted,
           (unsigned long long)tally.deliveries, (unsigned long long)(received_bytes - bytes));
    printf("  \"posts_per_second\": %.2f, \"deliveries_per_second\": %.1f,\n", (double)posting.accepted / elapsed,
           (double)tally.deliveries / elapsed);
    printf("  \"server_cpu_seconds\": %.4f, \"server_cpu_share\": %.4f, \"load_cpu_share\": %.4f,\n", cpu_seconds,
           cpu_seconds / elapsed, own_seconds / elapsed);
    printf("  \"server_cpu_us_per_delivery\": %.4f,\n",
           tally.deliveries ? cpu_seconds * 1e6 / (double)tally.deliveries : 0);
    print_times("latency_ms", &tally.latency);
    print_times("post_ms", &posting.answer_time);
    print_times("ping_probe_ms", &ping_time);
    print_times("post_probe_ms", &post_probe_time);
    printf("  \"samples\": [%s]\n}\n", samples);
    return complete ? 0 : 3;
}
