/* Time, and the one way to give up: an error as a JSON object on stdout. */
#ifndef BASICS_H
#define BASICS_H
#include <stdint.h>

int64_t now_ns(void); /* CLOCK_MONOTONIC */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
