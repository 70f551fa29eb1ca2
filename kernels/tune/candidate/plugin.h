/* plugin.h: opening a shared object that exports the table of adamas_plugin.h. Only a candidate's own process does that:
 * loading runs its code. */
#ifndef ADM_KERNELS_TUNE_CANDIDATE_PLUGIN_H
#define ADM_KERNELS_TUNE_CANDIDATE_PLUGIN_H

#include "kernels/tune/candidate/candidate.h"

enum { ADM_PLUGIN_MAX_LISTED = 16 };

/* An implementation as its table describes it; fits a message. */
typedef struct adm_plugin_entry {
    char name[64];
    bool on_gpu;
    adm_tune_limits limits;
    adm_tune_parameter parameter[ADM_TUNE_MAX_PARAMETERS];
    size_t n_parameters;
} adm_plugin_entry;

typedef struct adm_plugin_list {
    adm_status status;
    char reason[768];
    adm_plugin_entry entry[ADM_PLUGIN_MAX_LISTED];
    size_t n;
} adm_plugin_list;

/* The implementations of a stage in a shared object, found in a process of its own. Failures are in list->status. */
void adm_plugin_find(const char *library, adm_stage stage, uint64_t limit_ns, adm_plugin_list *list);

/* What runs: kept until the process ends. */
typedef struct adm_plugin_loaded {
    void (*run)(void);
    size_t (*workspace_bytes)(const void *shape); /* an adamas_gpu_shape; NULL: none */
} adm_plugin_loaded;

/* In the candidate's process: loads it, checks the table, sets the chosen parameters. ADM_EINPUT with a sentence: no table,
 * another version, a broken row, no such implementation. */
adm_status adm_plugin_load(const adm_candidate *candidate, adm_plugin_loaded *out, adm_error *err);

#endif
