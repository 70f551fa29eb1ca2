/* gpu_child.c: one GPU candidate's process; see gpu_child.h. */
#include "kernels/tune/gpu/gpu_child.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/system/clock.h"
#include "core/base/mem.h"
#include "core/base/minmax.h"
#include "kernels/gpu/bandwidth.h"
#include "kernels/gpu/memory.h"
#include "kernels/gpu/observe.h"
#include "kernels/gpu/ways.h"
#include "kernels/gpu_work.h"
#include "kernels/profile/check.h"
#include "kernels/tune/candidate/adamas_plugin.h"
#include "kernels/tune/gpu/gpu_compare.h"
#include "kernels/tune/candidate/module.h"
#include "kernels/tune/candidate/plugin.h"
#include "kernels/tune/host/topk_words.h"

/* --- The candidate as a row of the registry ------------------------------------------------------------------------- */

/* A launcher's type has no room for a context, and this process judges one candidate. */
static struct own {
    adamas_gpu_fn *run;
    adm_module *module;
    adm_tune_module *loaded;
    const adm_gpu_ways *ways; /* a row with chosen parameters */
    const int64_t *chosen;
    size_t (*workspace_bytes)(const void *shape);
    void *workspace;
    size_t have_bytes;
    adm_gpu_impl impl;
} own;

static adm_status launch_own(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                             adm_error *err) {
    adm_gpu_buffers mine = *buffers;
    if (own.ways != NULL) return own.ways->launch(shape, buffers, own.chosen, stream, err);
    mine.workspace = own.workspace;
    if (own.module != NULL) {
        adm_tune_launch launch;
        adm_status status = adm_module_launch(own.module, shape, &mine, &launch, err);
        return status == ADM_OK ? adm_tune_module_run(own.loaded, &launch, stream, err) : status;
    }
    const int result = own.run((const adamas_gpu_shape *)shape, (const adamas_gpu_buffers *)&mine, (adamas_stream)stream);
    if (result == 0) return ADM_OK;
    if (result == ADAMAS_UNSUPPORTED) return adm_fail(err, ADM_EUNSUPPORTED, "does not take this shape");
    return adm_fail(err, ADM_EENVIRONMENT, "its launcher returned error %d: %s", result, adm_tune_cuda_words(result));
}

static uint32_t covers_of(adm_stage stage) {
    if (stage != ADM_STAGE_STEP) return 1u << stage;
    uint32_t covers = 0;
    for (adm_stage s = ADM_STAGE_HADAMARD; s <= ADM_STAGE_ATTENTION; s++) covers |= 1u << s;
    return covers;
}

static adm_status load(const adm_gpu_defendant *d, adm_error *err) {
    adm_plugin_loaded loaded = {0};
    const bool is_float = d->c->stage >= ADM_STAGE_ATTENTION;
    own.impl = (adm_gpu_impl){.stage = d->c->stage,
                              .name = "candidate",
                              .summary = "",
                              .covers = covers_of(d->c->stage),
                              .tolerance = is_float ? 0x1p-8 : 0, /* as our own rows: gpu_rows.c derives it */
                              .launch = launch_own};
    if (d->c->gpu_row != NULL) own.impl = *d->c->gpu_row;
    if (d->c->gpu_row != NULL && d->c->n_parameters > 0) {
        own.ways = adm_gpu_ways_of(d->c->gpu_row);
        own.chosen = d->c->chosen;
        own.impl.launch = launch_own;
    }
    if (d->c->kind == ADM_CANDIDATE_ROW || d->c->kind == ADM_CANDIDATE_MODULE) return ADM_OK;
    adm_status status = adm_plugin_load(d->c, &loaded, err);
    own.run = (adamas_gpu_fn *)loaded.run;
    own.workspace_bytes = loaded.workspace_bytes;
    return status;
}

