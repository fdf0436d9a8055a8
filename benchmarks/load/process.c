#define _GNU_SOURCE
#include <stdio.h>
#include <time.h>

#include "basics.h"
#include "options.h"
#include "process.h"

int64_t own_cpu_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

int64_t server_cpu_ns(void)
{
    clockid_t clock;
    struct timespec time;
    if (!options.pid)
        return 0;
    if (clock_getcpuclockid(options.pid, &clock) || clock_gettime(clock, &time))
        fail("the server's process %d is gone", options.pid);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

long server_rss_kib(void)
{
    char path[64], line[256];
    long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", options.pid);
    FILE *file = options.pid ? fopen(path, "r") : NULL;
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "VmRSS: %ld", &kib) == 1)
            break;
    if (file)
        fclose(file);
    return kib;
}
