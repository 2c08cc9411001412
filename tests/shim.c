/* A file system that does not let permissions be changed, as FAT, CIFS and some mounts of containers do: loaded with
 * LD_PRELOAD, chmod fails with the number in SHIM_CHMOD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

int chmod(const char *path, mode_t mode) {
    const char *number = getenv("SHIM_CHMOD");
    if (number) {
        errno = atoi(number);
        return -1;
    }
    int (*real)(const char *, mode_t) = dlsym(RTLD_NEXT, "chmod");
    return real(path, mode);
}
