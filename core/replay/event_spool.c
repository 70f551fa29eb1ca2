/* event_spool.c: ranges in memory, and in a temporary file when they become many. */
#include "core/replay/event_spool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/mem.h"

enum { CAPACITY = 1 << 16 };

typedef struct record {
    uint64_t start_ns, end_ns;
    int64_t config_id;
    const char *variant; /* the file is read back by the process that wrote it */
    int32_t step, layer;
    uint8_t kind, stage;
} record;

struct adm_event_spool {
    record *record;      /* [CAPACITY] */
    size_t n;
    FILE *file;          /* NULL: not needed so far */
    size_t n_in_file;
    int failure;         /* errno of a write that failed; what came after is not kept */
};

adm_status adm_event_spool_open(adm_event_spool **out, adm_error *err) {
    adm_event_spool *spool = NULL;
    *out = NULL;
    adm_status status = adm_alloc(&spool, 1, sizeof *spool, "a spool of ranges", err);
    if (status == ADM_OK) status = adm_alloc(&spool->record, CAPACITY, sizeof *spool->record, "a spool of ranges", err);
    if (status == ADM_OK) *out = spool;
    else adm_event_spool_close(&spool);
    return status;
}

void adm_event_spool_close(adm_event_spool **address) {
    adm_event_spool *spool = *address;
    if (spool == NULL) return;
    if (spool->file != NULL) fclose(spool->file);
    adm_free(&spool->record);
    adm_free(address);
}

static FILE *open_file(void) {
    const char *folder = getenv("TMPDIR");
    char path[4096];
    if (folder == NULL || snprintf(path, sizeof path, "%s/adamas-ranges-XXXXXX", folder) >= (int)sizeof path)
        snprintf(path, sizeof path, "/tmp/adamas-ranges-XXXXXX");
    int fd = mkstemp(path);
    if (fd < 0) return NULL;
    unlink(path);
    FILE *file = fdopen(fd, "w+b");
    if (file == NULL) close(fd);
    return file;
}

static void spill(adm_event_spool *spool) {
    errno = 0;
    if (spool->file == NULL) spool->file = open_file();
    if (spool->file == NULL || fwrite(spool->record, sizeof *spool->record, spool->n, spool->file) != spool->n)
        spool->failure = errno != 0 ? errno : EIO;
    spool->n_in_file += spool->n;
    spool->n = 0;
}

void adm_event_spool_append(adm_event_spool *spool, const adm_range *range, uint64_t start_ns, uint64_t end_ns) {
    if (spool->failure != 0) return;
    if (spool->n == CAPACITY) spill(spool);
    spool->record[spool->n++] = (record){start_ns,    end_ns,       range->config_id,     range->variant,
                                         range->step, range->layer, (uint8_t)range->kind, (uint8_t)range->stage};
}

static adm_status failure(const adm_event_spool *spool, adm_error *err) {
    if (spool->failure == 0) return ADM_OK;
    return adm_fail(err, ADM_EENVIRONMENT,
                    "ranges of a timeline could not be kept in a temporary file: %s; TMPDIR names "
                    "another folder for it",
                    strerror(spool->failure));
}

adm_status adm_event_spool_settle(adm_event_spool *spool, adm_error *err) {
    if (spool->n > CAPACITY / 2) spill(spool);
    return failure(spool, err);
}

static adm_status visit_all(const record *records, size_t n, adm_event_visit *visit, void *user, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < n; i++) {
        const record *r = &records[i];
        const adm_range range = {.kind = (adm_range_kind)r->kind,
                                 .stage = (adm_stage)r->stage,
                                 .variant = r->variant,
                                 .config_id = r->config_id,
                                 .step = r->step,
                                 .layer = r->layer};
        status = visit(user, &range, r->start_ns, r->end_ns, err);
    }
    return status;
}

adm_status adm_event_spool_each(adm_event_spool *spool, adm_event_visit *visit, void *user, adm_error *err) {
    adm_status status = failure(spool, err);
    if (status == ADM_OK && spool->n_in_file > 0) {
        spill(spool); /* so that the records can be a buffer for reading */
        if (fflush(spool->file) != 0) spool->failure = errno;
        rewind(spool->file);
        status = failure(spool, err);
        for (size_t left = spool->n_in_file, n; status == ADM_OK && left > 0; left -= n) {
            n = fread(spool->record, sizeof *spool->record, left < CAPACITY ? left : CAPACITY, spool->file);
            if (n == 0) status = adm_fail(err, ADM_EENVIRONMENT, "ranges of a timeline could not be read back");
            else status = visit_all(spool->record, n, visit, user, err);
        }
        fclose(spool->file);
        spool->file = NULL;
    } else if (status == ADM_OK) {
        status = visit_all(spool->record, spool->n, visit, user, err);
    }
    spool->n = spool->n_in_file = 0;
    spool->failure = 0;
    return status;
}