/* The workspace for a shape, zeroed, as the contract says. */
static adm_status prepare_workspace(const adm_gpu_shape *shape, adm_error *err) {
    size_t bytes = 0;
    adm_status status = ADM_OK;
    if (own.module != NULL) status = adm_module_workspace(own.module, shape, &bytes, err);
    else if (own.workspace_bytes != NULL) bytes = own.workspace_bytes(shape);
    if (own.workspace != NULL) adm_gpu_release(&own.workspace);
    if (status == ADM_OK && bytes > 0) status = adm_gpu_allocate(bytes, 0, &own.workspace, err);
    return status;
}

/* A module is loaded once the device is open. */
static adm_status load_module(const adm_gpu_defendant *d, adm_error *err) {
    const char *path, *kernel;
    adm_status status = ADM_OK;
    if (d->c->kind != ADM_CANDIDATE_MODULE) return ADM_OK;
    status = adm_module_open(d->c, &own.module, &path, &kernel, err);
    return status == ADM_OK ? adm_tune_module_load(path, kernel, &own.loaded, err) : status;
}

static adm_status open_device(const adm_gpu_defendant *d, adm_gpu **gpu, adm_error *err) {
    adm_status status = adm_gpu_open(d->device, gpu, err);
    return status == ADM_OK && !d->screens ? load_module(d, err) : status;
}

/* --- Checking ------------------------------------------------------------------------------------------------------- */

/* Small shapes: odd lengths, an empty sequence, pages, a group's selection, a budget above the length. */
static const struct {
    uint32_t n_q, n_kv, batch, length[5], page_size;
    adm_select_rule rule;
    adm_selection selection;
} checks[] = {
    {4, 2, 1, {1001}, 0, {37, 0, 0}, ADM_SELECT_HEAD},      {3, 1, 5, {257, 33, 1021, 1, 64}, 0, {65, 4, 16}, ADM_SELECT_HEAD},
    {8, 2, 1, {90}, 0, {128, 0, 0}, ADM_SELECT_HEAD},       {2, 2, 3, {0, 513, 2}, 0, {33, 1, 1}, ADM_SELECT_HEAD},
    {4, 2, 2, {515, 77}, 16, {100, 0, 0}, ADM_SELECT_HEAD}, {4, 2, 1, {777}, 0, {101, 0, 0}, ADM_SELECT_GROUP},
};

uint32_t adm_gpu_n_checks(void) { return sizeof checks / sizeof *checks; }

static adm_gpu_shape shape_of(const adm_tune_options *o, uint32_t n_q, uint32_t n_kv, uint32_t batch, uint32_t longest,
                              const adm_select_rule *rule) {
    const float d = (float)o->shape.head_dim;
    return (adm_gpu_shape){.heads = {n_q, n_kv, o->shape.head_dim},
                           .dtype = o->dtype,
                           .batch = batch,
                           .capacity = (longest + 31) / 32 * 32,
                           .rule = *rule,
                           .threshold = {-0.674f, 0, 0.674f},
                           .scale = 1 / sqrtf(d)};
}

/* What one case is checked with. */
typedef struct subject {
    adm_gpu *gpu;
    adm_gpu_case *c;
    adm_profile_reference *reference;
    adm_gpu_shape shape;
    const uint32_t *length;
    const adm_gpu_impl *before[8]; /* the stages whose results it reads */
    size_t n_before;
    const adm_gpu_impl *row; /* the registry's for the same stage */
    adm_profile_unit unit;
} subject;

static adm_status find_rows(subject *s, adm_stage stage, adm_error *err) {
    adm_profile_unit six;
    if (!adm_profile_six_stages(ADM_METRIC_L1, &six))
        return adm_fail(err, ADM_EUNSUPPORTED, "this build has no CUDA kernels to set a stage up with");
    for (size_t i = 0; i < six.n_impls && stage < ADM_STAGE_STEP && six.impl[i]->stage < stage; i++)
        s->before[s->n_before++] = six.impl[i];
    for (size_t i = 0; i < adm_gpu_registry_count() && s->row == NULL; i++) {
        const adm_gpu_impl *row = adm_gpu_registry_at(i);
        if (stage == ADM_STAGE_STEP ? row->stage == stage : row->covers == 1u << stage) s->row = row;
    }
    return s->row != NULL ? ADM_OK : adm_fail(err, ADM_EUNSUPPORTED, "the registry has no row of this stage to compare with");
}

