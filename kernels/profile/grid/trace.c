/* trace.c: a decode session as the input of a GPU profile; see trace.h. */
#include "kernels/profile/grid/trace.h"

#include <math.h>

#include "core/base/mem.h"
#include "core/replay/replay.h"
#include "kernels/encode/hadamard.h"
#include "kernels/profile/grid/metrics.h"

struct adm_profile_trace {
    const adm_trace *trace;
    adm_profile_trace_options options;
    size_t n_layers;
    const adm_trace_layer **layer;         /* [n_layers] */
    const void **k, **v, **q;              /* [n_layers]: the trace's tensors, or their conversions */
    void **own;                            /* [3 * n_layers] conversions; NULL where none was needed */
    float (*threshold)[3];                 /* [n_layers] */
    float *channels;                       /* [n_layers][n_kv_heads][4][d]; NULL: not asked for */
    uint32_t *length;                      /* [n_steps] of the trace */
    const void **q_at;                     /* [n_sessions][n_layers]: q of each session's first step */
    adm_segment *segment;
    adm_profile_session *session;
    size_t n_sessions;
};

static adm_status choose_layers(adm_profile_trace *p, adm_error *err) {
    const adm_trace *trace = p->trace;
    const size_t n_asked = p->options.n_layers;
    p->n_layers = n_asked > 0 ? n_asked : trace->n_layers;
    adm_status status = adm_alloc(&p->layer, p->n_layers, sizeof *p->layer, "layers of a trace", err);
    for (size_t i = 0; status == ADM_OK && i < p->n_layers; i++) {
        for (size_t j = 0; j < trace->n_layers; j++)
            if (n_asked > 0 ? trace->layers[j].index == p->options.layers[i] : i == j) p->layer[i] = &trace->layers[j];
        if (p->layer[i] == NULL)
            status = adm_fail(err, ADM_EINPUT, "%s: has no layer %u; `adamas trace info` lists its %zu layers", trace->path,
                              p->options.layers[i], trace->n_layers);
    }
    return status;
}

enum { CHUNK = 4096 };

/* The tensor itself where it is of the right type, else a conversion kept in *own. A finite value that becomes infinite
 * is refused. */
static adm_status in_dtype(const adm_profile_trace *p, const adm_trace_layer *layer, char name, adm_dtype from,
                           const void *tensor, size_t n, void **own, const void **out, adm_error *err) {
    const adm_dtype to = p->options.dtype;
    float wide[CHUNK], back[CHUNK];
    *out = tensor;
    if (from == to) return ADM_OK;
    adm_status status = adm_alloc(own, n, adm_dtype_bytes(to), "converted tensor of a trace", err);
    for (size_t at = 0; status == ADM_OK && at < n; at += CHUNK) {
        const size_t m = n - at < CHUNK ? n - at : CHUNK;
        char *converted = (char *)*own + at * adm_dtype_bytes(to);
        adm_to_f32(from, (const char *)tensor + at * adm_dtype_bytes(from), m, wide);
        adm_from_f32(to, wide, m, converted);
        adm_to_f32(to, converted, m, back);
        for (size_t i = 0; status == ADM_OK && i < m; i++)
            if (!isfinite(back[i]))
                status = adm_fail(err, ADM_EINPUT,
                                  "%s: layers.%u.%c: %g at %zu is beyond %s: profile it in another type "
                                  "(--dtype)",
                                  p->trace->path, layer->index, name, (double)wide[i], at + i, adm_dtype_name(to));
    }
    *out = *own;
    return status;
}

static adm_status convert_layers(adm_profile_trace *p, adm_error *err) {
    const adm_shape *shape = &p->trace->shape;
    const size_t n_kv = (size_t)shape->n_kv_heads * p->trace->n_tokens * shape->head_dim;
    const size_t n_q = p->trace->n_steps * (size_t)shape->n_q_heads * shape->head_dim;
    const struct {
        void *pointer;
        size_t count;
    } arrays[] = {{&p->k, 1}, {&p->v, 1}, {&p->q, 1}, {&p->own, 3}};
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < 4; i++)
        status = adm_alloc(arrays[i].pointer, arrays[i].count * p->n_layers, sizeof(void *), "layers of a trace", err);
    for (size_t i = 0; status == ADM_OK && i < p->n_layers; i++) {
        const adm_trace_layer *l = p->layer[i];
        status = in_dtype(p, l, 'k', l->k_dtype, l->k, n_kv, &p->own[3 * i], &p->k[i], err);
        if (status == ADM_OK) status = in_dtype(p, l, 'v', l->v_dtype, l->v, n_kv, &p->own[3 * i + 1], &p->v[i], err);
        if (status == ADM_OK) status = in_dtype(p, l, 'q', l->q_dtype, l->q, n_q, &p->own[3 * i + 2], &p->q[i], err);
    }
    return status;
}

