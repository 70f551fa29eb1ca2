/* arena.c: shared buffers between guard pages; see arena.h. */
#include "kernels/tune/candidate/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/mem.h"

static const unsigned char pattern = 0x5c;
enum { PAGE = 4096 };

static size_t pages_of(size_t bytes) { return bytes == 0 ? PAGE : (bytes + PAGE - 1) / PAGE * PAGE; }

adm_status adm_arena_add(adm_arena *a, size_t bytes, size_t align, adm_error *err) {
    if (a->buffer == NULL) {
        adm_status status = adm_alloc(&a->buffer, ADM_ARENA_MAX_BUFFERS, sizeof *a->buffer, "buffers of a check", err);
        if (status != ADM_OK) return status;
        a->fd = a->read_only_fd = -1;
        a->mapped_bytes = PAGE;
    }
    if (a->n == ADM_ARENA_MAX_BUFFERS)
        return adm_fail(err, ADM_EINTERNAL, "a check has more than %d buffers", ADM_ARENA_MAX_BUFFERS);
    const size_t pages = pages_of(bytes + align - 1), end = (pages - bytes) / align * align + bytes;
    a->buffer[a->n++] = (adm_arena_buffer){bytes, a->mapped_bytes + end - bytes, a->file_bytes + end - bytes, a->file_bytes};
    a->file_bytes += pages;
    a->mapped_bytes += pages + PAGE;
    return ADM_OK;
}

static size_t page_bytes(const adm_arena *a, size_t i) {
    return (i + 1 < a->n ? a->buffer[i + 1].file : a->file_bytes) - a->buffer[i].file;
}

static adm_status cannot_map(size_t bytes, adm_error *err) {
    return adm_fail(err, ADM_EENVIRONMENT, "mapping %zu bytes of a check: %s", bytes, strerror(errno));
}

static adm_status map_flat(adm_arena *a, adm_error *err) {
    const size_t bytes = a->file_bytes > 0 ? a->file_bytes : PAGE;
    char *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, a->fd, 0);
    if (base == MAP_FAILED) return cannot_map(bytes, err);
    a->base = base;
    return ADM_OK;
}

static adm_status map_guarded(adm_arena *a, int fd, bool writable, adm_error *err) {
    char *base = mmap(NULL, a->mapped_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return cannot_map(a->mapped_bytes, err);
    size_t at = PAGE;
    for (size_t i = 0; i < a->n; i++) {
        const size_t bytes = page_bytes(a, i);
        if (mmap(base + at, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED | MAP_FIXED, fd,
                 (off_t)a->buffer[i].file) == MAP_FAILED) {
            adm_status status = cannot_map(bytes, err);
            munmap(base, a->mapped_bytes);
            return status;
        }
        at += bytes + PAGE;
    }
    a->base = base;
    a->is_guarded = true;
    return ADM_OK;
}

static void unmap(adm_arena *a) {
    if (a->base != NULL) munmap(a->base, a->is_guarded ? a->mapped_bytes : a->file_bytes > 0 ? a->file_bytes : PAGE);
    a->base = NULL;
}

adm_status adm_arena_open(adm_arena *a, adm_error *err) {
    char path[64];
    a->fd = memfd_create("adamas-tune", MFD_CLOEXEC);
    if (a->fd < 0 || ftruncate(a->fd, (off_t)(a->file_bytes > 0 ? a->file_bytes : PAGE)) != 0)
        return adm_fail(err, ADM_EENVIRONMENT, "%zu bytes of shared memory for a check: %s%s", a->file_bytes, strerror(errno),
                        errno == EFBIG ? ": the limit on file sizes counts them, `ulimit -f` shows it" : "");
    snprintf(path, sizeof path, "/proc/self/fd/%d", a->fd);
    a->read_only_fd = open(path, O_RDONLY | O_CLOEXEC);
    if (a->read_only_fd < 0) return adm_fail(err, ADM_EENVIRONMENT, "reading shared memory: %s", strerror(errno));
    return map_flat(a, err);
}

adm_status adm_arena_clone(const adm_arena *like, adm_arena *out, adm_error *err) {
    *out = (adm_arena){
        .fd = -1, .read_only_fd = -1, .mapped_bytes = like->mapped_bytes, .file_bytes = like->file_bytes, .n = like->n};
    adm_status status = adm_alloc(&out->buffer, ADM_ARENA_MAX_BUFFERS, sizeof *out->buffer, "buffers of a check", err);
    if (status != ADM_OK) return status;
    adm_copy(out->buffer, like->buffer, like->n * sizeof *like->buffer);
    return adm_arena_open(out, err);
}

adm_status adm_arena_remap(adm_arena *a, bool writable, adm_error *err) {
    unmap(a);
    adm_status status = map_guarded(a, writable ? a->fd : a->read_only_fd, writable, err);
    if (a->fd >= 0) close(a->fd);
    if (a->read_only_fd >= 0) close(a->read_only_fd);
    a->fd = a->read_only_fd = -1;
    return status;
}

void adm_arena_close(adm_arena *a) {
    if (a->buffer == NULL) return;
    unmap(a);
    if (a->fd >= 0) close(a->fd);
    if (a->read_only_fd >= 0) close(a->read_only_fd);
    adm_free(&a->buffer);
    *a = (adm_arena){.fd = -1, .read_only_fd = -1};
}

void adm_arena_poison(adm_arena *a, unsigned char value) {
    memset(a->base, pattern, a->file_bytes);
    for (size_t i = 0; i < a->n; i++) memset(a->base + a->buffer[i].flat, value, a->buffer[i].bytes);
}

static bool is_pattern(const char *bytes, size_t n) {
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)bytes[i] != pattern) return false;
    return true;
}

bool adm_arena_find_damage(const adm_arena *a, size_t *buffer, bool *behind) {
    for (size_t i = 0; i < a->n; i++) {
        const adm_arena_buffer *b = &a->buffer[i];
        const size_t end = b->flat + b->bytes, pages_end = b->file + page_bytes(a, i);
        *buffer = i;
        *behind = is_pattern(a->base + b->file, b->flat - b->file);
        if (!*behind || !is_pattern(a->base + end, pages_end - end)) return true;
    }
    return false;
}

bool adm_arena_locate(const adm_arena *a, size_t offset, size_t *buffer, long long *distance) {
    long long nearest = 1 << 20;
    bool found = false;
    for (size_t i = 0; offset < a->mapped_bytes && i < a->n; i++) {
        const long long from = (long long)a->buffer[i].at, to = from + (long long)a->buffer[i].bytes, here = (long long)offset;
        const long long away = here < from ? here - from : here >= to ? here - to + 1 : 0;
        if ((away < 0 ? -away : away) > nearest) continue;
        nearest = away < 0 ? -away : away;
        *buffer = i;
        *distance = away;
        found = true;
    }
    return found;
}