static adm_status open_subject(adm_gpu *gpu, adm_stage stage, const adm_gpu_shape *shape, const adm_gpu_inputs *inputs,
                               bool cold, subject *s, adm_error *err) {
    *s = (subject){.gpu = gpu, .shape = *shape, .length = inputs->length};
    s->unit = (adm_profile_unit){
        .stage = stage, .variant = own.impl.name, .budget = shape->rule.budget, .impl = {&own.impl}, .n_impls = 1};
    adm_status status = find_rows(s, stage, err);
    if (status == ADM_OK) status = adm_gpu_case_create(gpu, shape, inputs, cold, &s->c, err);
    return status == ADM_OK ? prepare_workspace(shape, err) : status;
}

/* The host's answers, which take longer than all else. */
static adm_status open_reference(subject *s, const adm_gpu_inputs *inputs, adm_error *err) {
    return adm_profile_reference_create(&s->shape, inputs, 0, NULL, &s->reference, err);
}

static void close_subject(subject *s) {
    adm_profile_reference_free(&s->reference);
    adm_gpu_case_free(&s->c);
}

/* The new token's rows of K, V and planes: append has no other output, and a case holds the right ones from the start. */
static adm_status poison_newest(const subject *s, uint32_t set, adm_error *err) {
    const adm_gpu_buffers *b = adm_gpu_case_buffers(s->c, set);
    const uint32_t d = s->shape.heads.head_dim, n_kv = s->shape.heads.n_kv_heads, words = d / 32;
    const size_t row_bytes = d * adm_dtype_bytes(s->shape.dtype);
    const int32_t *pages = adm_gpu_case_pages(s->c);
    adm_status status = ADM_OK;
    for (uint32_t i = 0; i < s->shape.batch * n_kv && status == ADM_OK; i++) {
        const uint32_t sequence = i / n_kv, head = i % n_kv;
        if (s->length[sequence] == 0) continue;
        const uint32_t t = s->length[sequence] - 1, page = s->shape.page_size;
        const size_t row = page == 0 ? (size_t)i * s->shape.capacity + t
                                     : ((size_t)pages[(size_t)sequence * s->shape.max_pages + t / page] * n_kv + head) * page +
                                           t % page;
        uint32_t *tile = b->planes + ((size_t)i * (s->shape.capacity / 32) + t / 32) * 64 * words;
        status = adm_gpu_fill((char *)b->k + row * row_bytes, 0xff, row_bytes, err);
        if (status == ADM_OK) status = adm_gpu_fill((char *)b->v + row * row_bytes, 0xff, row_bytes, err);
        if (status == ADM_OK) status = adm_gpu_fill(tile + t % 32 * words, 0x5a, words * 4, err);
        if (status == ADM_OK) status = adm_gpu_fill(tile + (32 + t % 32) * words, 0xa5, words * 4, err);
    }
    return status;
}

/* Puts what the stage reads in place, and poison where it writes. */
static adm_status set_up(const subject *s, uint32_t set, adm_error *err) {
    const uint32_t covers = adm_profile_covers(&s->unit);
    adm_status status = ADM_OK;
    adm_gpu_case_set_rule(s->c, &s->shape.rule);
    if (s->n_before > 0) status = adm_gpu_case_run(s->c, s->before, s->n_before, set, err);
    if (status == ADM_OK) status = adm_gpu_case_poison(s->c, set, covers, err);
    if (status == ADM_OK && covers >> ADM_STAGE_APPEND & 1) status = poison_newest(s, set, err);
    return status == ADM_OK ? adm_gpu_wait(s->gpu, err) : status;
}

static adm_status run_on(const subject *s, const adm_gpu_impl *impl, uint32_t set, adm_error *err) {
    return adm_gpu_case_run(s->c, &impl, 1, set, err);
}

/* Every head's results against those of the registry's row, which the host has checked on some. is_there: they are in place.
 * kept: the row's answer is taken from there, where it is, and left there; NULL: it is found anew. */
