/* input_file.c: a regular file that somebody else wrote. */
#include "traces/format/input_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/base/mem.h"
#include "traces/format/map_guard.h"
#include "core/base/printable.h"

enum { HASH_CHUNK_BYTES = 1 << 20, MAGIC_BYTES = 24 };

/* Files that take the place of a trace by mistake, by their first bytes. */
static const struct {
    char magic[MAGIC_BYTES];
    size_t n;
    const char *says;
} kinds[] = {
    {"version https://git-lfs.", 24, "is a Git LFS pointer, not the file itself: fetch it with `git lfs pull`"},
    {"\x1f\x8b", 2, "is gzip-compressed: unpack it with `gunzip` first"},
    {"\x28\xb5\x2f\xfd", 4, "is Zstandard-compressed: unpack it with `unzstd` first"},
    {"\xfd"
     "7zXZ",
     5, "is xz-compressed: unpack it with `unxz` first"},
    {"PK\x03\x04", 4, "is a ZIP archive, as PyTorch's .pt files are, which holds no trace that can be read in place"},
    {"GGUF", 4, "is a GGUF model, not a trace: traces/model/capture.py makes a trace of one"},
    {"SQLite format 3", 15, "is an SQLite database, not a trace"},
};

/* Of a long path the end says most. */
static void make_label(const char *path, char *label, size_t label_bytes) {
    size_t length = strlen(path);
    if (length < label_bytes - 4) {
        adm_printable(path, label, label_bytes);
        return;
    }
    memcpy(label, "...", 3);
    const char *tail = path + length - (label_bytes - 8);
    while (((unsigned char)*tail & 0xc0) == 0x80) tail++; /* not in the middle of a character */
    adm_printable(tail, label + 3, label_bytes - 3);
}

/* Failures of the machine rather than of the path that was given. */
static bool is_environment(int error) { return error == EMFILE || error == ENFILE || error == ENOMEM || error == EIO; }

static adm_status examine(const adm_input_file *file, struct stat *now, adm_error *err) {
    if (fstat(file->fd, now) == 0) return ADM_OK;
    return adm_fail(err, ADM_EENVIRONMENT, "%s: cannot be examined: %s", file->label, strerror(errno));
}

adm_status adm_input_open(const char *path, adm_input_file *file, adm_error *err) {
    *file = (adm_input_file){.fd = -1};
    make_label(path, file->label, sizeof file->label);
    /* Without O_NONBLOCK, opening a pipe waits for its writer. */
    file->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (file->fd < 0)
        return adm_fail(err, is_environment(errno) ? ADM_EENVIRONMENT : ADM_EINPUT, "%s: cannot be opened: %s", file->label,
                        strerror(errno));
    struct stat now;
    adm_status status = examine(file, &now, err);
    if (status != ADM_OK) return status;
    if (!S_ISREG(now.st_mode))
        return adm_fail(err, ADM_EINPUT, "%s: is %s, not a regular file", file->label,
                        S_ISDIR(now.st_mode)    ? "a directory"
                        : S_ISFIFO(now.st_mode) ? "a pipe"
                                                : "a device");
    file->n_bytes = (uint64_t)now.st_size;
    file->modified = now.st_mtim;
    return ADM_OK;
}

void adm_input_close(adm_input_file *file) {
    if (file->map != NULL) {
        adm_map_unguard(file->map);
        munmap((void *)(uintptr_t)file->map, (size_t)file->n_bytes);
    }
    if (file->fd >= 0) close(file->fd);
    file->map = NULL;
    file->fd = -1;
}

