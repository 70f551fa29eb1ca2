/* session.c: what is replayed: the options checked against the trace. */
#include "core/replay/session/session.h"

#include "core/base/mem.h"
#include "core/base/minmax.h"
#include "core/policy/adamas.h"

static const adm_trace_layer *find_layer(const adm_trace *trace, uint32_t index) {
    for (size_t i = 0; i < trace->n_layers; i++)
        if (trace->layers[i].index == index) return &trace->layers[i];
    return NULL;
}

static adm_status choose_layers(adm_session *s, adm_error *err) {
    const adm_replay_options *o = &s->options;
    const adm_trace *trace = s->trace;
    const size_t n_asked = o->n_layers > 0 ? o->n_layers : trace->n_layers;
    adm_status status = adm_alloc(&s->layer, n_asked, sizeof *s->layer, "layers to replay", err);
    if (status != ADM_OK) return status;
    for (size_t i = 0; i < n_asked; i++) {
        const adm_trace_layer *layer = o->n_layers > 0 ? find_layer(trace, o->layers[i]) : &trace->layers[i];
        if (layer == NULL)
            return adm_fail(err, ADM_EINPUT, "%s: has no layer %u; `adamas trace info` lists its %zu layers", trace->path,
                            o->layers[i], trace->n_layers);
        if (layer->q_dtype != layer->k_dtype || layer->v_dtype != layer->k_dtype)
            return adm_fail(err, ADM_EINPUT, "%s: layer %u has q, k, v in %s, %s, %s: save the three in one type", trace->path,
                            layer->index, adm_dtype_name(layer->q_dtype), adm_dtype_name(layer->k_dtype),
                            adm_dtype_name(layer->v_dtype));
        if (layer->index >= o->n_dense_layers) s->layer[s->n_layers++] = layer;
    }
    if (s->n_layers == 0)
        return adm_fail(err, ADM_EINPUT,
                        "%s: every layer asked for is among the model's first %u, which attend densely: lower --dense-layers "
                        "or replay later layers",
                        trace->path, o->n_dense_layers);
    return ADM_OK;
}

/* Of the times that are asked for, one at least must be of a length and budget that are replayed. */
static adm_status check_only(const adm_session *s, adm_error *err) {
    const adm_replay_options *o = &s->options;
    if (o->n_only == 0) return ADM_OK;
    for (size_t i = 0; i < s->n_segments; i++)
        for (size_t k = 0; k < o->n_only; k++) {
            bool has_budget = o->only[k].budget == 0;
            for (size_t b = 0; b < o->n_budgets; b++) has_budget |= o->only[k].budget == o->budgets[b];
            if (has_budget && (o->only[k].seq_len == 0 || o->only[k].seq_len == s->segment[i].seq_len)) return ADM_OK;
        }
    return adm_fail(err, ADM_EINPUT, "--only-times: %s is replayed at none of these lengths and budgets", s->trace->path);
}

static adm_status check_variants(const adm_session *s, adm_error *err) {
    const adm_policy_limits limits = {.input = s->trace->path,
                                      .shape = s->trace->shape,
                                      .min_budget = s->options.budgets[0],
                                      .n_prompt = adm_segment_prompt(s->trace, &s->segment[0])};
    adm_status status = ADM_OK;
    for (size_t v = 0; status == ADM_OK && v < s->options.n_variants; v++) {
        const adm_variant *variant = &s->options.variants[v];
        if (variant->policy->check != NULL) status = variant->policy->check(variant, &limits, err);
    }
    return status;
}

static adm_status make_rows(adm_session *s, adm_error *err) {
    const adm_replay_options *o = &s->options;
    const size_t max_rows = ADM_N_FIXED_ROWS + o->n_variants;
    adm_status status = adm_alloc(&s->row, max_rows, sizeof *s->row, "rows of a sweep", err);
    if (status == ADM_OK) status = adm_alloc(&s->is_kept, max_rows, sizeof *s->is_kept, "rows of a sweep", err);
    if (status != ADM_OK) return status;
    s->row[ADM_ROW_DENSE].policy = adm_policy_find("dense");
    s->row[ADM_ROW_ORACLE].policy = adm_policy_find("oracle");
    s->n_rows = ADM_N_FIXED_ROWS;
    for (size_t v = 0; v < o->n_variants; v++) {
        const adm_variant *variant = &o->variants[v];
        size_t i = 0;
        while (i < ADM_N_FIXED_ROWS && (variant->policy != s->row[i].policy || variant->selection != ADM_SELECT_HEAD)) i++;
        if (i == ADM_N_FIXED_ROWS) s->row[i = s->n_rows++] = *variant;
        s->is_kept[i] = true;
    }
    for (size_t i = 0; s->contract_row == 0 && i < s->n_rows; i++) {
        const adm_coding *coding = adm_adamas_coding(&s->row[i]);
        if (coding == NULL) continue;
        s->contract_row = i;
        s->contract = adm_coding_is_contract(coding) ? coding : NULL;
    }
    return ADM_OK;
}