static adm_status compare_with_row(const subject *s, uint32_t set, bool is_there, adm_gpu_copy *kept, adm_error *err) {
    adm_gpu_output o[ADM_MAX_OUTPUTS];
    adm_gpu_copy mine = {{NULL}}, own_copy = {{NULL}}, *right = kept != NULL ? kept : &own_copy;
    const adm_gpu_shape shape = adm_gpu_case_shape(s->c, set);
    const size_t n = adm_gpu_outputs(s->unit.stage, &shape, adm_gpu_case_buffers(s->c, set), o);
    adm_status status = is_there ? ADM_OK : set_up(s, set, err);
    if (status == ADM_OK && !is_there) status = run_on(s, &own.impl, set, err);
    if (status == ADM_OK) status = adm_gpu_copy_outputs(s->gpu, o, n, &mine, err);
    if (right->bytes[0] == NULL) {
        if (status == ADM_OK) status = set_up(s, set, err);
        if (status == ADM_OK) status = run_on(s, s->row, set, err);
        if (status == ADM_OK) status = adm_gpu_copy_outputs(s->gpu, o, n, right, err);
        if (status != ADM_OK) adm_gpu_copy_free(right);
    }
    if (status == ADM_OK) /* both may be off by the tolerance */
        status = adm_gpu_compare_copies(o, n, &shape, s->length, &mine, right, 2 * own.impl.tolerance, err);
    adm_gpu_copy_free(&mine);
    adm_gpu_copy_free(&own_copy);
    return status;
}

/* Nothing but the outputs may change. */
static adm_status compare_rest(const subject *s, adm_error *err) {
    adm_gpu_output o[ADM_N_STAGES * ADM_MAX_OUTPUTS];
    adm_gpu_snapshot before = {.n = {0}}, after = {.n = {0}};
    const adm_gpu_shape shape = adm_gpu_case_shape(s->c, 0);
    const uint32_t covers = adm_profile_covers(&s->unit);
    size_t n = 0;
    for (adm_stage stage = ADM_STAGE_HADAMARD; stage <= ADM_STAGE_DENSE; stage++)
        if (covers >> stage & 1 && stage != ADM_STAGE_STEP)
            n += adm_gpu_outputs(stage, &shape, adm_gpu_case_buffers(s->c, 0), o + n);
    adm_status status = set_up(s, 0, err);
    if (status == ADM_OK) status = adm_gpu_snapshot_take(s->gpu, s->c, &before, err);
    if (status == ADM_OK) status = run_on(s, &own.impl, 0, err);
    if (status == ADM_OK) status = adm_gpu_snapshot_take(s->gpu, s->c, &after, err);
    if (status == ADM_OK) status = adm_gpu_snapshot_compare(&before, &after, s->c, o, n, covers >> ADM_STAGE_APPEND & 1, err);
    adm_gpu_snapshot_free(&before);
    adm_gpu_snapshot_free(&after);
    return status;
}

/* A wrong selection in words: which token is missing, and why it belongs there. Leaves the sentence alone where it finds
 * nothing. */
static void say_selection(const subject *s, adm_error *err) {
    adm_profile_reference *r = s->reference;
    const adm_gpu_buffers *b = adm_gpu_case_buffers(s->c, 0);
    const uint32_t budget = s->shape.rule.budget, per_sequence = adm_gpu_select_heads(&s->shape);
    adm_error why = {0};
    char where[64];
    for (size_t i = 0; i < r->n_heads && why.status == ADM_OK; i++)
        for (uint32_t k = 0; k < r->selections && why.status == ADM_OK; k++) {
            const adm_checked_head *h = &r->head[i];
            const size_t row = (size_t)h->sequence * per_sequence + h->kv_head * r->selections + k;
            uint32_t n, n_found = 0;
            const uint32_t *index = adm_profile_selection(r, h, k, &n);
            if (adm_gpu_read(s->gpu, b->n_selected + row, sizeof n_found, &n_found, &why) != ADM_OK ||
                adm_gpu_read(s->gpu, b->index + row * budget, n * sizeof *r->found, r->found, &why) != ADM_OK)
                return;
            snprintf(where, sizeof where, "sequence %u, selection %zu", h->sequence, row % per_sequence);
            adm_topk_verify(h->distance[0] + (size_t)k * h->n_tokens, h->n_tokens, &s->shape.rule, r->found, n_found, index, n,
                            where, &why);
        }
    if (why.status != ADM_OK) *err = why;
}

