/* ptxas.c: reads the assembler's lines; see ptxas.h.
 *
 *   ptxas info    : Used 32 registers, used 1 barriers, 1024 bytes smem, 400 bytes cmem[0]
 *       16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
 *
 * What a thread has in local memory is its frame: arrays indexed at run time, and what was spilled. */
#include "kernels/tune/candidate/ptxas.h"

#include <stdio.h>
#include <string.h>

static void keep_largest(int *figure, int value) {
    if (value > *figure) *figure = value;
}

void adm_ptxas_read(const char *text, adm_tune_resources *r) {
    for (const char *line = text, *end; line != NULL && *line != '\0'; line = *end == '\n' ? end + 1 : NULL) {
        int value, stack;
        const size_t length = strcspn(line, "\n");
        end = line + length;
        const char *used = memmem(line, length, "Used ", 5), *shared = memmem(line, length, " bytes smem", 11);
        const char *frame = memmem(line, length, " bytes stack frame", 18);
        if (used != NULL && sscanf(used, "Used %d registers", &value) == 1) {
            keep_largest(&r->registers, value);
            keep_largest(&r->static_shared_bytes, 0);
        }
        if (shared != NULL) {
            const char *digits = shared;
            while (digits > line && digits[-1] >= '0' && digits[-1] <= '9') digits--;
            if (sscanf(digits, "%d", &value) == 1) keep_largest(&r->static_shared_bytes, value);
        }
        if (frame != NULL && sscanf(line, " %d bytes stack frame", &stack) == 1) keep_largest(&r->spill_bytes, stack);
    }
}
