/* sass_mix.h: counts the instructions of a disassembly (`cuobjdump -sass`) by kind. */
#ifndef ADM_KERNELS_SASS_SASS_MIX_H
#define ADM_KERNELS_SASS_SASS_MIX_H

#include <stdbool.h>
#include <stddef.h>

enum { ADM_SASS_KINDS = 13 };

typedef struct adm_sass_mix {
    size_t n, n_kernels;
    size_t count[ADM_SASS_KINDS];
} adm_sass_mix;

/* Reads line by line: kernels whose name contains kernel[i] count in mix[i]; kernel[0] NULL: all, kernel[1] NULL: none. Of them
 * those alone that `takes` accepts by their mangled name; NULL: all. */
typedef struct adm_sass_reader {
    const char *kernel[2];
    bool (*takes)(void *user, const char *name);
    void *user;
    adm_sass_mix *mix; /* [2] */
    bool counts[2]; /* the present kernel */
} adm_sass_reader;

void adm_sass_read(adm_sass_reader *reader, const char *line);

/* "global", "shared", ... and the instructions that it stands for. */
const char *adm_sass_kind_name(int kind);
const char *adm_sass_kind_words(int kind);

#endif
