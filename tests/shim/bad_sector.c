/* A disk that does not give some bytes of a file, between a program and its C library.
   BAD_INODE=<number>  BAD_FROM=<offset>  BAD_BYTES=<count>   reads of these bytes of the file fail with EIO
   BAD_FILE=<end of a path>  BAD_OPEN=<errno>                 opening the file fails with that */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static int is_bad_path(const char *path) {
    const char *end = getenv("BAD_FILE");
    size_t n = strlen(path), m = end ? strlen(end) : 0;
    return m > 0 && n >= m && strcmp(path + n - m, end) == 0;
}

static long number(const char *name) {
    const char *text = getenv(name);
    return text ? strtol(text, 0, 10) : 0;
}

static int is_bad(int fd) {
    struct stat file;
    return fstat(fd, &file) == 0 && file.st_ino == (ino_t)number("BAD_INODE");
}

/* How many of `count` bytes at `at` can be read; -1 if the first cannot. */
static ssize_t readable(int fd, off_t at, size_t count) {
    long from = number("BAD_FROM"), bytes = number("BAD_BYTES");
    if (bytes == 0 || at >= from + bytes || at + (off_t)count <= from || !is_bad(fd)) return count;
    if (at >= from) return -1;
    return from - at;
}

ssize_t read(int fd, void *buffer, size_t count) {
    off_t at = syscall(SYS_lseek, fd, 0, SEEK_CUR);
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
    int e = number("BAD_OPEN");
    if (e == 0 || !is_bad_path(path)) return 0;
    errno = e;
    return 1;
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
