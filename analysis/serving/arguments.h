/* arguments.h: the command line of `adamas simulate`: its options, and what they say. */
#ifndef ADM_ANALYSIS_SERVING_ARGUMENTS_H
#define ADM_ANALYSIS_SERVING_ARGUMENTS_H

#include <argp.h>

#include "analysis/cost/cost.h"
#include "analysis/serving/cases.h"
#include "analysis/serving/print.h"
#include "analysis/serving/quality.h"
#include "core/cli/command.h"
#include "core/contract/model.h"
#include "core/fleet/fleet.h"
#include "traces/requests/requests.h"

#define ADM_DEFAULT_CALIBRATION "recorded:h200" /* ships with the program */

enum { ADM_SIMULATE_MAX_CASES = 64, ADM_SIMULATE_MAX_LAYER_PLANS = 8 };

typedef struct adm_simulate_command {
    adm_common common;
    adm_fleet fleet; /* --shard, --dry-run */
    uint32_t part[ADM_SIMULATE_MAX_CASES]; /* the shard of each case before the others are left out */
    const char *requests_path, *generate, *model_name, *calibration, *budgets, *dense_layers, *variant, *memory, *gpu, *quality;
    const char *rate, *limit, *max_batch, *max_tokens, *chunk, *page, *ttft, *tpot, *compute_share, *memory_share, *overhead,
        *seed;
    const char *threads, *label;
    const char *layer_plans[ADM_SIMULATE_MAX_LAYER_PLANS];
    size_t n_layer_plans;
    const char *against;
    bool no_prefix, open_loop, validate;
    char *argv_json;

    adm_store *store;
    adm_cost cost;
    adm_model model;
    adm_requests *requests;
    adm_requests_source source;
    adm_setup setup;
    adm_case cases[ADM_SIMULATE_MAX_CASES];
    adm_progress progress;
    adm_case_quality case_quality[ADM_SIMULATE_MAX_CASES];
    size_t n_cases;
    adm_quality_source quality_source;
    uint64_t seed_number;
    size_t n_threads;
} adm_simulate_command;

extern const struct argp adm_simulate_argp; /* its input is an adm_simulate_command */

/* What the options say, after adm_argp_parse(); ADM_EINPUT names the option that is wrong: the engine, and the GPU of the cost
 * model once that is loaded. */
adm_status adm_simulate_parse_engine(adm_simulate_command *c, adm_error *err);
adm_status adm_simulate_parse_gpu(adm_simulate_command *c, adm_error *err);

/* Dense attention, a case per budget and per plan of --layer-budgets, in each kind of memory; the model has been read. */
adm_status adm_simulate_make_cases(adm_simulate_command *c, adm_error *err);

#endif
