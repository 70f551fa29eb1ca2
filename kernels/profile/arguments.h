/* arguments.h: the command line of `adamas profile`: its options, and what they say. */
#ifndef ADM_KERNELS_PROFILE_ARGUMENTS_H
#define ADM_KERNELS_PROFILE_ARGUMENTS_H

#include <argp.h>

#include "core/calibrate/calibration_file.h"
#include "core/cli/command.h"
#include "core/fleet/fleet.h"
#include "kernels/profile/grid/metrics.h"
#include "kernels/profile/grid/shards.h"
#include "kernels/profile/grid/trace.h"
#include "kernels/profile/run.h"
#include "kernels/tune/bring.h"
#include "kernels/tune/tally.h"
#include "probes/cupti/cupti_features.h"

enum { ADM_PROFILE_MAX_ONLY = 32 };

typedef struct adm_profile_command {
    adm_common common;
    adm_fleet fleet; /* --shard, --dry-run */
    adm_profile_shards shards;
    const char *seq_lens, *budgets, *heads, *kv_heads, *head_dim, *batches, *dtype, *page_size, *sinks, *recent;
    const char *launch, *cache, *timestamps, *stages, *cap_ms, *seed, *device, *label, *select, *batch_lens;
    const char *trace_path, *layers, *thresholds, *calibration_path, *counters, *metrics, *ranks;
    const char *gpus, *together; /* NULL or "": one GPU */
    const char *seconds_path;
    bool alone, split;
    char together_uuid[37];
    int64_t n_together;
    uint32_t *rank_list; /* [n_ranks] */
    size_t n_ranks;
    bool is_static, timeline, software_timestamps, tuned;
    adm_bring bring;
    adm_tune_tally brought; /* how the candidates fared */
    const char *only[ADM_PROFILE_MAX_ONLY];
    char only_text[ADM_PROFILE_MAX_ONLY][64];
    adm_cupti_features features;

    adm_profile_options options;
    uint32_t *lists[5], *batch_len_list, *layer_list;
    adm_dtype dtype_list[2];
    adm_code_metric metric_list[ADM_PROFILE_METRICS];
    char *batch_lens_text;
    const adm_trace *trace;             /* NULL: random inputs */
    adm_profile_trace *profile_trace;
    adm_profile_trace_options trace_options;
    adm_calibration calibration;
    char calibrated_shape[3][12]; /* heads, KV heads and dimensions of the calibration, as options have them */
    uint32_t device_number;
    adm_progress progress;
    char *argv_json; /* of the command line as it was typed: argp sorts argv */
} adm_profile_command;

/* Its input is an adm_profile_command, whose texts then borrow from argv. */
extern const struct argp adm_profile_argp;

/* Reads numbers, lists, choices and the calibration out of the texts, and refuses what does not go together. */
adm_status adm_profile_arguments_read(adm_profile_command *c, adm_error *err);

/* Frees what that allocated, and argv_json. */
void adm_profile_arguments_clear(adm_profile_command *c);

/* Whether --gpus was given, and not as "". */
bool adm_profile_has_gpus(const adm_profile_command *c);

#endif