/* Rows per KV head that a layer's thresholds are learnt from, as many as a replay takes. */
enum { CALIBRATION_ROWS = 4096 };

/* Those of a layer that is calibrated for other codes are the defaults of these. */
static adm_status thresholds_of(const adm_profile_trace *p, size_t l, bool by_channel, adm_threshold_spec *spec,
                                adm_error *err) {
    const adm_calibration *calibration = p->options.calibration;
    const adm_coding *coding = calibration != NULL ? adm_calibration_coding(calibration, p->layer[l]->index) : NULL;
    *spec = coding != NULL ? coding->thresholds : p->options.thresholds;
    const bool other = coding != NULL ? (coding->metric == ADM_METRIC_ASYM4) != by_channel
                                      : (spec->kind == ADM_THRESHOLDS_SCALED) != by_channel;
    return other ? adm_threshold_parse(by_channel ? "scaled" : "calibrated", spec, err) : ADM_OK;
}

/* y [n_kv_heads][n_rows][d]: a layer's transformed keys. */
static adm_status learn_layer(adm_profile_trace *p, size_t l, float *y, size_t n_rows, adm_error *err) {
    const size_t n_kv = p->trace->shape.n_kv_heads, d = p->trace->shape.head_dim;
    adm_threshold_spec spec;
    adm_status status = thresholds_of(p, l, true, &spec, err);
    if (status == ADM_OK && p->channels != NULL && spec.n_values != 3) spec.n_values = adm_threshold_scaled(1, spec.value);
    for (size_t h = 0; status == ADM_OK && p->channels != NULL && h < n_kv; h++)
        adm_profile_channels_learn(y + h * n_rows * d, n_rows, (uint32_t)d, spec.value,
                                   p->channels + (l * n_kv + h) * ADM_GPU_CHANNEL_ROWS * d);
    if (status == ADM_OK) status = thresholds_of(p, l, false, &spec, err);
    /* Last: it reorders the keys. */
    return status == ADM_OK ? adm_threshold_resolve(&spec, y, n_rows * n_kv * d, p->threshold[l], err) : status;
}

static adm_status calibrate(adm_profile_trace *p, adm_error *err) {
    const adm_shape *shape = &p->trace->shape;
    const size_t d = shape->head_dim, n_prompt = (size_t)p->trace->positions[p->segment[0].first_step];
    const size_t n_rows = n_prompt < CALIBRATION_ROWS ? n_prompt : CALIBRATION_ROWS;
    const size_t row_bytes = d * adm_dtype_bytes(p->options.dtype);
    float *y = NULL;
    adm_status status = adm_alloc(&p->threshold, p->n_layers, sizeof *p->threshold, "thresholds", err);
    if (status == ADM_OK) status = adm_alloc(&y, n_rows * shape->n_kv_heads * d, sizeof *y, "keys for calibration", err);
    if (status == ADM_OK && p->options.by_channel)
        status = adm_alloc(&p->channels, p->n_layers * shape->n_kv_heads * ADM_GPU_CHANNEL_ROWS * d, sizeof *p->channels,
                           "channels of keys", err);
    for (size_t l = 0; status == ADM_OK && l < p->n_layers; l++) {
        for (size_t h = 0; h < shape->n_kv_heads; h++)
            for (size_t i = 0; i < n_rows; i++) {
                const size_t token = i * n_prompt / n_rows;
                adm_hadamard_reference(p->options.dtype, (const char *)p->k[l] + (h * p->trace->n_tokens + token) * row_bytes,
                                       1, shape->head_dim, y + (h * n_rows + i) * d);
            }
        status = learn_layer(p, l, y, n_rows, err);
    }
    adm_free(&y);
    return status;
}

