/* grid.c: the units and configurations of a GPU profile. */
#include "kernels/profile/grid.h"

#include <math.h>
#include <string.h>

#include "core/base/mem.h"

/* --- Units -------------------------------------------------------------------------------------------------------- */

/* The first implementation in the registry that does this stage and nothing else. */
static const adm_gpu_impl *alone(adm_stage stage) {
    for (size_t i = 0; i < adm_gpu_registry_count(); i++)
        if (adm_gpu_registry_at(i)->covers == 1u << stage) return adm_gpu_registry_at(i);
    return NULL;
}

bool adm_profile_by_budget(adm_stage stage) {
    return stage == ADM_STAGE_TOPK || stage == ADM_STAGE_ATTENTION || stage == ADM_STAGE_STEP;
}

bool adm_profile_six_stages(adm_profile_unit *unit) {
    *unit = (adm_profile_unit){.stage = ADM_STAGE_STEP, .variant = "six"};
    for (adm_stage stage = ADM_STAGE_HADAMARD; stage <= ADM_STAGE_ATTENTION; stage++) {
        const adm_gpu_impl *impl = alone(stage);
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

/* Every name must be that of a row, or its author would believe that it was run. */
static adm_status check_only(const adm_profile_options *o, const adm_profile_unit *units, size_t n, adm_error *err) {
    for (size_t i = 0; i < o->n_only; i++) {
        const char *of;
        size_t bytes, at = 0;
        const char *name = split(o->only[i], &of, &bytes);
        while (at < n && (strcmp(units[at].variant, name) != 0 || (of != NULL && !is_of(units[at].stage, of, bytes)))) at++;
        if (at < n) continue;
        return adm_fail(err, ADM_EINPUT,
                        "--implementation: no stage that is to run has a row for '%s'; `adamas profile --dry-run` lists them",
                        o->only[i]);
    }
    return ADM_OK;
}

adm_status adm_profile_units(const adm_profile_options *o, adm_profile_unit **units, size_t *n_units, adm_error *err) {
    size_t max_units = (adm_gpu_registry_count() + 1) * (o->n_budgets + 1), n = 0;
    adm_status status = adm_alloc(units, max_units, sizeof **units, "units of a profile", err);
    *n_units = 0;
    if (status != ADM_OK) return status;
    /* Budgets outermost, and none first: a unit finds in memory what the stages before it left at this budget. */
    for (size_t b = 0; b <= o->n_budgets; b++) {
        uint32_t budget = b > 0 ? o->budgets[b - 1] : 0;
        for (size_t i = 0; i < adm_gpu_registry_count(); i++) {
            const adm_gpu_impl *impl = adm_gpu_registry_at(i);
            if (adm_profile_by_budget(impl->stage) != (b > 0) || !o->stage[impl->stage]) continue;
            if (!adm_profile_chooses(o, impl->stage, impl->name)) continue;
            (*units)[n++] =
                (adm_profile_unit){.stage = impl->stage, .variant = impl->name, .budget = budget, .impl = {impl}, .n_impls = 1};
        }
        adm_profile_unit unit;
        if (b > 0 && o->stage[ADM_STAGE_STEP] && adm_profile_six_stages(&unit) &&
            adm_profile_chooses(o, ADM_STAGE_STEP, unit.variant)) {
            unit.budget = budget;
            (*units)[n++] = unit;
        }
    }
    *n_units = n;
    return adm_gpu_registry_count() > 0 ? check_only(o, *units, n, err) : ADM_OK;
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
    return o->n_dtypes * o->n_page_sizes * n_lengths(o) * o->n_kv_heads * n_batches(o);
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
                           .selection = o->selection};
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
                            .session = c->session != NULL ? &c->session->session : NULL};
}
