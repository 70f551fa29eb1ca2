/* grid.c: the units and configurations of a GPU profile. */
#include "kernels/profile/grid/grid.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/suggest.h"
#include "core/policy/coding.h"

/* --- Units -------------------------------------------------------------------------------------------------------- */

/* The first implementation in the registry that does this stage and nothing else. */
static const adm_gpu_impl *alone(adm_stage stage, adm_code_metric metric) {
    for (size_t i = 0; i < adm_gpu_registry_count(); i++) {
        const adm_gpu_impl *impl = adm_gpu_registry_at(i);
        if (impl->covers == 1u << stage && adm_gpu_impl_serves(impl, metric)) return impl;
    }
    return NULL;
}

bool adm_profile_by_budget(adm_stage stage) {
    return stage == ADM_STAGE_TOPK || stage == ADM_STAGE_ATTENTION || stage == ADM_STAGE_STEP;
}

bool adm_profile_six_stages(adm_code_metric metric, adm_profile_unit *unit) {
    *unit = (adm_profile_unit){.stage = ADM_STAGE_STEP, .variant = "six"};
    for (adm_stage stage = ADM_STAGE_HADAMARD; stage <= ADM_STAGE_ATTENTION; stage++) {
        const adm_gpu_impl *impl = alone(stage, metric);
        if (impl == NULL) return false;
        unit->impl[unit->n_impls++] = impl;
    }
    return true;
}

/* Splits "STAGE=NAME"; `stage` is NULL where there is none. */
static const char *split(const char *only, const char **stage, size_t *bytes) {
    const char *equals = strchr(only, '=');
    *stage = equals != NULL ? only : NULL;
    *bytes = equals != NULL ? (size_t)(equals - only) : 0;
    return equals != NULL ? equals + 1 : only;
}

static bool is_of(adm_stage stage, const char *name, size_t bytes) {
    return strlen(adm_stage_name(stage)) == bytes && strncmp(adm_stage_name(stage), name, bytes) == 0;
}

bool adm_profile_chooses(const adm_profile_options *o, adm_stage stage, const char *variant) {
    bool is_limited = false, is_named = false;
    for (size_t i = 0; i < o->n_only; i++) {
        const char *of;
        size_t bytes;
        const char *name = split(o->only[i], &of, &bytes);
        if (of != NULL && !is_of(stage, of, bytes)) continue;
        is_limited = true;
        is_named |= strcmp(name, variant) == 0;
    }
    return is_named || !is_limited;
}

#define BIT(stage) (1u << ADM_STAGE_##stage)
enum { ENCODES = BIT(BUCKET) | BIT(PACK) | BIT(APPEND), SELECTS = BIT(TOPK) | BIT(ATTENTION), UNIT_NAME_BYTES = 48 };

static bool encodes(const adm_gpu_impl *impl) { return (impl->covers & (ENCODES | ADM_GPU_COVERS_PROMPT)) != 0; }

/* l1, xor and dot compare the same codes. */
static bool shares_codes(adm_code_metric a, adm_code_metric b) { return (a == ADM_METRIC_ASYM4) == (b == ADM_METRIC_ASYM4); }

static bool is_asked_for(const adm_profile_options *o, adm_code_metric metric) {
    for (size_t i = 0; i < o->n_metrics; i++)
        if (o->metrics[i] == metric) return true;
    return false;
}

/* Whether the metric is the first of the options' whose codes are like its own. */
static bool is_first_of_codes(const adm_profile_options *o, adm_code_metric metric) {
    size_t i = 0;
    while (!shares_codes(o->metrics[i], metric)) i++;
    return o->metrics[i] == metric;
}

/* With l1 the other distances of its codes run too, for comparison, unless they have configurations of their own. */
static bool runs_distance(const adm_profile_options *o, adm_code_metric metric, const adm_gpu_impl *impl) {
    if (adm_gpu_impl_serves(impl, metric)) return true;
    return metric == ADM_METRIC_L1 &&
           (adm_gpu_impl_serves(impl, ADM_METRIC_XOR) || adm_gpu_impl_serves(impl, ADM_METRIC_DOT)) &&
           !(adm_gpu_impl_serves(impl, ADM_METRIC_XOR) && is_asked_for(o, ADM_METRIC_XOR)) &&
           !(adm_gpu_impl_serves(impl, ADM_METRIC_DOT) && is_asked_for(o, ADM_METRIC_DOT));
}

static bool runs(const adm_profile_options *o, adm_code_metric metric, const adm_gpu_impl *impl) {
    if (!o->stage[impl->stage]) return false;
    if (impl->stage == ADM_STAGE_DISTANCE) return runs_distance(o, metric, impl);
    if (!adm_gpu_impl_serves(impl, metric)) return false;
    if (impl->covers & SELECTS) return true;
    return encodes(impl) ? is_first_of_codes(o, metric) : metric == o->metrics[0];
}

