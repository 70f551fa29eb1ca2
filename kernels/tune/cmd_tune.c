/* cmd_tune.c: `adamas tune`: judges kernels of one's own beside the registry's rows. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/system/clock.h"
#include "core/system/interrupt.h"
#include "core/base/mem.h"
#include "core/base/print.h"
#include "core/base/printable.h"
#include "core/cli/command.h"
#include "core/cli/options.h"
#include "core/system/hostinfo.h"
#include "kernels/tune/bring.h"
#include "kernels/tune/gpu/count.h"
#include "kernels/tune/print.h"
#include "kernels/tune/record.h"
#include "kernels/tune/session.h"
#include "kernels/tune/tally.h"
#include "kernels/tune/watch.h"

typedef struct tune_command {
    adm_common common;
    const char *stage_name, *seq_len, *budget, *heads, *kv_heads, *head_dim, *dtype, *batch, *sinks, *recent, *seed, *limit,
        *cap, *only, *label, *device;
    const char *set[ADM_TUNE_MAX_PARAMETERS];
    size_t n_set;
    bool gpu, show, watch, search_rows;
    const char *versions; /* of --watch */
    char **paths;
    size_t n_paths;

    adm_tune_session session;
    adm_host_info host;
    char *argv_json;
    json_t *rows;
} tune_command;

enum {
    KEY_STAGE = 0x6000,
    KEY_SEQ_LEN,
    KEY_HEADS,
    KEY_KV_HEADS,
    KEY_HEAD_DIM,
    KEY_DTYPE,
    KEY_BATCH,
    KEY_SINKS,
    KEY_RECENT,
    KEY_SEED,
    KEY_LIMIT,
    KEY_CAP,
    KEY_ONLY,
    KEY_CHECK_ONLY,
    KEY_GPU,
    KEY_SHOW,
    KEY_LABEL,
    KEY_DEVICE,
    KEY_ARCH,
    KEY_SET,
    KEY_NO_SEARCH,
    KEY_SEARCH_ROWS,
    KEY_WATCH,
    KEY_COUNTERS
};