static adm_status check_against_host(const subject *s, adm_error *err) {
    adm_status status = set_up(s, 0, err);
    if (status == ADM_OK) status = adm_profile_check(s->gpu, s->c, s->reference, &s->unit, err);
    if (status == ADM_EINTERNAL && s->unit.stage == ADM_STAGE_TOPK) say_selection(s, err);
    return status;
}

/* A launch that fails is the candidate's fault, and CUDA may say so only later; memory of our own that ran out is not. */
static adm_status blame(adm_status status) {
    return status == ADM_EENVIRONMENT && !adm_memory_ran_out() ? ADM_EINTERNAL : status;
}

/* The shape in words, in front of a sentence. */
static adm_status at_shape(const subject *s, adm_status status, adm_error *err) {
    char text[sizeof err->text];
    if (status == ADM_OK || status == ADM_EUNSUPPORTED) return status;
    snprintf(text, sizeof text, "%s", err->text);
    return adm_fail(err, blame(status), "%u/%u heads, %u tokens, budget %u%s%s%s: %s", s->shape.heads.n_q_heads,
                    s->shape.heads.n_kv_heads, s->length[0], s->shape.rule.budget, s->shape.batch > 1 ? ", ragged batch" : "",
                    s->shape.page_size > 0 ? ", pages" : "",
                    s->shape.selection == ADM_SELECT_GROUP ? ", a group's selection" : "", text);
}

static adm_status check_small(adm_gpu *gpu, const adm_gpu_defendant *d, uint32_t which, uint64_t seed, adm_error *err) {
    subject s = {.c = NULL};
    uint32_t longest = 1;
    const uint32_t batch = checks[which].batch;
    for (uint32_t b = 0; b < batch; b++)
        if (checks[which].length[b] > longest) longest = checks[which].length[b];
    adm_gpu_shape shape = shape_of(d->options, checks[which].n_q, checks[which].n_kv, batch, longest, &checks[which].rule);
    shape.page_size = checks[which].page_size;
    shape.max_pages = shape.page_size > 0 ? (shape.capacity + shape.page_size - 1) / shape.page_size : 0;
    shape.selection = checks[which].selection;
    const adm_gpu_inputs inputs = {.length = checks[which].length, .seed = seed + which};
    adm_status status = open_subject(gpu, d->c->stage, &shape, &inputs, false, &s, err);
    if (status == ADM_OK) status = open_reference(&s, &inputs, err);
    if (status == ADM_OK) status = compare_rest(&s, err); /* first, while nothing has been overwritten */
    if (status == ADM_OK) status = check_against_host(&s, err);
    if (status == ADM_OK) status = compare_with_row(&s, 0, false, NULL, err);
    status = at_shape(&s, status, err);
    close_subject(&s);
    return status;
}

/* --- Timing --------------------------------------------------------------------------------------------------------- */

enum { MAX_REPLAYED = 48 };

/* The calls that were timed, once more as a graph on poisoned outputs: what a launcher leaves out of a graph, puts on a stream
 * of its own or does only the first few times is missing now. *wall_ns: of one call, by the host's clock, the best of three. */
