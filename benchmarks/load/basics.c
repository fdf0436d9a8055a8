#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "basics.h"

int64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

_Noreturn void fail(const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (char *at = text; *at; at++)
        *at = *at == '"' || *at == '\\' ? '\'' : *at < ' ' ? ' ' : *at;
    printf("{\"error\": \"%s\"}\n", text);
    exit(1);
}