static adm_status make_sessions(adm_profile_trace *p, adm_error *err) {
    const adm_shape *shape = &p->trace->shape;
    const size_t step_bytes = (size_t)shape->n_q_heads * shape->head_dim * adm_dtype_bytes(p->options.dtype);
    adm_status status = adm_alloc(&p->session, p->n_sessions, sizeof *p->session, "lengths of a trace", err);
    if (status == ADM_OK) status = adm_alloc(&p->length, p->trace->n_steps, sizeof *p->length, "lengths of a trace", err);
    if (status == ADM_OK) status = adm_alloc(&p->q_at, p->n_sessions * p->n_layers, sizeof *p->q_at, "lengths of a trace", err);
    if (status != ADM_OK) return status;
    for (size_t s = 0; s < p->trace->n_steps; s++) p->length[s] = (uint32_t)p->trace->positions[s] + 1;
    for (size_t i = 0; i < p->n_sessions; i++) {
        const adm_segment *segment = &p->segment[i];
        for (size_t l = 0; l < p->n_layers; l++)
            p->q_at[i * p->n_layers + l] = (const char *)p->q[l] + segment->first_step * step_bytes;
        p->session[i] = (adm_profile_session){segment->seq_len,
                                              {.n_layers = (uint32_t)p->n_layers,
                                               .n_tokens = (uint32_t)p->trace->n_tokens,
                                               .n_steps = (uint32_t)segment->n_steps,
                                               .k = p->k,
                                               .v = p->v,
                                               .q = &p->q_at[i * p->n_layers],
                                               .length = p->length + segment->first_step,
                                               .threshold = p->threshold},
                                              p->channels};
    }
    return ADM_OK;
}

adm_status adm_profile_trace_open(const adm_trace *trace, const adm_profile_trace_options *options, adm_profile_trace **out,
                                  adm_error *err) {
    adm_profile_trace *p = NULL;
    *out = NULL;
    if (trace->n_tokens > 1u << 20)
        return adm_fail(err, ADM_EINPUT, "%s: %zu tokens; the GPU kernels take at most %u", trace->path, trace->n_tokens,
                        1u << 20);
    const adm_threshold_spec *spec = &options->thresholds;
    const bool scaled = spec->kind == ADM_THRESHOLDS_SCALED && options->by_channel;
    if ((spec->kind != ADM_THRESHOLDS_FIXED && spec->kind != ADM_THRESHOLDS_LAYER && !scaled) ||
        (spec->n_values != 0 && spec->n_values != 3))
        return adm_fail(err, ADM_EINPUT,
                        "thresholds '%s': the GPU kernels make 2-bit codes by three thresholds per layer: "
                        "calibrated, fixed:a,b,c or quantile:p,q,r; or for asym4 per channel: scaled:tau",
                        spec->text);
    adm_status status = adm_alloc(&p, 1, sizeof *p, "trace of a profile", err);
    if (status != ADM_OK) return status;
    p->trace = trace;
    p->options = *options;
    status = choose_layers(p, err);
    if (status == ADM_OK)
        status = adm_replay_segments(trace, options->seq_lens, options->n_seq_lens, &p->segment, &p->n_sessions, err);
    if (status == ADM_OK) status = convert_layers(p, err);
    if (status == ADM_OK) status = calibrate(p, err);
    if (status == ADM_OK) status = make_sessions(p, err);
    if (status != ADM_OK) adm_profile_trace_close(&p);
    *out = p;
    return status;
}

void adm_profile_trace_close(adm_profile_trace **profile_trace) {
    adm_profile_trace *p = *profile_trace;
    if (p == NULL) return;
    for (size_t i = 0; p->own != NULL && i < 3 * p->n_layers; i++) adm_free(&p->own[i]);
    void *const owned[] = {&p->layer,  &p->k,    &p->v,       &p->q,       &p->own,     &p->threshold,
                           &p->length, &p->q_at, &p->segment, &p->session, &p->channels};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) adm_free(owned[i]);
    adm_free(profile_trace);
}

const adm_profile_session *adm_profile_trace_sessions(const adm_profile_trace *p, size_t *n) {
    *n = p->n_sessions;
    return p->session;
}

adm_status adm_profile_trace_record(const adm_profile_trace *p, adm_store *store, int64_t run_id, int64_t *trace_id,
                                    adm_error *err) {
    adm_status status = adm_store_trace(store, p->trace, trace_id, err);
    for (size_t l = 0; status == ADM_OK && l < p->n_layers; l++) { /* those by channel have no column, as in a replay */
        adm_threshold_spec spec;
        status = thresholds_of(p, l, false, &spec, err);
        if (status == ADM_OK)
            status = adm_store_calibration(store, run_id, *trace_id, spec.text, (int32_t)p->layer[l]->index, p->threshold[l],
                                           err);
    }
    return status;
}
