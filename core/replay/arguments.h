/* arguments.h: the command line of `adamas replay`: its options, and what they say. */
#ifndef ADM_CORE_REPLAY_ARGUMENTS_H
#define ADM_CORE_REPLAY_ARGUMENTS_H

#include <argp.h>

#include "core/calibrate/calibration_file.h"
#include "core/cli/command.h"
#include "core/fleet/fleet.h"
#include "core/policy/sweep.h"
#include "core/replay/replay.h"
#include "core/replay/shard_plan.h"
#include "kernels/tune/bring.h"
#include "kernels/tune/pipeline.h"
#include "kernels/tune/replay_candidates.h"

enum { ADM_REPLAY_MAX_THRESHOLDS = 8, ADM_REPLAY_MAX_TARGETS = 8, ADM_REPLAY_MAX_IMPLEMENTATIONS = 8 };

typedef struct adm_replay_command {
    adm_common common;
    adm_fleet fleet;         /* --shard */
    adm_replay_shards shards; /* which lengths are whose */
    const char *budgets, *seq_lens, *layers, *policies, *select, *label, *sinks, *recent, *dense_layers, *eps, *seed;
    const char *implementation[ADM_REPLAY_MAX_IMPLEMENTATIONS];
    size_t n_implementations;
    adm_bring bring;
    const char *counters, *threads, *timed_steps, *only_times, *resume, *metric, *calibration_path;
    const char *thresholds[ADM_REPLAY_MAX_THRESHOLDS], *targets[ADM_REPLAY_MAX_TARGETS];
    size_t n_thresholds, n_targets;
    bool timeline, counting;
    uint64_t resumed;    /* the number of the run, with --resume */
    char uncounted[256]; /* why --counters has no values, for the summary */
    char **paths;
    size_t n_paths;

    adm_replay_options options;
    uint32_t *budget_list, *seq_len_list, *layer_list;
    adm_only *only_list;
    uint64_t seed_number;
    adm_sweep sweep;
    adm_calibration calibration;
    adm_target target_list[ADM_REPLAY_MAX_TARGETS];
    adm_host_pipeline pipeline;
    adm_host_pipeline other[ADM_REPLAY_MAX_IMPLEMENTATIONS]; /* timed beside it: of a repeated --implementation */
    adm_replay_candidates candidates;
    adm_pipeline_fault fault[ADM_PIPELINE_STAGES]; /* [n_faults] rows that were wrong and are not used */
    size_t n_faults;
    adm_progress progress;
    char
        *argv_json; /* of the command line as it was typed: argp sorts argv; without --resume, which does not tell runs apart */
} adm_replay_command;

extern const struct argp adm_replay_argp; /* its input is an adm_replay_command */

/* What the options say, after adm_argp_parse(); ADM_EINPUT names the option that is wrong. */
adm_status adm_replay_parse_values(adm_replay_command *c, adm_error *err);

#endif