static adm_status replay_and_check(const subject *s, adm_gpu_copy *right, double *wall_ns, adm_error *err) {
    const uint32_t n_sets = adm_gpu_case_plan(s->c)->n_sets, n = n_sets < MAX_REPLAYED ? n_sets : MAX_REPLAYED;
    adm_gpu_graph *graph = NULL;
    adm_status status = adm_gpu_graph_begin(s->gpu, err);
    adm_error other;
    for (uint32_t i = 0; i < n && status == ADM_OK; i++) status = adm_gpu_case_launch(s->c, &own.impl, n - 1 - i, err);
    adm_status ended = adm_gpu_graph_end(s->gpu, &graph, status == ADM_OK ? err : &other);
    if (status == ADM_OK) status = ended;
    if (status == ADM_OK && s->n_before > 0) status = adm_gpu_case_run_all(s->c, s->before, s->n_before, err);
    *wall_ns = INFINITY;
    for (int pass = 0; pass < 3 && status == ADM_OK; pass++) {
        for (uint32_t i = 0; i < n && status == ADM_OK; i++)
            status = adm_gpu_case_poison(s->c, i, adm_profile_covers(&s->unit), err);
        if (status == ADM_OK) status = adm_gpu_wait(s->gpu, err);
        const uint64_t start = adm_clock_ns();
        if (status == ADM_OK) status = adm_gpu_graph_launch(graph, err);
        if (status == ADM_OK) status = adm_gpu_wait(s->gpu, err);
        *wall_ns = fmin(*wall_ns, (double)(adm_clock_ns() - start) / n);
    }
    if (status == ADM_OK) status = compare_with_row(s, 0, true, right, err);
    adm_gpu_graph_free(&graph);
    return status;
}

/* right: the registry's answer. */
static adm_status time_own(const subject *s, const adm_gpu_defendant *d, adm_gpu_copy *right, adm_gpu_reply *reply,
                           adm_error *err) {
    adm_gpu_timing timing = {0};
    const adm_gpu_impl *impl = &own.impl;
    double wall_ns = 0;
    adm_status status = adm_tune_reset_l2(err);
    if (status == ADM_OK)
        status = adm_gpu_time(s->c, &impl, 1, d->options->stream ? ADM_LAUNCH_STREAM : ADM_LAUNCH_GRAPH, d->options->target,
                              d->options->cap_ns, &timing, err);
    reply->n_samples = adm_min(timing.n_samples, (size_t)ADM_GPU_MAX_SAMPLES);
    adm_copy(reply->sample_ns, timing.sample_ns, reply->n_samples * sizeof(double));
    adm_free(&timing.sample_ns);
    adm_free(&timing.end_ns);
    if (status == ADM_OK) status = replay_and_check(s, right, &wall_ns, err);
    if (status == ADM_EINTERNAL) {
        char text[sizeof err->text];
        snprintf(text, sizeof text, "%s", err->text);
        return adm_fail(err, status,
                        "after its timing, with outputs poisoned, a replay of the timed graph gives another result: %s", text);
    }
    /* A replay's wall time has a launch and a wait in it, so it can only be longer. */
    if (status == ADM_OK && reply->n_samples > 0 && reply->sample_ns[reply->n_samples / 2] * 4 < wall_ns - 2000)
        return adm_fail(err, ADM_EINTERNAL,
                        "was timed at %.3g us per call, and the same calls took %.3g us when their results were checked",
                        reply->sample_ns[reply->n_samples / 2] * 1e-3, wall_ns * 1e-3);
    return status;
}

enum { MAX_BATCH = 64 };

/* The configuration asked for; length [batch] and *load are filled in. */
static adm_gpu_shape timed_shape(const adm_tune_options *o, uint32_t length[MAX_BATCH], adm_gpu_load *load) {
    const uint32_t batch = o->batch == 0 ? 1 : (uint32_t)adm_min(o->batch, MAX_BATCH);
    uint32_t longest = 1;
    *load = (adm_gpu_load){.n_tokens = 0};
    for (uint32_t b = 0; b < batch; b++) {
        length[b] = o->length != NULL ? o->length[b] : o->n_tokens;
        if (length[b] > longest) longest = length[b];
        load->n_tokens += length[b];
        load->n_selected += fmin(o->rule.budget, length[b]);
    }
    load->n_distinct = load->n_selected; /* at least */
    adm_gpu_shape shape = shape_of(o, o->shape.n_q_heads, o->shape.n_kv_heads, batch, longest, &o->rule);
    shape.page_size = o->page_size;
    shape.max_pages = o->page_size > 0 ? (shape.capacity + o->page_size - 1) / o->page_size : 0;
    shape.selection = o->selection;
    return shape;
}

