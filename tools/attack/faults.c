/* Fails the n-th operation of a kind on files below a folder, or the n-th large allocation: preloaded by faults.py.
   Counting begins when faults_arm is called, and goes on in children that are forked after it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, RENAME = 2, SYNC = 4, ALLOCATE = 8 };

struct state { long count, failing; int kinds; char folder[4096]; };
static struct state *state; /* shared with forked children */
static size_t large = 1 << 16;

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

/* kinds: a sum of those above; failing: which of them fails, 0 for none; folder: below which files count */
void faults_arm(int kinds, long failing, const char *folder) {
    if (!state)
        state = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    state->count = 0;
    state->failing = failing;
    strncpy(state->folder, folder, sizeof state->folder - 1);
    state->kinds = kinds;
}

long faults_count(void) { return state ? state->count : 0; }
void faults_disarm(void) { if (state) state->kinds = 0; }

static int fails(int kind) {
    return __sync_add_and_fetch(&state->count, 1) == state->failing && (errno = kind == ALLOCATE ? ENOMEM : ENOSPC);
}

static int counted(int kind, const char *path) {
    return state && (state->kinds & kind) && !strncmp(path, state->folder, strlen(state->folder));
}

static int counted_fd(int kind, int fd) {
    if (!state || !(state->kinds & kind)) return 0;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return counted(kind, path);
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    if (counted_fd(WRITE, fd) && fails(WRITE)) return -1;
    return real(fd, data, size);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    REAL(pwrite64);
    if (counted_fd(WRITE, fd) && fails(WRITE)) return -1;
    return real(fd, data, size, at);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    if (counted_fd(WRITE, fd) && fails(WRITE)) return -1;
    return real(fd, parts, count);
}
int rename(const char *from, const char *to) {
    REAL(rename);
    if (counted(RENAME, to) && fails(RENAME)) return -1;
    return real(from, to);
}
int renameat(int folder, const char *from, int other, const char *to) {
    REAL(renameat);
    if (counted(RENAME, to) && fails(RENAME)) return -1;
    return real(folder, from, other, to);
}
int fsync(int fd) {
    REAL(fsync);
    if (counted_fd(SYNC, fd) && fails(SYNC)) return -1;
    return real(fd);
}
int fdatasync(int fd) {
    REAL(fdatasync);
    if (counted_fd(SYNC, fd) && fails(SYNC)) return -1;
    return real(fd);
}

static int refuses(size_t size) { return state && size >= large && (state->kinds & ALLOCATE) && fails(ALLOCATE); }
void *malloc(size_t size) { return refuses(size) ? NULL : __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return refuses(count * size) ? NULL : __libc_calloc(count, size); }
void *realloc(void *old, size_t size) { return refuses(size) ? NULL : __libc_realloc(old, size); }
int posix_memalign(void **made, size_t alignment, size_t size) {
    if (refuses(size)) return ENOMEM;
    *made = __libc_memalign(alignment, size);
    return *made ? 0 : ENOMEM;
}