/* The unit's name, in `room` where it is not the implementation's. */
static const char *variant_of(const char *name, uint32_t covers, adm_code_metric metric, char room[UNIT_NAME_BYTES]) {
    const bool matters = (covers & SELECTS) != 0 || (encodes(&(adm_gpu_impl){.covers = covers}) && metric == ADM_METRIC_ASYM4);
    if (metric == ADM_METRIC_L1 || !matters) return name;
    snprintf(room, UNIT_NAME_BYTES, "%s %s", name, adm_code_metric_name(metric));
    return room;
}

adm_status adm_profile_units(const adm_profile_options *o, adm_code_metric metric, adm_profile_unit **units, size_t *n_units,
                             adm_error *err) {
    const size_t max_units = (adm_gpu_registry_count() + 1) * (o->n_budgets + 1);
    size_t n = 0;
    adm_status status = adm_alloc(units, max_units, sizeof **units + UNIT_NAME_BYTES, "units of a profile", err);
    *n_units = 0;
    if (status != ADM_OK) return status;
    char(*room)[UNIT_NAME_BYTES] = (char(*)[UNIT_NAME_BYTES])(*units + max_units);
    /* Budgets outermost, and none first: a unit finds in memory what the stages before it left at this budget. */
    for (size_t b = 0; b <= o->n_budgets; b++) {
        uint32_t budget = b > 0 ? o->budgets[b - 1] : 0;
        for (size_t i = 0; i < adm_gpu_registry_count(); i++) {
            const adm_gpu_impl *impl = adm_gpu_registry_at(i);
            if (adm_profile_by_budget(impl->stage) != (b > 0) || !runs(o, metric, impl)) continue;
            const char *variant = variant_of(impl->name, impl->covers, metric, room[n]);
            if (!adm_profile_chooses(o, impl->stage, impl->name) && !adm_profile_chooses(o, impl->stage, variant)) continue;
            (*units)[n++] =
                (adm_profile_unit){.stage = impl->stage, .variant = variant, .budget = budget, .impl = {impl}, .n_impls = 1};
        }
        adm_profile_unit unit;
        if (b > 0 && o->stage[ADM_STAGE_STEP] && adm_profile_six_stages(metric, &unit)) {
            const char *variant = variant_of(unit.variant, SELECTS, metric, room[n]);
            if (!adm_profile_chooses(o, ADM_STAGE_STEP, "six") && !adm_profile_chooses(o, ADM_STAGE_STEP, variant)) continue;
            unit.variant = variant;
            unit.budget = budget;
            (*units)[n++] = unit;
        }
    }
    *n_units = n;
    return ADM_OK;
}

adm_status adm_profile_n_units(const adm_profile_options *o, size_t *n, adm_error *err) {
    adm_status status = ADM_OK;
    *n = 0;
    for (size_t m = 0; status == ADM_OK && m < o->n_metrics; m++) {
        adm_profile_unit *units = NULL;
        size_t its;
        status = adm_profile_units(o, o->metrics[m], &units, &its, err);
        *n += its;
        adm_free(&units);
    }
    return status;
}

/* Whether a unit is what "NAME" or "STAGE=NAME" says: its row, or its row with that metric. */
static bool is_named(const adm_profile_unit *unit, const char *only) {
    const char *of;
    size_t bytes;
    const char *name = split(only, &of, &bytes);
    if (of != NULL && !is_of(unit->stage, of, bytes)) return false;
    return strcmp(unit->variant, name) == 0 || strcmp(unit->n_impls == 1 ? unit->impl[0]->name : "six", name) == 0;
}

/* Says what there is: no such stage, or what was meant by the name of a row. */
static adm_status no_row(const adm_profile_options *o, const char *only, adm_error *err) {
    enum { MAX_NAMES = 128 };
    const char *names[MAX_NAMES] = {"six"}, *stages[ADM_N_STAGES], *of;
    char typed[64], meant[ADM_DID_YOU_MEAN_BYTES];
    size_t bytes, n = 1;
    bool is_stage = false;
    const char *name = split(only, &of, &bytes);
    adm_stage_names(stages);
    for (int s = 0; s < ADM_N_STAGES; s++) is_stage |= of == NULL || is_of((adm_stage)s, of, bytes);
    snprintf(typed, sizeof typed, "%.*s", (int)bytes, only);
    if (!is_stage) return adm_refuse_word("--implementation", typed, stages, ADM_N_STAGES, err);
    for (size_t i = 0; i < adm_gpu_registry_count() && n < MAX_NAMES; i++) {
        const adm_gpu_impl *impl = adm_gpu_registry_at(i);
        if (o->stage[impl->stage] && (of == NULL || is_of(impl->stage, of, bytes))) names[n++] = impl->name;
    }
    adm_did_you_mean(name, names, n, meant);
    return adm_fail(err, ADM_EINPUT,
                    "--implementation: no stage that is to run has a row for '%s'%s%s `adamas profile --dry-run` lists them",
                    only, meant, meant[0] != '\0' ? "" : ";");
}