adm_status adm_input_read(const adm_input_file *file, void *buffer, size_t n, uint64_t offset, adm_error *err) {
    for (size_t done = 0; done < n;) {
        ssize_t got = pread(file->fd, (char *)buffer + done, n - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            return adm_fail(err, ADM_EENVIRONMENT, "%s: cannot be read at byte %" PRIu64 ": %s", file->label, offset + done,
                            strerror(errno));
        if (got == 0)
            return adm_fail(err, ADM_EINPUT,
                            "%s: ends at byte %" PRIu64 " while being read; it had %" PRIu64 " bytes when opened", file->label,
                            offset + done, file->n_bytes);
        done += (size_t)got;
    }
    return ADM_OK;
}

adm_status adm_input_check_kind(const adm_input_file *file, adm_error *err) {
    char head[MAGIC_BYTES] = {0};
    size_t n = file->n_bytes < sizeof head ? (size_t)file->n_bytes : sizeof head;
    adm_status status = adm_input_read(file, head, n, 0, err);
    for (size_t i = 0; status == ADM_OK && i < sizeof kinds / sizeof kinds[0]; i++)
        if (n >= kinds[i].n && memcmp(head, kinds[i].magic, kinds[i].n) == 0)
            status = adm_fail(err, ADM_EINPUT, "%s: %s", file->label, kinds[i].says);
    return status;
}

adm_status adm_input_map(adm_input_file *file, adm_error *err) {
    void *map = mmap(NULL, (size_t)file->n_bytes, PROT_READ, MAP_PRIVATE, file->fd, 0);
    if (map == MAP_FAILED)
        return adm_fail(err, ADM_EENVIRONMENT, "%s: its %" PRIu64 " bytes cannot be mapped: %s", file->label, file->n_bytes,
                        strerror(errno));
    adm_status status = adm_map_guard(map, (size_t)file->n_bytes, err);
    if (status == ADM_OK) file->map = map;
    else munmap(map, (size_t)file->n_bytes);
    return status;
}

adm_status adm_input_check_unchanged(const adm_input_file *file, adm_error *err) {
    struct stat now;
    adm_status status = examine(file, &now, err);
    if (status != ADM_OK) return status;
    if ((uint64_t)now.st_size == file->n_bytes && now.st_mtim.tv_sec == file->modified.tv_sec &&
        now.st_mtim.tv_nsec == file->modified.tv_nsec) {
        if (file->map == NULL || !adm_map_is_lost(file->map)) return ADM_OK;
        return adm_fail(err, ADM_EENVIRONMENT, "%s: a part of it could not be read through its map: does its disk fail?",
                        file->label);
    }
    return adm_fail(err, ADM_EINPUT, "%s: was changed while being read: it had %" PRIu64 " bytes and now has %" PRId64,
                    file->label, file->n_bytes, (int64_t)now.st_size);
}

adm_status adm_input_xxh128(const adm_input_file *file, char hex[33], adm_error *err) {
    unsigned char *chunk = NULL;
    XXH3_state_t *state = XXH3_createState();
    adm_status status = state == NULL       ? adm_fail(err, ADM_EENVIRONMENT, "the state of a hash: out of memory")
                        : file->map != NULL ? ADM_OK
                                            : adm_alloc(&chunk, HASH_CHUNK_BYTES, 1, "a buffer for hashing", err);
    if (status == ADM_OK) XXH3_128bits_reset(state);
    for (uint64_t at = 0; status == ADM_OK && at < file->n_bytes; at += HASH_CHUNK_BYTES) {
        uint64_t rest = file->n_bytes - at;
        size_t n = rest < HASH_CHUNK_BYTES ? (size_t)rest : HASH_CHUNK_BYTES;
        if (file->map == NULL) status = adm_input_read(file, chunk, n, at, err);
        if (status == ADM_OK) XXH3_128bits_update(state, file->map != NULL ? file->map + at : chunk, n);
    }
    if (status == ADM_OK) {
        XXH128_hash_t hash = XXH3_128bits_digest(state);
        snprintf(hex, 33, "%016" PRIx64 "%016" PRIx64, (uint64_t)hash.high64, (uint64_t)hash.low64);
    }
    XXH3_freeState(state);
    adm_free(&chunk);
    return status;
}
