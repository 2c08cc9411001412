/* What machines do that a test has no better way to: loaded with LD_PRELOAD between the hub and its C library. Nothing
   happens but by these variables.
   SHIM_INODE=<number>  SHIM_FROM=<offset>  SHIM_BYTES=<count>  reads of these bytes of the file fail with EIO
   SHIM_FILE=<end of a path>  SHIM_OPEN=<errno>                 opening the file fails with that
   SHIM_CHMOD=<errno>                                           permissions cannot be changed (FAT, CIFS, some mounts)
   SHIM_CLOCK=<file with a whole number of seconds>  wall time is that much ahead, or back
   SHIM_SLEPT=<file with a whole number of seconds>  the machine slept for that long: the clock that runs meanwhile and
                                                     wall time are that much ahead */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static long number(const char *name) {
    const char *text = getenv(name);
    return text ? strtol(text, 0, 10) : 0;
}

/* How many of `count` bytes at `at` can be read; -1 if the first cannot. */
static ssize_t readable(int fd, off_t at, size_t count) {
    long from = number("SHIM_FROM"), bytes = number("SHIM_BYTES");
    if (bytes == 0 || at >= from + bytes || at + (off_t)count <= from) return count;
    struct stat file;
    if (fstat(fd, &file) != 0 || file.st_ino != (ino_t)number("SHIM_INODE")) return count;
    return at >= from ? -1 : from - at;
}

ssize_t read(int fd, void *buffer, size_t count) {
    off_t at = number("SHIM_BYTES") ? syscall(SYS_lseek, fd, 0, SEEK_CUR) : -1;
    ssize_t n = at < 0 ? (ssize_t)count : readable(fd, at, count);
    if (n < 0) { errno = EIO; return -1; }
    return syscall(SYS_read, fd, buffer, n);
}

ssize_t pread64(int fd, void *buffer, size_t count, off_t at) {
    ssize_t n = readable(fd, at, count);
    if (n < 0) { errno = EIO; return -1; }
    return syscall(SYS_pread64, fd, buffer, n, at);
}

ssize_t pread(int fd, void *buffer, size_t count, off_t at) { return pread64(fd, buffer, count, at); }

static int fails_to_open(const char *path) {
    const char *end = getenv("SHIM_FILE");
    size_t n = strlen(path), m = end ? strlen(end) : 0;
    if (m == 0 || n < m || strcmp(path + n - m, end) != 0) return 0;
    errno = number("SHIM_OPEN");
    return errno != 0;
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    int mode = va_arg(rest, int);
    va_end(rest);
    if (fails_to_open(path)) return -1;
    return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    int mode = va_arg(rest, int);
    va_end(rest);
    if (fails_to_open(path)) return -1;
    return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int chmod(const char *path, mode_t mode) {
    if (number("SHIM_CHMOD")) { errno = number("SHIM_CHMOD"); return -1; }
    return syscall(SYS_fchmodat, AT_FDCWD, path, mode);
}

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
