/* fuzz.h: what the fuzzers share: bytes as a file without a disk, and claims that end the process when they fail. */
#ifndef ADM_TESTS_FUZZ_FUZZ_H
#define ADM_TESTS_FUZZ_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/error.h"
#include "core/base/printable.h"

/* An anonymous file in memory; made at the first use, and open until the process ends. */
typedef struct fuzz_file {
    int fd;
    size_t n_bytes;
    char path[32];
} fuzz_file;

static inline void fuzz_expect(int true_claim, const char *claim) {
    if (true_claim) return;
    fprintf(stderr, "not so: %s\n", claim);
    abort(); /* what libFuzzer takes as a crash */
}

/* One printable line without a loose end. */
static inline void fuzz_expect_sentence(const adm_error *err) {
    char clean[sizeof err->text + 4];
    size_t n = strlen(err->text);
    fuzz_expect(n > 20 && n < sizeof err->text, "an error is a sentence");
    fuzz_expect(err->text[n - 1] != '\n' && err->text[n - 1] != ' ', "a sentence has no loose end");
    adm_printable(err->text, clean, sizeof clean);
    fuzz_expect(strcmp(clean, err->text) == 0, "a sentence cannot drive a terminal");
}

static inline void fuzz_write(fuzz_file *file, const uint8_t *data, size_t size) {
    if (file->path[0] == '\0') {
        file->fd = memfd_create("fuzz", MFD_CLOEXEC);
        snprintf(file->path, sizeof file->path, "/proc/self/fd/%d", file->fd);
    }
    /* Cut only where it shrinks: pages that stay are cheaper than new ones. */
    if (pwrite(file->fd, data, size, 0) != (ssize_t)size || (size < file->n_bytes && ftruncate(file->fd, (off_t)size) != 0)) {
        perror("fuzz_write");
        abort();
    }
    file->n_bytes = size;
}

/* The bytes as a text with a NUL; released with free(). */
static inline char *fuzz_text(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1);
    if (text == NULL) abort();
    if (size > 0) memcpy(text, data, size);
    text[size] = '\0';
    return text;
}

/* A status that a reader of foreign bytes may give, with its sentence. */
static inline void fuzz_expect_refusal(adm_status status, const adm_error *err) {
    fuzz_expect(status == ADM_OK || status == ADM_EINPUT || status == ADM_EUNSUPPORTED,
                "bad bytes are bad input, and nothing else");
    if (status != ADM_OK) fuzz_expect_sentence(err);
}

#endif
