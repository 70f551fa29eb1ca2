/* faults.c: loaded before the C library (LD_PRELOAD), it makes an allocation, a write or a read fail: the Nth, or the Nth and
 * all after it.
 *
 *     ADAMAS_FAULT         "alloc", "write" or "read"
 *     ADAMAS_FAULT_AT      N, counted from 1 in each process, from main() on: what runtimes do before it is not ours
 *     ADAMAS_FAULT_LASTS   set: all after it fail too
 *     ADAMAS_FAULT_HIT     a file that is made when one failed
 *     ADAMAS_FAULT_PATHS   a file that gets the call path of each allocation in order, 64 bits each: a hash of the return
 *                          addresses. They hold for this process only; nothing fails
 *
 * Allocations are those of everybody: ours, SQLite's, jansson's, argp's, stdio's. Writes are those that go through the C
 * library's functions, SQLite's among them; stdio's own do not (a limit on file sizes, RLIMIT_FSIZE, makes those fail). Reads are
 * those of read(), pread() and stdio. */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static long alloc_at, write_at, read_at, n_allocs, n_writes, n_reads;
static int lasts;
static int (*program)(int argc, char **argv, char **environment);

static void begin(void) {
    const char *what = getenv("ADAMAS_FAULT"), *at = getenv("ADAMAS_FAULT_AT");
    long n = at != NULL ? strtol(at, NULL, 10) : 0;
    lasts = getenv("ADAMAS_FAULT_LASTS") != NULL;
    if (what != NULL && strcmp(what, "alloc") == 0) alloc_at = n;
    if (what != NULL && strcmp(what, "write") == 0) write_at = n;
    if (what != NULL && strcmp(what, "read") == 0) read_at = n;
    n_allocs = n_writes = n_reads = 0;
}

enum { DEPTH = 96 };
static FILE *paths;
static _Thread_local int inside; /* backtrace() and stdio allocate too */

/* FNV-1a over the return addresses, the innermost first. */
static void note_path(void) {
    if (paths == NULL || inside) return;
    inside = 1;
    void *frames[DEPTH];
    uint64_t hash = 0xcbf29ce484222325u;
    for (int i = 0, n = backtrace(frames, DEPTH); i < n; i++) hash = (hash ^ (uint64_t)(uintptr_t)frames[i]) * 0x100000001b3u;
    fwrite(&hash, sizeof hash, 1, paths);
    inside = 0;
}

static void end_paths(void) {
    FILE *file = paths;
    paths = NULL;
    if (file != NULL) fclose(file);
}

static int begin_and_run(int argc, char **argv, char **environment) {
    const char *name = getenv("ADAMAS_FAULT_PATHS");
    if (name != NULL) {
        void *frame[1];
        backtrace(frame, 1); /* loads the unwinder */
        paths = fopen(name, "wb");
        atexit(end_paths);
        unsetenv("ADAMAS_FAULT_PATHS"); /* a child's would take the file's place */
    }
    begin();
    return program(argc, argv, environment);
}

static int fails(long at, long *n) {
    long now = __atomic_add_fetch(n, 1, __ATOMIC_RELAXED);
    if (at == 0 || now < at || (now > at && !lasts)) return 0;
    const char *hit = now == at ? getenv("ADAMAS_FAULT_HIT") : NULL;
    int fd = hit != NULL ? open(hit, O_WRONLY | O_CREAT, 0600) : -1;
    if (fd >= 0) close(fd);
    return 1;
}

static int no_memory(void) {
    note_path();
    if (!fails(alloc_at, &n_allocs)) return 0;
    errno = ENOMEM;
    return 1;
}

static int no_room(void) {
    if (!fails(write_at, &n_writes)) return 0;
    errno = ENOSPC;
    return 1;
}

static int no_data(void) {
    if (!fails(read_at, &n_reads)) return 0;
    errno = EIO;
    return 1;
}

/* Lets the stream's next read of its file fail, as only the C library can set its error flag. */
static void spoil(FILE *stream) {
    if (!no_data()) return;
    int failing = open("/proc/self/mem", O_RDONLY); /* nothing is mapped at 0: EIO */
    dup2(failing, fileno(stream));
    close(failing);
}

#pragma GCC visibility push(default) /* what takes the place of the C library's */
void *malloc(size_t size) { return no_memory() ? NULL : __libc_malloc(size); }
void *calloc(size_t n, size_t size) { return no_memory() ? NULL : __libc_calloc(n, size); }
void *realloc(void *memory, size_t size) { return no_memory() ? NULL : __libc_realloc(memory, size); }
void *aligned_alloc(size_t alignment, size_t size) { return no_memory() ? NULL : __libc_memalign(alignment, size); }

/* The C library's entry, which the start of every program calls. */
int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*rtld_fini)(void), void *stack_end);
int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*rtld_fini)(void), void *stack_end) {
    typedef int entry(int (*)(int, char **, char **), int, char **, void (*)(void), void (*)(void), void (*)(void), void *);
    program = main;
    return ((entry *)dlsym(RTLD_NEXT, "__libc_start_main"))(begin_and_run, argc, argv, init, fini, rtld_fini, stack_end);
}

#define REAL(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))

ssize_t write(int fd, const void *data, size_t n) {
    return no_room() ? -1 : REAL(ssize_t, "write", int, const void *, size_t)(fd, data, n);
}
ssize_t pwrite(int fd, const void *data, size_t n, off_t at) {
    return no_room() ? -1 : REAL(ssize_t, "pwrite", int, const void *, size_t, off_t)(fd, data, n, at);
}
ssize_t pwrite64(int fd, const void *data, size_t n, off_t at) {
    return no_room() ? -1 : REAL(ssize_t, "pwrite64", int, const void *, size_t, off_t)(fd, data, n, at);
}
int fsync(int fd) { return no_room() ? -1 : REAL(int, "fsync", int)(fd); }
int fdatasync(int fd) { return no_room() ? -1 : REAL(int, "fdatasync", int)(fd); }
int ftruncate(int fd, off_t n) { return no_room() ? -1 : REAL(int, "ftruncate", int, off_t)(fd, n); }
int ftruncate64(int fd, off_t n) { return no_room() ? -1 : REAL(int, "ftruncate64", int, off_t)(fd, n); }

ssize_t read(int fd, void *data, size_t n) { return no_data() ? -1 : REAL(ssize_t, "read", int, void *, size_t)(fd, data, n); }
ssize_t pread(int fd, void *data, size_t n, off_t at) {
    return no_data() ? -1 : REAL(ssize_t, "pread", int, void *, size_t, off_t)(fd, data, n, at);
}
ssize_t pread64(int fd, void *data, size_t n, off_t at) {
    return no_data() ? -1 : REAL(ssize_t, "pread64", int, void *, size_t, off_t)(fd, data, n, at);
}
size_t fread(void *data, size_t size, size_t n, FILE *stream) {
    spoil(stream);
    return REAL(size_t, "fread", void *, size_t, size_t, FILE *)(data, size, n, stream);
}
char *fgets(char *data, int n, FILE *stream) {
    spoil(stream);
    return REAL(char *, "fgets", char *, int, FILE *)(data, n, stream);
}
ssize_t getline(char **line, size_t *bytes, FILE *stream) {
    spoil(stream);
    return REAL(ssize_t, "getline", char **, size_t *, FILE *)(line, bytes, stream);
}