static adm_status make_budgets(adm_session *s, adm_error *err) {
    const adm_replay_options *o = &s->options;
    s->budgets = (adm_budgets){
        .budget = o->budgets, .n = o->n_budgets, .widest = adm_min(o->budgets[o->n_budgets - 1], s->trace->n_tokens)};
    adm_status status = adm_alloc(&s->level_of, s->budgets.widest, sizeof *s->level_of, "the budgets of positions", err);
    if (status != ADM_OK) return status;
    adm_budgets_levels(o->budgets, s->budgets.widest, s->level_of);
    s->budgets.level_of = s->level_of;
    return ADM_OK;
}

adm_status adm_session_open(const adm_trace *trace, const adm_replay_options *options, adm_session *s, adm_error *err) {
    *s = (adm_session){.trace = trace, .options = *options};
    adm_status status = adm_shape_check(&trace->shape, err);
    if (status == ADM_OK && trace->n_tokens > UINT32_MAX)
        status = adm_fail(err, ADM_EINPUT, "%s: %zu tokens; a replay takes at most %u", trace->path, trace->n_tokens,
                          UINT32_MAX);
    if (status == ADM_OK) s->group = trace->shape.n_q_heads / trace->shape.n_kv_heads;
    if (status == ADM_OK) status = choose_layers(s, err);
    if (status == ADM_OK)
        status = adm_replay_segments(trace, options->seq_lens, options->n_seq_lens, &s->segment, &s->n_segments, err);
    if (status == ADM_OK) status = check_only(s, err);
    if (status == ADM_OK) status = check_variants(s, err);
    if (status == ADM_OK) status = make_rows(s, err);
    if (status == ADM_OK) status = make_budgets(s, err);
    if (status != ADM_OK) adm_session_close(s);
    return status;
}

void adm_session_close(adm_session *s) {
    void *const owned[] = {&s->layer, &s->segment, &s->row, &s->is_kept, &s->level_of};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) adm_free(owned[i]);
}

/* --- Tensors ------------------------------------------------------------------------------------------------------- */

const unsigned char *adm_session_keys(const adm_session *s, const adm_trace_layer *layer, size_t kv_head, size_t token) {
    const size_t row_bytes = s->trace->shape.head_dim * adm_dtype_bytes(layer->k_dtype);
    return (const unsigned char *)layer->k + (kv_head * s->trace->n_tokens + token) * row_bytes;
}

const unsigned char *adm_session_values(const adm_session *s, const adm_trace_layer *layer, size_t kv_head) {
    const size_t row_bytes = s->trace->shape.head_dim * adm_dtype_bytes(layer->v_dtype);
    return (const unsigned char *)layer->v + kv_head * s->trace->n_tokens * row_bytes;
}

const unsigned char *adm_session_queries(const adm_session *s, const adm_trace_layer *layer, size_t step) {
    const adm_shape *shape = &s->trace->shape;
    return (const unsigned char *)layer->q + step * shape->n_q_heads * shape->head_dim * adm_dtype_bytes(layer->q_dtype);
}

/* --- On the way ---------------------------------------------------------------------------------------------------- */

void adm_session_advance(const adm_session *s, adm_advance *advance, uint64_t n) {
    advance->n_done += n;
    if (s->options.on_progress != NULL) s->options.on_progress(s->options.user, advance->n_done, advance->n_total);
}

bool adm_session_takes_quality(const adm_session *s) { return s->options.n_counters == 0 && s->options.n_only == 0; }

uint64_t adm_session_work(const adm_session *s, const adm_segment *segment) {
    const size_t n_timed = adm_min(segment->n_steps, s->options.n_timed_steps);
    return s->n_layers * (n_timed + (adm_session_takes_quality(s) ? segment->n_steps : 0));
}

bool adm_session_should_stop(const adm_session *s) { return s->options.should_stop != NULL && s->options.should_stop(); }

adm_status adm_session_interrupted(const adm_session *s, const adm_segment *segment, adm_error *err) {
    return adm_fail(
        err, ADM_EINTERRUPTED,
        "interrupted in %s at %u cached tokens; the lengths before it are kept, and --resume last goes on from there",
        s->trace->path, segment->seq_len);
}