/* What a counting works with. */
typedef struct counted_work {
    subject *s;
    adm_gpu_flusher *flusher;
    bool warm;
} counted_work;

/* On set 0 what the stages before hand over; the L2 cold, or warm with what the stage reads. */
static adm_status put_back(void *user, adm_error *err) {
    const counted_work *w = user;
    adm_status status = set_up(w->s, 0, err);
    if (status == ADM_OK) status = w->warm ? run_on(w->s, &own.impl, 0, err) : adm_gpu_flush_l2(w->flusher, err);
    return status == ADM_OK ? adm_gpu_wait(w->s->gpu, err) : status;
}

static adm_status run_counted(void *user, adm_error *err) {
    const counted_work *w = user;
    adm_status status = adm_gpu_case_launch(w->s->c, &own.impl, 0, err);
    return status == ADM_OK ? adm_gpu_wait(w->s->gpu, err) : status;
}

/* What cannot be counted is a reason beside times that stand. */
static void count(subject *s, const adm_gpu_defendant *d, const adm_gpu_load *load, adm_gpu_reply *reply) {
    const adm_tune_options *o = d->options;
    counted_work work = {.s = s, .warm = o->warm};
    const adm_work model = adm_gpu_work(&s->shape, own.impl.covers, load);
    adm_error why = {0};
    const adm_tune_counting counting = {
        .user = &work,
        .put_back = put_back,
        .run = run_counted,
        .range = {.kind = ADM_RANGE_STAGE,
                  .stage = s->unit.stage,
                  .variant = own.impl.name,
                  .config_id = 1,
                  .step = -1,
                  .layer = -1,
                  .seq_len = o->n_tokens,
                  .budget = o->rule.budget,
                  .model_bytes = model.bytes,
                  .model_flops = model.flops,
                  .model_write_bytes = adm_gpu_write_bytes(&s->shape, own.impl.covers, load),
                  .timed_ns = reply->n_samples > 0 ? reply->sample_ns[reply->n_samples / 2] : 0}};
    if (adm_gpu_flusher_create(s->gpu, &work.flusher, &why) == ADM_OK)
        o->count(o->count_set, d->device, &counting, &reply->counted, &why);
    if (why.status != ADM_OK) snprintf(reply->counted.reason, sizeof reply->counted.reason, "%.310s", why.text);
    adm_gpu_flusher_free(&work.flusher);
}

static adm_status time_configuration(adm_gpu *gpu, const adm_gpu_defendant *d, uint64_t seed, adm_gpu_reply *reply,
                                     adm_error *err) {
    const adm_tune_options *o = d->options;
    subject s = {.c = NULL};
    uint32_t length[MAX_BATCH];
    adm_gpu_load load_of_it;
    const adm_gpu_shape shape = timed_shape(o, length, &load_of_it);
    const adm_gpu_inputs inputs = {.length = length, .seed = seed};
    adm_gpu_copy right = {{NULL}};
    adm_error unused;
    adm_status status = open_subject(gpu, d->c->stage, &shape, &inputs, !o->warm, &s, err);
    if (status == ADM_OK) status = open_reference(&s, &inputs, err);
    if (status == ADM_OK) status = check_against_host(&s, err);
    if (status == ADM_OK) status = compare_with_row(&s, 0, false, &right, err);
    if (status == ADM_OK && s.n_before > 0) status = adm_gpu_case_run_all(s.c, s.before, s.n_before, err);
    if (status == ADM_OK) adm_tune_inspect(gpu, s.c, &own.impl, &reply->resources, &unused);
    if (status == ADM_OK && !o->check_only) status = time_own(&s, d, &right, reply, err);
    reply->bytes = adm_gpu_work(&shape, own.impl.covers, &load_of_it).bytes;
    if (status == ADM_OK && o->count != NULL) count(&s, d, &load_of_it, reply);
    if (status == ADM_OK && !o->check_only) adm_bandwidth_read(0, &reply->read_limit, &unused);
    if (s.c != NULL) status = blame(status);
    adm_gpu_copy_free(&right);
    close_subject(&s);
    return status;
}

