/* What this process and the server cost. Of an unknown server everything is 0. */
#ifndef PROCESS_H
#define PROCESS_H
#include <stdint.h>

int64_t server_cpu_ns(void);
int64_t own_cpu_ns(void);
long server_rss_kib(void);

#endif