static const struct argp_option options[] = {
    {"stage", KEY_STAGE, "STAGE", 0,
     "hadamard, bucket, pack, append, distance, topk, attention, step or dense (default: the one that the first candidate says "
     "it is of)",
     1},
    {"seq-len", KEY_SEQ_LEN, "N", 0, "Tokens in the cache (default 32768)", 1},
    {"budget", 'b', "N", 0, "Tokens to attend to (default 256)", 1},
    {"heads", KEY_HEADS, "N", 0, "Query heads (default 32)", 1},
    {"kv-heads", KEY_KV_HEADS, "N", 0, "KV heads (default 8)", 1},
    {"head-dim", KEY_HEAD_DIM, "N", 0, "64, 128 or 256 (default 128)", 1},
    {"dtype", KEY_DTYPE, "TYPE", 0, "f16, bf16, or on the host f32 (default f16)", 1},
    {"batch", KEY_BATCH, "N", 0, "Sequences of that length, 1 to 64, on a GPU (default 1)", 1},
    {"sinks", KEY_SINKS, "N", 0, "First tokens always selected (default 0)", 1},
    {"recent", KEY_RECENT, "N", 0, "Last tokens always selected (default 1, the newest)", 1},
    {"implementation", KEY_ONLY, "NAME", 0, "Only this row of the registry beside the candidates (default: all that run here)",
     2},
    {"gpu", KEY_GPU, NULL, 0, "Judge the registry's GPU rows, even without a candidate", 2},
    {"set", KEY_SET, "NAME=N", 0, "Fix a parameter of the candidates; may be repeated", 2},
    {"no-search", KEY_NO_SEARCH, NULL, 0, "Use each parameter's first value instead of searching for the best", 2},
    {"search-rows", KEY_SEARCH_ROWS, NULL, 0,
     "Also search the launch parameters of the registry's GPU rows for what is fastest at this shape", 2},
    {"watch", KEY_WATCH, "N", OPTION_ARG_OPTIONAL,
     "Judge the one source file anew whenever it changes, until interrupted or after N versions; with --json a line of JSON "
     "per version",
     2},
    {"check-only", KEY_CHECK_ONLY, NULL, 0, "Right or wrong; time nothing", 3},
    {"counters", KEY_COUNTERS, "SET", 0,
     "Also count what is right on a GPU, after its times: a set that `adamas counters list` names, or a file", 3},
    {"cap-ms", KEY_CAP, "N", 0, "Time limit for the samples of one candidate, 1 to 60000 (default 500)", 3},
    {"limit-s", KEY_LIMIT, "N", 0, "Time limit for one answer of a candidate, 1 to 600 (default 10)", 3},
    {"seed", KEY_SEED, "N", 0, "Seed of the inputs, to repeat a verdict (default: drawn after the candidates are loaded)", 3},
    {"device", KEY_DEVICE, "N", 0, "CUDA device (default 0)", 3},
    {"arch", KEY_ARCH, "NAME", 0, "Architecture to compile .cu files for (default: the device's; without one sm_90)", 3},
    {"show", KEY_SHOW, NULL, 0, "Show what has been tuned, by device, stage and shape", 4},
    {"label", KEY_LABEL, "TEXT", 0, "A name for this run", 4},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    tune_command *c = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = state->child_inputs[1] = &c->common; return 0;
    case KEY_STAGE: c->stage_name = arg; return 0;
    case KEY_SEQ_LEN: c->seq_len = arg; return 0;
    case 'b': c->budget = arg; return 0;
    case KEY_HEADS: c->heads = arg; return 0;
    case KEY_KV_HEADS: c->kv_heads = arg; return 0;
    case KEY_HEAD_DIM: c->head_dim = arg; return 0;
    case KEY_DTYPE: c->dtype = arg; return 0;
    case KEY_BATCH: c->batch = arg; return 0;
    case KEY_SINKS: c->sinks = arg; return 0;
    case KEY_RECENT: c->recent = arg; return 0;
    case KEY_SEED: c->seed = arg; return 0;
    case KEY_LIMIT: c->limit = arg; return 0;
    case KEY_CAP: c->cap = arg; return 0;
    case KEY_ONLY: c->only = arg; return 0;
    case KEY_CHECK_ONLY: c->session.options.check_only = true; return 0;
    case KEY_GPU: c->gpu = true; return 0;
    case KEY_SHOW: c->show = true; return 0;
    case KEY_NO_SEARCH: c->session.no_search = true; return 0;
    case KEY_SEARCH_ROWS: c->gpu = c->search_rows = true; return 0;
    case KEY_WATCH:
        c->watch = true;
        c->versions = arg;
        return 0;
    case KEY_COUNTERS:
        c->session.options.count = adm_tune_count;
        c->session.options.count_set = arg;
        return 0;
    case KEY_LABEL: c->label = arg; return 0;
    case KEY_DEVICE: c->device = arg; return 0;
    case KEY_ARCH: c->session.arch = arg; return 0;
    case KEY_SET:
        if (c->n_set == ADM_TUNE_MAX_PARAMETERS) argp_error(state, "--set: given more than %d times", ADM_TUNE_MAX_PARAMETERS);
        c->set[c->n_set++] = arg;
        return 0;
    case ARGP_KEY_ARGS:
        c->paths = state->argv + state->next;
        c->n_paths = (size_t)(state->argc - state->next);
        return 0;
    case ARGP_KEY_END:
        if (c->stage_name == NULL && !c->show && c->n_paths == 0)
            argp_error(state, "--stage is needed: which stage's rows are judged?");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&adm_argp_db, 0, NULL, 0}, {&adm_argp_output, 0, NULL, 0}, {0}};
static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "[CANDIDATE...]",
    .children = children,
    .doc =
        "Judges kernels of your own beside the registry's: right or wrong, and where; then how fast.\v"
        "A candidate is a .c or .cu file with one function of the stage's contract (`adamas kernel header` prints it), an .so "
        "with a table of them, or the .json manifest of a .cubin or .ptx. Each runs in a process of its own on inputs that it "
        "cannot know. The exit code is 0 if every candidate is right, 1 if one is wrong, 2 if one cannot be loaded, and 77 if "
        "this machine could not judge one."};