/* --- Screening ------------------------------------------------------------------------------------------------------ */

/* The case of all that are screened, made by the first, and the right answer there. What is screened is checked against the
 * host before a time is kept. */
static subject screened;
static adm_gpu_copy screened_right;

static adm_status open_screened(adm_gpu *gpu, const adm_gpu_defendant *d, uint64_t seed, adm_error *err) {
    static uint32_t length[MAX_BATCH]; /* the case borrows it */
    adm_gpu_load unused;
    if (screened.c != NULL) return ADM_OK;
    const adm_gpu_shape shape = timed_shape(d->options, length, &unused);
    const adm_gpu_inputs inputs = {.length = length, .seed = seed};
    return open_subject(gpu, d->c->stage, &shape, &inputs, !d->options->warm, &screened, err);
}

static adm_status screen(adm_gpu *gpu, const adm_gpu_defendant *all, uint32_t which, uint64_t seed, adm_gpu_reply *reply,
                         adm_error *err) {
    adm_gpu_defendant d = *all;
    const adm_gpu_impl *impl = &own.impl;
    adm_gpu_timing timing = {0};
    d.c = &all->c[which];
    adm_module_close(&own.module);
    own = (struct own){.workspace = own.workspace};
    adm_status status = load(&d, err);
    if (status == ADM_OK) status = load_module(&d, err);
    if (status == ADM_OK) status = open_screened(gpu, &d, seed, err);
    if (status == ADM_OK) status = prepare_workspace(&screened.shape, err);
    if (status == ADM_OK) status = compare_with_row(&screened, 0, false, &screened_right, err);
    if (status == ADM_OK && screened.n_before > 0)
        status = adm_gpu_case_run_all(screened.c, screened.before, screened.n_before, err);
    if (status == ADM_OK)
        status = adm_gpu_time(screened.c, &impl, 1, d.options->stream ? ADM_LAUNCH_STREAM : ADM_LAUNCH_GRAPH, d.options->target,
                              d.options->cap_ns, &timing, err);
    reply->n_samples = adm_min(timing.n_samples, (size_t)ADM_GPU_MAX_SAMPLES);
    adm_copy(reply->sample_ns, timing.sample_ns, reply->n_samples * sizeof(double));
    adm_free(&timing.sample_ns);
    adm_free(&timing.end_ns);
    return status;
}

/* --- Serving -------------------------------------------------------------------------------------------------------- */

int adm_gpu_child_serve(void *user, int socket, adm_child_page *page) {
    const adm_gpu_defendant *d = user;
    static adm_gpu_reply reply; /* too large for a stack that a candidate shares */
    adm_gpu_request request;
    adm_gpu *gpu = NULL;
    adm_error err = {0};
    page->at_case = UINT32_MAX;
    adm_child_close_others(socket);
    reply = (adm_gpu_reply){.status = d->screens ? ADM_OK : load(d, &err), .resources = ADM_TUNE_NO_RESOURCES};
    snprintf(reply.text, sizeof reply.text, "%s", err.text);
    if (!adm_child_answer(socket, &reply, sizeof reply) || reply.status != ADM_OK) return 1;
    while (adm_child_receive(socket, &request, sizeof request)) {
        reply = (adm_gpu_reply){.resources = ADM_TUNE_NO_RESOURCES};
        err = (adm_error){0};
        page->at_call = request.which;
        switch (request.what) {
        case ADM_GPU_OPEN: reply.status = open_device(d, &gpu, &err); break;
        case ADM_GPU_SCREEN: reply.status = screen(gpu, d, request.which, request.seed, &reply, &err); break;
        case ADM_GPU_CHECK: reply.status = check_small(gpu, d, request.which, request.seed, &err); break;
        default: reply.status = time_configuration(gpu, d, request.seed, &reply, &err); break;
        }
        snprintf(reply.text, sizeof reply.text, "%s", err.text);
        if (!adm_child_answer(socket, &reply, sizeof reply)) return 1;
    }
    return 0;
}
