/* A library that is preloaded into a hub: the machine's clocks are what two files say.
   SHIM_CLOCK=<file with a whole number of seconds>  wall time is that much ahead, or back
   SHIM_SLEPT=<file with a whole number of seconds>  the machine slept for that long: the clock that runs meanwhile and
                                                     wall time are that much ahead */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long seconds(const char *variable) {
    const char *path = getenv(variable);
    if (!path) return 0;
    int file = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY);
    if (file < 0) return 0;
    char text[32] = {0};
    long count = syscall(SYS_read, file, text, sizeof text - 1);
    syscall(SYS_close, file);
    return count > 0 ? strtol(text, 0, 10) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    long result = syscall(SYS_clock_gettime, clock, now);
    if (result != 0) return result;
    if (clock == CLOCK_REALTIME || clock == CLOCK_BOOTTIME) now->tv_sec += seconds("SHIM_SLEPT");
    if (clock == CLOCK_REALTIME) now->tv_sec += seconds("SHIM_CLOCK");
    return 0;
}