/* --- Values --------------------------------------------------------------------------------------------------------- */

/* The stage that the first candidate says it is of. */
static adm_status stage_of_candidate(tune_command *c, adm_error *err) {
    bool stages[ADM_N_STAGES] = {false};
    const char *path;
    adm_error unused;
    size_t n = 0;
    adm_status status = adm_tune_check_file(c->paths[0], err);
    if (status != ADM_OK) return status;
    status = adm_bring_stages(c->paths[0], stages, &path, &unused);
    for (int s = 0; s < ADM_N_STAGES && status == ADM_OK; s++)
        if (stages[s]) c->session.stage = (adm_stage)s, n++;
    return n == 1 ? ADM_OK
                  : adm_fail(err, ADM_EINPUT, "--stage is needed: %s does not say which one stage it implements", c->paths[0]);
}

static adm_status parse_stage(tune_command *c, adm_error *err) {
    if (c->stage_name == NULL) return stage_of_candidate(c, err);
    const char *names[ADM_N_STAGES];
    bool found[ADM_N_STAGES] = {false};
    adm_stage_names(names);
    adm_status status = adm_parse_words("--stage", c->stage_name, names, ADM_N_STAGES, found, err);
    size_t n = 0;
    for (int s = 0; s < ADM_N_STAGES; s++)
        if (found[s]) c->session.stage = (adm_stage)s, n++;
    return status == ADM_OK && n != 1 ? adm_fail(err, ADM_EINPUT, "--stage: one stage per session") : status;
}

static adm_status parse_dtype(tune_command *c, adm_error *err) {
    static const char *const names[] = {"f32", "f16", "bf16"}; /* by adm_dtype */
    bool found[3] = {false};
    adm_status status = adm_parse_words("--dtype", c->dtype != NULL ? c->dtype : "f16", names, 3, found, err);
    if (status == ADM_OK && found[0] + found[1] + found[2] != 1)
        status = adm_fail(err, ADM_EINPUT, "--dtype: one type per session");
    c->session.options.dtype = found[0] ? ADM_F32 : found[1] ? ADM_F16 : ADM_BF16;
    return status;
}

static adm_status parse_values(tune_command *c, adm_error *err) {
    adm_tune_options *o = &c->session.options;
    uint64_t limit_s = 10, cap_ms = 500;
    uint32_t device = 0;
    o->target = 0.01;
    o->should_stop = adm_interrupted;
    adm_status status = parse_stage(c, err);
    if (status == ADM_OK && o->count_set != NULL) status = adm_tune_count_check(o->count_set, err);
    if (status == ADM_OK) status = parse_dtype(c, err);
    if (status == ADM_OK) status = adm_option_u32("--heads", c->heads, 1, 256, 32, &o->shape.n_q_heads, err);
    if (status == ADM_OK) status = adm_option_u32("--kv-heads", c->kv_heads, 1, 256, 8, &o->shape.n_kv_heads, err);
    if (status == ADM_OK) status = adm_option_u32("--head-dim", c->head_dim, 1, 256, 128, &o->shape.head_dim, err);
    if (status == ADM_OK) status = adm_shape_check(&o->shape, err);
    if (status == ADM_OK) status = adm_option_u32("--seq-len", c->seq_len, 1, 1 << 20, 0, &o->n_tokens, err);
    if (status == ADM_OK) status = adm_option_u32("--budget", c->budget, 1, 1 << 20, 256, &o->rule.budget, err);
    if (status == ADM_OK) status = adm_option_u32("--batch", c->batch, 1, 64, 1, &o->batch, err);
    if (status == ADM_OK) status = adm_option_u32("--sinks", c->sinks, 0, 1 << 20, 0, &o->rule.n_sinks, err);
    if (status == ADM_OK) status = adm_option_u32("--recent", c->recent, 0, 1 << 20, 0, &o->rule.n_recent, err);
    if (status == ADM_OK) status = adm_select_rule_check(&o->rule, err);
    if (status == ADM_OK && c->seed != NULL) status = adm_parse_u64("--seed", c->seed, 1, INT64_MAX, &o->seed, err);
    if (status == ADM_OK) status = adm_option_u64("--limit-s", c->limit, 1, 600, 10, &limit_s, err);
    if (status == ADM_OK) status = adm_option_u64("--cap-ms", c->cap, 1, 60000, 500, &cap_ms, err);
    if (status == ADM_OK) status = adm_option_u32("--device", c->device, 0, 63, 0, &device, err);
    if (o->n_tokens == 0) o->n_tokens = 32768;
    o->limit_ns = limit_s * 1000000000u;
    o->cap_ns = cap_ms * 1000000u;
    c->session.device = (int)device;
    return status;
}

