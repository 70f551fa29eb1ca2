/* static.c: what the CUDA assembler stated about every kernel, from the table that the build put into the program
 * (resources.py). These figures need no GPU, and change only with the compiler or the source. */
#include "kernels/sass/static.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/embedded.h"

enum { N_FIGURES = 5 };

static const adm_metric metrics[N_FIGURES] = {
    {"registers", "1", "lower", "Registers a thread of a kernel"},
    {"static_shared_bytes", "bytes", "lower", "Static shared memory a block of a kernel"},
    {"stack_bytes", "bytes", "lower", "Stack frame a thread of a kernel; what is there went to local memory"},
    {"spill_store_bytes", "bytes", "lower", "Spilled register stores of a kernel"},
    {"spill_load_bytes", "bytes", "lower", "Spilled register loads of a kernel"},
};

/* The stage that a kernel serves, by its source file and the start of its name; the first that fits. Kernels that make
 * inputs or measure the device serve none. */
static const struct {
    const char *source, *kernel;
    adm_stage stage;
} stages[] = {
    {"encode.cu", "hadamard_", ADM_STAGE_HADAMARD},
    {"encode.cu", "bucket_", ADM_STAGE_BUCKET},
    {"encode.cu", "pack_", ADM_STAGE_PACK},
    {"encode.cu", "", ADM_STAGE_APPEND},
    {"distance.cu", "", ADM_STAGE_DISTANCE},
    {"topk.cu", "", ADM_STAGE_TOPK},
    {"attention.cu", "", ADM_STAGE_ATTENTION},
    {"fused.cu", "", ADM_STAGE_STEP},
    {"grouped.cu", "", ADM_STAGE_STEP},
    {"dense.cu", "", ADM_STAGE_DENSE},
};

static const char *stage_of(const char *source, const char *kernel) {
    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++)
        if (strcmp(stages[i].source, source) == 0 && strncmp(stages[i].kernel, kernel, strlen(stages[i].kernel)) == 0)
            return adm_stage_name(stages[i].stage);
    return NULL;
}

/* Splits a line at its tabs; false unless it has exactly the fields of the table. */
static bool split(char *line, char *field[3 + N_FIGURES]) {
    size_t n = 0;
    for (char *at = line; at != NULL && n < 3 + N_FIGURES; n++) {
        field[n] = strsep(&at, "\t");
        if (at == NULL) return n + 1 == 3 + N_FIGURES;
    }
    return false;
}

static adm_status store_kernel(adm_store *store, int64_t run_id, char *const field[3 + N_FIGURES], const char *stage,
                               adm_error *err) {
    char variant[384];
    int64_t config_id;
    snprintf(variant, sizeof variant, "%s %s", field[1], field[2]);
    /* The kernel's own template arguments are in its name; the shape columns say nothing of a compiled kernel. */
    adm_config config = {.policy = "static",
                         .variant = variant,
                         .shape = {1, 1, 1},
                         .dtype = ADM_F16,
                         .batch = 1,
                         .n_sinks = -1,
                         .n_recent = -1,
                         .launch = "stream"};
    adm_status status = adm_store_config(store, &config, &config_id, err);
    for (int i = 0; status == ADM_OK && i < N_FIGURES; i++) {
        double value = strtod(field[3 + i], NULL);
        adm_distribution distribution = adm_distribution_of(&value, 1);
        adm_measurement m = {.run_id = run_id,
                             .config_id = config_id,
                             .source = "model",
                             .stage = stage,
                             .layer = -1,
                             .head = -1,
                             .metric = &metrics[i],
                             .distribution = &distribution,
                             .status = "ok"};
        status = adm_store_measurement(store, &m, err);
    }
    return status;
}

adm_status adm_static_each(void (*each)(void *user, const adm_static_kernel *kernel), void *user, adm_error *err) {
    const adm_embedded_file *table = adm_embedded("build/gen/kernel_resources.tsv");
    for (const char *at = table->data; at < table->data + table->n_bytes;) {
        char line[768], *field[3 + N_FIGURES];
        size_t length = strcspn(at, "\n");
        snprintf(line, sizeof line, "%.*s", (int)(length < sizeof line ? length : sizeof line - 1), at);
        at += length + 1;
        if (!split(line, field))
            return adm_fail(err, ADM_EINTERNAL, "the table of kernel resources has a broken line: %s", line);
        const char *stage = stage_of(field[0], field[1]);
        if (stage == NULL) continue;
        const adm_static_kernel kernel = {.stage = stage,
                                          .source = field[0],
                                          .kernel = field[1],
                                          .arch = field[2],
                                          .registers = atoi(field[3]),
                                          .shared_bytes = atoi(field[4]),
                                          .stack_bytes = atoi(field[5]),
                                          .spill_store_bytes = atoi(field[6]),
                                          .spill_load_bytes = atoi(field[7])};
        each(user, &kernel);
    }
    return ADM_OK;
}

adm_status adm_profile_static(adm_store *store, int64_t run_id, size_t *n_kernels, adm_error *err) {
    const adm_embedded_file *table = adm_embedded("build/gen/kernel_resources.tsv");
    adm_status status = ADM_OK;
    *n_kernels = 0;
    for (const char *at = table->data; status == ADM_OK && at < table->data + table->n_bytes;) {
        char line[768], *field[3 + N_FIGURES];
        size_t length = strcspn(at, "\n");
        snprintf(line, sizeof line, "%.*s", (int)(length < sizeof line ? length : sizeof line - 1), at);
        at += length + 1;
        if (!split(line, field))
            return adm_fail(err, ADM_EINTERNAL, "the table of kernel resources has a broken line: %s", line);
        const char *stage = stage_of(field[0], field[1]);
        if (stage == NULL) continue;
        status = store_kernel(store, run_id, field, stage, err);
        ++*n_kernels;
    }
    return status == ADM_OK ? adm_store_flush(store, err) : status;
}
