/* arena.h: buffers that two processes share, each against a page that nobody may touch.
 *
 *   | guard page | slack, buffer 0 | guard page | slack, buffer 1 | guard page | ...
 *                              ^ ends here, so that the first byte behind it is a fault
 *
 * The candidate's process maps it so, inputs read-only: the kernel refuses to make that mapping writable. The judge maps the
 * same pages without the gaps, in one piece, and may write everything. Slack bytes in front of a buffer, and behind one that
 * ends a little early for its alignment, hold a pattern. */
#ifndef ADM_KERNELS_TUNE_CANDIDATE_ARENA_H
#define ADM_KERNELS_TUNE_CANDIDATE_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"

enum { ADM_ARENA_MAX_BUFFERS = 4096 };

typedef struct adm_arena_buffer {
    size_t bytes;
    size_t at;   /* offset from the arena's start, with guard pages */
    size_t flat; /* and without, which is that in the file */
    size_t file; /* offset of its first page in the file */
} adm_arena_buffer;

typedef struct adm_arena {
    int fd, read_only_fd;    /* -1: none */
    char *base;              /* where this process has it */
    size_t mapped_bytes, file_bytes;
    bool is_guarded;         /* mapped with guard pages, as in a candidate's process */
    adm_arena_buffer *buffer; /* [n] */
    size_t n;
} adm_arena;

/* Adds a buffer that ends at a guard page, or as much before as `align` takes; before adm_arena_open(). Its number is the
 * order in which it was added. */
adm_status adm_arena_add(adm_arena *arena, size_t bytes, size_t align, adm_error *err);

/* Makes the file and maps it for writing, in one piece. On failure there is nothing to close but the list:
 * adm_arena_close(). */
adm_status adm_arena_open(adm_arena *arena, adm_error *err);

/* Another arena of the same layout, opened. */
adm_status adm_arena_clone(const adm_arena *like, adm_arena *out, adm_error *err);

/* In a child that inherited the arena: maps it anew between guard pages, read-only or for writing; drops the parent's mapping
 * and its files. */
adm_status adm_arena_remap(adm_arena *arena, bool writable, adm_error *err);

void adm_arena_close(adm_arena *arena);

static inline void *adm_arena_at(const adm_arena *arena, size_t buffer) {
    const adm_arena_buffer *b = &arena->buffer[buffer];
    return arena->base + (arena->is_guarded ? b->at : b->flat);
}

/* Fills every buffer with `value` and its slack with the pattern. The judge's side. */
void adm_arena_poison(adm_arena *arena, unsigned char value);

/* The first buffer whose slack was written, with which side of it; false if none. */
bool adm_arena_find_damage(const adm_arena *arena, size_t *buffer, bool *behind);

/* Where an address lies that faulted: the nearest buffer, and which byte before its start (-1, -2, ...) or behind its end (1,
 * 2,
 * ...) it is; 0: inside. False if it is not near this arena. */
bool adm_arena_locate(const adm_arena *arena, size_t offset, size_t *buffer, long long *distance);

#endif