static bool is_by_budget(adm_stage s) { return s == ADM_STAGE_TOPK || s == ADM_STAGE_ATTENTION || s == ADM_STAGE_STEP; }

static bool brings_cuda(const tune_command *c) {
    for (size_t i = 0; i < c->n_paths; i++) {
        const char *dot = strrchr(c->paths[i], '.');
        if (dot != NULL && strcmp(dot, ".cu") == 0) return true;
    }
    return false;
}

static adm_status refuse_idle(const tune_command *c, adm_error *err) {
    const bool nothing_searched = c->session.no_search && c->n_paths == 0 && !c->search_rows;
    return adm_refuse_idle(&(adm_idle_option){nothing_searched, "--no-search", "without a candidate"}, 1, err);
}

/* What was given and changes nothing, once it is known that there is something to judge. */
static void note_idle(const tune_command *c) {
    const bool by_budget = is_by_budget(c->session.stage);
    static const char *const no_budget = "to this stage, which attends to all or selects nothing";
    const adm_idle_option said[] = {
        {c->session.options.check_only && c->cap != NULL, "--cap-ms", "with --check-only"},
        {c->budget != NULL && !by_budget, "--budget", no_budget},
        {c->sinks != NULL && !by_budget, "--sinks", no_budget},
        {c->recent != NULL && !by_budget, "--recent", no_budget},
        {c->session.arch != NULL && !brings_cuda(c), "--arch", "without a .cu file"},
    };
    adm_note_idle(said, sizeof said / sizeof *said, c->common.quiet);
}

/* --- Candidates ----------------------------------------------------------------------------------------------------- */

static adm_status collect(tune_command *c, adm_error *err) {
    adm_tune_session *s = &c->session;
    adm_tune_list rows[2] = {{0}};
    bool on[2] = {!c->gpu, c->gpu};
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < c->n_paths; i++) status = adm_tune_session_add(s, c->paths[i], err);
    if (s->list[0].n + s->list[1].n > 0 && !c->gpu) on[0] = false;
    for (int side = 0; side < 2 && status == ADM_OK; side++)
        if (on[side] || s->list[side].n > 0) status = adm_tune_add_rows(&rows[side], s->stage, side, c->only, err);
    if (status == ADM_OK && c->search_rows) status = adm_tune_add_ways(&rows[1], s->stage, c->only, err);
    for (int side = 0; side < 2; side++) {
        if (status == ADM_OK) status = adm_tune_append(&rows[side], &s->list[side], err);
        adm_free(&s->list[side].c);
        s->list[side] = rows[side];
    }
    if (status == ADM_OK && s->list[0].n + s->list[1].n == 0)
        status = adm_fail(err, c->gpu ? ADM_EUNSUPPORTED : ADM_EINPUT, "the stage %s has no rows %s, and no candidate is given",
                          adm_stage_name(s->stage), c->gpu ? "in this build, which has no CUDA kernels" : "on the host");
    if (status == ADM_OK && s->options.batch > 1 && s->list[0].n > 0)
        status = adm_fail(err, ADM_EINPUT, "--batch: the host's stages take one sequence; it is for candidates on a GPU");
    if (status == ADM_OK && s->options.count != NULL && s->list[1].n == 0)
        status = adm_fail(err, ADM_EINPUT,
                          "--counters counts on a GPU, and these candidates run on the host: `adamas replay "
                          "--counters host` counts the registry's rows there");
    if (status == ADM_OK)
        status = adm_refuse_idle(
            &(adm_idle_option){c->device != NULL && s->list[1].n == 0, "--device", "here, where nothing runs on a GPU"}, 1,
            err);
    for (size_t i = 0; i < c->n_set && status == ADM_OK; i++) status = adm_tune_session_set(s, c->set[i], err);
    return status;
}