/* Every name must be that of a row, or its author would believe that it was run. */
adm_status adm_profile_check_only(const adm_profile_options *o, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < o->n_only && adm_gpu_registry_count() > 0; i++) {
        bool found = false;
        for (size_t m = 0; status == ADM_OK && m < o->n_metrics; m++) {
            adm_profile_unit *units = NULL;
            size_t n;
            status = adm_profile_units(o, o->metrics[m], &units, &n, err);
            for (size_t at = 0; status == ADM_OK && at < n; at++) found |= is_named(&units[at], o->only[i]);
            adm_free(&units);
        }
        if (status == ADM_OK && !found) status = no_row(o, o->only[i], err);
    }
    return status;
}

uint32_t adm_profile_covers(const adm_profile_unit *unit) {
    uint32_t covers = 0;
    for (size_t i = 0; i < unit->n_impls; i++) covers |= unit->impl[i]->covers;
    return covers;
}

/* --- Configurations ----------------------------------------------------------------------------------------------- */

static size_t n_lengths(const adm_profile_options *o) {
    return o->n_sessions > 0 ? o->n_sessions : o->n_batch_lens > 0 ? 1 : o->n_seq_lens;
}

static size_t n_batches(const adm_profile_options *o) { return o->n_batch_lens > 0 ? 1 : o->n_batches; }

size_t adm_profile_n_cases(const adm_profile_options *o) {
    return o->n_metrics * o->n_dtypes * o->n_page_sizes * n_lengths(o) * o->n_kv_heads * n_batches(o);
}

/* The last digit of i in a number system of that base, which is cut off. */
static size_t digit(size_t *i, size_t base) {
    const size_t last = *i % base;
    *i /= base;
    return last;
}

adm_profile_case adm_profile_case_at(const adm_profile_options *o, size_t i) {
    const size_t b = digit(&i, n_batches(o)), h = digit(&i, o->n_kv_heads), l = digit(&i, n_lengths(o));
    adm_profile_case c = {.n_kv_heads = o->kv_heads[h],
                          .batch = o->n_batch_lens > 0 ? (uint32_t)o->n_batch_lens : o->batches[b]};
    c.page_size = o->page_sizes[digit(&i, o->n_page_sizes)];
    c.dtype = o->dtypes[digit(&i, o->n_dtypes)];
    c.metric = o->metrics[i];
    if (o->n_sessions > 0) c.session = &o->sessions[l];
    for (uint32_t s = 0; s < c.batch; s++) {
        if (o->n_batch_lens > 0) c.length[s] = o->batch_lens[s];
        else if (c.session != NULL) c.length[s] = c.session->session.length[c.session->session.n_steps - 1];
        else c.length[s] = o->seq_lens[l];
        if (c.length[s] > c.seq_len) c.seq_len = c.length[s];
    }
    if (c.session != NULL) c.seq_len = c.session->seq_len;
    return c;
}

adm_gpu_shape adm_profile_shape(const adm_profile_options *o, const adm_profile_case *c) {
    uint32_t longest = 1;
    for (uint32_t b = 0; b < c->batch; b++)
        if (c->length[b] > longest) longest = c->length[b];
    adm_gpu_shape shape = {.heads = {o->n_q_heads, c->n_kv_heads, o->head_dim},
                           .dtype = c->dtype,
                           .batch = c->batch,
                           .capacity = (longest + 31) / 32 * 32,
                           .page_size = c->page_size,
                           .selection = o->selection,
                           .metric = c->metric};
    shape.rule = (adm_select_rule){o->budgets[o->n_budgets - 1], o->n_sinks, o->n_recent};
    memcpy(shape.threshold, o->threshold, sizeof shape.threshold);
    if (c->page_size > 0) shape.max_pages = (shape.capacity + c->page_size - 1) / c->page_size;
    shape.scale = o->scale > 0 ? o->scale : (float)(1.0 / sqrt(o->head_dim));
    return shape;
}

adm_gpu_inputs adm_profile_inputs(const adm_profile_options *o, const adm_profile_case *c) {
    return (adm_gpu_inputs){.length = c->length,
                            .seed = o->seed,
                            .min_budget = o->budgets[0],
                            .session = c->session != NULL ? &c->session->session : NULL,
                            .channels = c->session != NULL ? c->session->channels : NULL};
}
