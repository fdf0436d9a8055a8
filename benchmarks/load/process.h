/* CPU time and memory of this process and of the server. If the server is unknown, its figures are 0. */
#ifndef PROCESS_H
#define PROCESS_H
#include <stdint.h>

int64_t server_cpu_ns(void);
int64_t own_cpu_ns(void);
long server_rss_kib(void);

#endif