/* --- The run -------------------------------------------------------------------------------------------------------- */

static adm_status begin_run(const tune_command *c, adm_store *store, uint64_t seed, int64_t *run_id, adm_error *err) {
    char driver[16], runtime[16];
    const adm_device_info *gpu = &c->session.gpu;
    adm_run_info info = {.label = c->label != NULL ? c->label : "",
                         .command = "tune",
                         .argv_json = c->argv_json,
                         .seed = (int64_t)seed,
                         .gpu_reason = c->session.list[1].n == 0 ? "the candidates run on the host" : c->session.no_gpu.text};
    snprintf(driver, sizeof driver, "%d.%d", gpu->driver_version / 1000, gpu->driver_version % 1000 / 10);
    snprintf(runtime, sizeof runtime, "%d.%d", gpu->runtime_version / 1000, gpu->runtime_version % 1000 / 10);
    if (c->session.list[1].n > 0 && c->session.no_gpu.status == ADM_OK) {
        info.gpu_name = gpu->name;
        info.gpu_uuid = gpu->uuid;
        info.driver_version = driver;
        info.cuda_version = runtime;
        info.gpu_reason = NULL;
    }
    adm_run_info_host(&info, &c->host);
    return adm_store_begin_run(store, &info, run_id, err);
}

static const char *device_of(const tune_command *c, int side) { return side == 0 ? c->host.cpu_model : c->session.gpu.name; }

/* The fastest right one. What the default comes to within both intervals is the default, so that noise chooses nothing. */
static size_t winner_of(const adm_tune_result *r, size_t n, size_t reference) {
    size_t best = n;
    for (size_t i = 0; i < n; i++)
        if (r[i].status == ADM_OK && r[i].n > 0 && (best == n || r[i].median_ns < r[best].median_ns)) best = i;
    if (best == n || reference >= n || r[reference].status != ADM_OK || r[reference].n == 0) return best;
    const double least = r[reference].median_ns * (1 - r[reference].ci_ratio);
    return r[best].median_ns * (1 + r[best].ci_ratio) < least ? best : reference;
}

static adm_status record_side(tune_command *c, int side, adm_tune_record *record, adm_error *err) {
    const adm_tune_list *list = &c->session.list[side];
    const size_t reference = adm_tune_default_of(list->c, list->n);
    const size_t best = winner_of(c->session.result[side], list->n, reference);
    adm_status status = ADM_OK;
    record->device = device_of(c, side);
    for (size_t i = 0; status == ADM_OK && i < list->n; i++)
        status = adm_tune_record_put(record, &list->c[i], &c->session.result[side][i], err);
    if (status == ADM_OK && best < list->n)
        status = adm_tune_record_winner(record, &list->c[best], &c->session.result[side][best],
                                        reference < list->n ? c->session.result[side][reference].median_ns : 0, err);
    return status;
}

static adm_status record_all(tune_command *c, uint64_t seed, int64_t *run_id, adm_error *err) {
    adm_store *store = NULL;
    adm_status status = adm_store_open(c->common.db_path, ADM_STORE_WRITE, &store, err);
    if (status == ADM_OK) status = begin_run(c, store, seed, run_id, err);
    if (status == ADM_OK) {
        adm_tune_record record = {.store = store, .run_id = *run_id, .options = &c->session.options};
        for (int side = 0; side < 2 && status == ADM_OK; side++)
            if (c->session.judged[side]) status = record_side(c, side, &record, err);
        const bool stopped = adm_interrupted();
        adm_status ended = adm_store_end_run(store, *run_id,
                                             status != ADM_OK ? "failed"
                                             : stopped        ? "interrupted"
                                                              : "complete",
                                             status != ADM_OK ? err->text
                                             : stopped        ? "interrupted"
                                                              : NULL,
                                             status == ADM_OK ? err : NULL);
        if (status == ADM_OK) status = ended;
    }
    adm_store_close(&store);
    return status;
}

static adm_status print_all(tune_command *c, int64_t run_id, uint64_t seed, double elapsed_s, adm_error *err) {
    json_t *rows = json_array();
    for (int side = 0; side < 2; side++) {
        const adm_tune_list *list = &c->session.list[side];
        if (!c->session.judged[side]) continue;
        const size_t reference = adm_tune_default_of(list->c, list->n);
        if (c->common.json) adm_tune_json_rows(rows, list->c, c->session.result[side], list->n, reference);
        else if (!c->common.quiet)
            adm_tune_print_table(&c->session.options, c->session.stage, device_of(c, side), list->c, c->session.result[side],
                                 list->n, reference);
    }
    if (c->common.json)
        return adm_print_json(json_pack("{s:I, s:s, s:I, s:f, s:f, s:o}", "run_id", (json_int_t)run_id, "stage",
                                        adm_stage_name(c->session.stage), "seed", (json_int_t)seed, "elapsed_s", elapsed_s,
                                        "compile_s", (double)c->session.compile_ns * 1e-9, "candidates", rows),
                              err);
    json_decref(rows);
    if (!c->common.quiet) {
        adm_print("\nrun %lld in %s", (long long)run_id, c->common.db_path);
        if (seed != 0) adm_print(", seed %llu", (unsigned long long)seed);
        adm_print(", %.1f s\n", elapsed_s);
    }
    return adm_finish_output(err);
}

/* The exit code of a session that was held: the candidates', not the rows'. */
static int verdict_code(const tune_command *c) {
    adm_tune_tally tally = {0};
    for (int side = 0; side < 2; side++)
        for (size_t i = 0; c->session.judged[side] && i < c->session.list[side].n; i++) {
            const adm_tune_result *r = &c->session.result[side][i];
            if (c->session.list[side].c[i].kind == ADM_CANDIDATE_ROW && c->n_paths > 0 && r->status == ADM_EUNSUPPORTED)
                continue;
            adm_tune_tally_add(&tally, &c->session.list[side].c[i], r);
        }
    const adm_status status = adm_tune_tally_status(&tally, NULL);
    return adm_interrupted() ? 130 : status == ADM_EINTERNAL ? 1 : adm_exit_code(status);
}

static adm_status tune(tune_command *c, uint64_t start_ns, adm_error *err) {
    adm_tune_session *s = &c->session;
    int64_t run_id = 0;
    s->quiet = c->common.quiet || c->common.json;
    s->shows_progress = !c->common.quiet;
    adm_host_info_read(&c->host);
    adm_status status = collect(c, err);
    if (status == ADM_OK) note_idle(c);
    if (status == ADM_OK) status = adm_tune_session_prepare(s, err);
    if (status == ADM_OK) status = adm_tune_session_judge(s, err);
    if (status == ADM_OK) status = record_all(c, s->seed, &run_id, err);
    if (status == ADM_OK) status = print_all(c, run_id, s->seed, (double)(adm_clock_ns() - start_ns) * 1e-9, err);
    return status;
}

/* --watch: one run, a row per version. */
static adm_status watch(tune_command *c, adm_error *err) {
    adm_store *store = NULL;
    uint64_t n_versions = 0;
    int64_t run_id = 0;
    char arch[32], shown[PATH_MAX];
    adm_status status = c->versions != NULL ? adm_parse_u64("--watch", c->versions, 1, 100000, &n_versions, err) : ADM_OK;
    if (status == ADM_OK && c->n_paths != 1)
        status = adm_fail(err, ADM_EINPUT, "--watch: one .c or .cu file, not %zu", c->n_paths);
    if (status == ADM_OK) status = adm_tune_scratch_open(&c->session.scratch, err);
    adm_host_info_read(&c->host);
    if (status == ADM_OK)
        status = adm_tune_add_file(&c->session.list[0], c->session.stage, c->paths[0], c->session.options.limit_ns, err);
    if (status == ADM_OK && c->session.list[0].c[0].kind != ADM_CANDIDATE_SOURCE)
        status = adm_fail(err, ADM_EINPUT, "--watch: %s is no .c or .cu file", c->paths[0]);
    if (status != ADM_OK) return status;
    const bool on_gpu = c->session.list[0].c[0].on_gpu;
    if (on_gpu) {
        c->session.list[1] = c->session.list[0];
        c->session.list[0] = (adm_tune_list){0};
        adm_tune_session_find_gpu(&c->session);
    }
    adm_tune_session_arch(&c->session, arch, sizeof arch);
    if (!c->common.quiet)
        adm_print_to(stderr, "watching %s: save it, and it is judged again; Ctrl-C ends the session\n",
                     adm_printable(c->paths[0], shown, sizeof shown));
    status = adm_store_open(c->common.db_path, ADM_STORE_WRITE, &store, err);
    if (status == ADM_OK) status = begin_run(c, store, 0, &run_id, err);
    if (status == ADM_OK) {
        adm_tune_record record = {
            .store = store, .run_id = run_id, .options = &c->session.options, .device = device_of(c, on_gpu)};
        const adm_tune_watch w = {.stage = c->session.stage,
                                  .path = c->paths[0],
                                  .arch = arch,
                                  .device = c->session.device,
                                  .gpu_is_there = c->session.no_gpu.status == ADM_OK,
                                  .n_versions = (size_t)n_versions,
                                  .only = c->only,
                                  .set = c->set,
                                  .n_set = c->n_set,
                                  .quiet = c->common.quiet,
                                  .json = c->common.json,
                                  .scratch = &c->session.scratch,
                                  .compiled = adm_tune_show_errors};
        status = adm_tune_watch_run(&w, &c->session.options, &record, err);
        adm_status ended = adm_store_end_run(store, run_id, status == ADM_OK ? "complete" : "failed",
                                             status == ADM_OK ? NULL : err->text, status == ADM_OK ? err : NULL);
        if (status == ADM_OK) status = ended;
        if (status == ADM_OK && !c->common.quiet && !c->common.json)
            adm_print("run %lld in %s\n", (long long)run_id, c->common.db_path);
    }
    adm_store_close(&store);
    return status == ADM_OK ? adm_finish_output(err) : status;
}

static adm_status show(tune_command *c, adm_error *err) {
    adm_store *store = NULL;
    adm_status status = adm_store_open(c->common.db_path, ADM_STORE_READ, &store, err);
    if (status == ADM_OK) status = adm_tune_print_tuned(store, &c->common, err);
    adm_store_close(&store);
    return status;
}

static int run(int argc, char **argv) {
    tune_command c = {.common = ADM_COMMON_DEFAULTS};
    adm_error err = {0};
    const uint64_t start_ns = adm_clock_ns();
    adm_interrupt_ask();
    c.argv_json = adm_argv_json(argc, argv);
    adm_interrupt_ask();
    adm_argp_parse(&argp, argc, argv, &c);
    static const char *const with_show[] = {"db", "json", "quiet", NULL};
    adm_status status = c.show ? adm_options_only(&argp, argc, argv, "show", with_show, &err) : parse_values(&c, &err);
    if (status == ADM_OK && c.show && c.n_paths > 0)
        status = adm_fail(&err, ADM_EINPUT, "--show shows what was tuned before, and takes no candidate");
    if (status == ADM_OK && !c.show) status = refuse_idle(&c, &err);
    if (status == ADM_OK && c.argv_json == NULL) status = adm_fail(&err, ADM_EENVIRONMENT, "out of memory");
    if (status == ADM_OK) status = c.show ? show(&c, &err) : c.watch ? watch(&c, &err) : tune(&c, start_ns, &err);
    const bool lacks_gpu = c.watch && c.session.list[1].n > 0 && c.session.no_gpu.status != ADM_OK;
    const int code = status != ADM_OK || c.show ? 0 : c.watch ? (lacks_gpu ? 77 : 0) : verdict_code(&c);
    adm_tune_session_close(&c.session);
    adm_free(&c.argv_json);
    return status == ADM_OK ? code : adm_report_error(&err);
}

const adm_command adm_cmd_tune = {"tune", "judge kernels of your own: right, how fast, what limits them", run};
