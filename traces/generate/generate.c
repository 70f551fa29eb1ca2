/* generate.c: writes a synthetic session tensor by tensor; generate_head.c makes the values. */
#include "traces/generate/generate.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "traces/generate/generate_head.h"
#include "traces/format/safetensors_write.h"
#include "traces/format/trace_file.h"

enum { MIN_TOKENS = 256, MAX_NEEDLES = 64, N_META = 18, LIST_BYTES = 512, CHUNK_BYTES = 1 << 18 };

/* Where a run's work stands. The chunk gathers elements until it is worth a write. */
typedef struct work {
    const adm_generate_spec *spec;
    adm_st_writer *writer;
    adm_gen_rope *rope;
    adm_gen_kv_head *kv;     /* [n_kv_heads], of the layer at hand */
    adm_gen_q_head *q;       /* [n_q_heads] */
    unsigned char *chunk;    /* [CHUNK_BYTES] */
    size_t used;
    uint64_t n_done, n_total; /* bytes */
} work;

void adm_generate_defaults(adm_generate_spec *spec) {
    static const uint32_t layers[] = {2};
    *spec = (adm_generate_spec){.seed = 1,
                                .n_tokens = 8192,
                                .shape = {.n_q_heads = 8, .n_kv_heads = 2, .head_dim = 64},
                                .dtype = ADM_F16,
                                .n_steps = 64,
                                .layers = layers,
                                .n_layers = 1,
                                .n_sinks = 1};
}

/* --- Checks ------------------------------------------------------------------------------------------------------- */

static size_t n_runs(const adm_generate_spec *s) { return s->n_starts > 0 ? s->n_starts : 1; }

static uint64_t start_of(const adm_generate_spec *s, size_t run) {
    return s->n_starts > 0 ? s->starts[run] : s->n_tokens - s->n_steps;
}

static adm_status check_steps(const adm_generate_spec *s, adm_error *err) {
    if (s->n_steps < 1 || s->n_steps > s->n_tokens)
        return adm_fail(err, ADM_EINPUT,
                        "a session of %" PRIu64 " tokens cannot have %" PRIu64 " steps; each needs a "
                        "token of its own",
                        s->n_tokens, s->n_steps);
    for (size_t i = 0; i < s->n_starts; i++) {
        uint64_t end = s->starts[i] + s->n_steps, limit = i + 1 < s->n_starts ? s->starts[i + 1] : s->n_tokens;
        if (end > limit)
            return adm_fail(err, ADM_EINPUT, "%" PRIu64 " steps from position %u end at %" PRIu64 ", but %s %" PRIu64,
                            s->n_steps, s->starts[i], end,
                            i + 1 < s->n_starts ? "the next steps begin at" : "the session has tokens up to", limit);
    }
    return ADM_OK;
}

static adm_status check_needles(const adm_generate_spec *s, const adm_gen_rope *rope, adm_error *err) {
    const double least_share = 0.8; /* below it the sink would win: see generate_head.c's needle_gain */
    uint64_t first = start_of(s, 0), last = start_of(s, n_runs(s) - 1) + s->n_steps - 1;
    if (s->n_needles > MAX_NEEDLES)
        return adm_fail(err, ADM_EINPUT, "%zu needles are asked for, the limit is %d", s->n_needles, MAX_NEEDLES);
    if (s->n_needles > 0 && s->needle_head >= s->shape.n_q_heads)
        return adm_fail(err, ADM_EINPUT, "query head %u cannot look for the needle, there are heads 0 to %u", s->needle_head,
                        s->shape.n_q_heads - 1);
    for (size_t i = 0; i < s->n_needles; i++) {
        if (s->needles[i] < s->n_sinks || s->needles[i] >= first)
            return adm_fail(err, ADM_EINPUT,
                            "a needle at token %u is not between the %u sink tokens and the first "
                            "step at position %" PRIu64,
                            s->needles[i], s->n_sinks, first);
        for (uint64_t far = first; far <= last; far += last > first ? last - first : 1)
            if (adm_gen_needle_share(rope, far - s->needles[i]) < least_share)
                return adm_fail(err, ADM_EINPUT,
                                "with RoPE base %.9g no head can find a needle %" PRIu64 " tokens "
                                "back: even its slowest pairs turn too far; give a larger base, or none",
                                rope->base, far - s->needles[i]);
    }
    return ADM_OK;
}

/* Sinks come from channels that keep their sign over the whole session; where those turn, no head has one. */
static adm_status check_turn(const adm_generate_spec *s, const adm_gen_rope *rope, adm_error *err) {
    const double most_radians = 1.3; /* 1.06 at the fitted length; beyond, near and far tokens score too differently */
    double radians = adm_gen_outlier_turn(rope, s->n_tokens);
    if (radians <= most_radians) return ADM_OK;
    return adm_fail(err, ADM_EINPUT,
                    "with RoPE base %.9g the outlier channels turn by %.3g radians over %" PRIu64
                    " tokens, the limit is %g; give a larger base, or none for the length's own",
                    rope->base, radians, s->n_tokens, most_radians);
}

static adm_status check_spec(const adm_generate_spec *s, adm_error *err) {
    adm_status status = adm_shape_check(&s->shape, err);
    if (status != ADM_OK) return status;
    if (s->n_tokens < MIN_TOKENS || s->n_tokens > ADM_GENERATE_MAX_TOKENS)
        return adm_fail(err, ADM_EINPUT, "a session of %" PRIu64 " tokens is outside %d to %d", s->n_tokens, MIN_TOKENS,
                        ADM_GENERATE_MAX_TOKENS);
    if (s->n_sinks > ADM_GENERATE_MAX_SINKS)
        return adm_fail(err, ADM_EINPUT, "%u sink tokens are outside 0 to %d", s->n_sinks, ADM_GENERATE_MAX_SINKS);
    if (s->rope_base != 0 && !(s->rope_base >= 1e3 && s->rope_base <= 1e12))
        return adm_fail(err, ADM_EINPUT, "a RoPE base of %.9g is outside 1e3 to 1e12", s->rope_base);
    if (s->n_layers < 1 || s->layers[s->n_layers - 1] > ADM_GENERATE_MAX_LAYER)
        return adm_fail(err, ADM_EINPUT, "layers must be given, each 0 to %d", ADM_GENERATE_MAX_LAYER);
    return check_steps(s, err);
}

/* --- What the file says about itself ------------------------------------------------------------------------------ */

/* "1024,2048"; cut with "..." where it is longer than a reader wants. */
static void list_text(const uint32_t *values, size_t n, char out[LIST_BYTES]) {
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < n && used < LIST_BYTES - 16; i++)
        used += (size_t)snprintf(out + used, LIST_BYTES - used, "%s%u", i > 0 ? "," : "", values[i]);
    if (used >= LIST_BYTES - 16) snprintf(out + used, LIST_BYTES - used, ",...");
}

typedef struct texts {
    char seed[24], tokens[24], steps[24], sinks[16], needle_head[16], scale[32], base[32];
    char starts[LIST_BYTES], needles[LIST_BYTES];
} texts;

static size_t describe(const adm_generate_spec *s, const adm_gen_rope *rope, texts *t, adm_trace_meta meta[N_META]) {
    size_t n = 0;
    snprintf(t->seed, sizeof t->seed, "%" PRIu64, s->seed);
    snprintf(t->tokens, sizeof t->tokens, "%" PRIu64, s->n_tokens);
    snprintf(t->steps, sizeof t->steps, "%" PRIu64, s->n_steps);
    snprintf(t->sinks, sizeof t->sinks, "%u", s->n_sinks);
    snprintf(t->scale, sizeof t->scale, "%.17g", 1.0 / sqrt((double)s->shape.head_dim));
    snprintf(t->base, sizeof t->base, "%.17g", rope->base);
    list_text(s->starts, s->n_starts, t->starts);
    meta[n++] = (adm_trace_meta){"format", ADM_TRACE_FORMAT};
    meta[n++] = (adm_trace_meta){"kind", "synthetic"};
    meta[n++] = (adm_trace_meta){"model", "synthetic"};
    meta[n++] = (adm_trace_meta){"softmax_scale", t->scale};
    meta[n++] = (adm_trace_meta){"rope_base", t->base};
    meta[n++] = (adm_trace_meta){"created_by", "adamas trace gen"};
    meta[n++] = (adm_trace_meta){"generator_version", ADM_GENERATE_VERSION};
    meta[n++] = (adm_trace_meta){"generator_fitted_to", "SmolLM2-135M-Instruct, layers 14 and 24, 4160 tokens"};
    meta[n++] = (adm_trace_meta){"seed", t->seed};
    meta[n++] = (adm_trace_meta){"generator_tokens", t->tokens};
    meta[n++] = (adm_trace_meta){"generator_steps", t->steps};
    if (s->n_starts > 0) meta[n++] = (adm_trace_meta){"generator_steps_at", t->starts};
    meta[n++] = (adm_trace_meta){"generator_sinks", t->sinks};
    if (s->n_needles == 0) return n;
    list_text(s->needles, s->n_needles, t->needles);
    snprintf(t->needle_head, sizeof t->needle_head, "%u", s->needle_head);
    meta[n++] = (adm_trace_meta){"needle", t->needles};
    meta[n++] = (adm_trace_meta){"needle_head", t->needle_head};
    return n;
}

/* Opens the writer with k, v and q of every layer, then the positions. */
static adm_status create_file(work *w, const char *path, adm_error *err) {
    const adm_generate_spec *s = w->spec;
    struct {
        char text[24];
    } *names = NULL;
    adm_st_entry *entries = NULL;
    texts *t = NULL;
    adm_trace_meta meta[N_META];
    size_t n = 0;
    uint64_t n_positions = s->n_steps * n_runs(s);
    const char *dtype = adm_dtype_name(s->dtype);
    adm_status status = adm_alloc(&names, 3 * s->n_layers, sizeof *names, "tensor names", err);
    if (status == ADM_OK) status = adm_alloc(&entries, 3 * s->n_layers + 1, sizeof *entries, "tensor shapes", err);
    if (status == ADM_OK) status = adm_alloc(&t, 1, sizeof *t, "metadata", err);
    if (status != ADM_OK) goto done;
    for (size_t i = 0; i < s->n_layers; i++)
        for (const char *role = "kvq"; *role != '\0'; role++, n++) {
            snprintf(names[n].text, sizeof names[n].text, "layers.%u.%c", s->layers[i], *role);
            entries[n] = (adm_st_entry){names[n].text, dtype, 3, {s->shape.n_kv_heads, s->n_tokens, s->shape.head_dim}};
            if (*role != 'q') continue;
            entries[n].shape[0] = n_positions;
            entries[n].shape[1] = s->shape.n_q_heads;
        }
    entries[n++] = (adm_st_entry){"positions", "I64", 1, {n_positions}};
    status = adm_st_create(path, entries, n, meta, describe(s, w->rope, t, meta), &w->writer, err);
    if (status == ADM_OK) w->n_total = adm_st_file_bytes(w->writer);
done:
    adm_free(&names);
    adm_free(&entries);
    adm_free(&t);
    return status;
}

/* --- Values ------------------------------------------------------------------------------------------------------- */

/* Writes the chunk out, and looks up from the work. */
static adm_status flush(work *w, adm_error *err) {
    adm_status status = adm_st_write(w->writer, w->chunk, w->used, err);
    w->n_done += w->used;
    w->used = 0;
    if (status == ADM_OK && w->spec->should_stop != NULL && w->spec->should_stop())
        return adm_fail(err, ADM_EINTERRUPTED,
                        "interrupted after %" PRIu64 " of %" PRIu64 " bytes; no file is left "
                        "behind",
                        w->n_done, w->n_total);
    if (w->spec->on_progress != NULL) w->spec->on_progress(w->spec->user, w->n_done, w->n_total);
    return status;
}

/* One rounding from binary64 to float32, one to the dtype. */
static adm_status put(work *w, const double *values, adm_error *err) {
    float narrow[ADM_MAX_HEAD_DIM];
    uint32_t d = w->spec->shape.head_dim;
    for (uint32_t i = 0; i < d; i++) narrow[i] = (float)values[i];
    adm_from_f32(w->spec->dtype, narrow, d, w->chunk + w->used);
    w->used += d * adm_dtype_bytes(w->spec->dtype);
    return w->used + ADM_MAX_HEAD_DIM * sizeof(float) > CHUNK_BYTES ? flush(w, err) : ADM_OK;
}

static adm_status write_cache(work *w, bool is_key, adm_error *err) {
    double row[ADM_MAX_HEAD_DIM];
    adm_status status = ADM_OK;
    for (uint32_t h = 0; h < w->spec->shape.n_kv_heads; h++)
        for (uint64_t token = 0; token < w->spec->n_tokens && status == ADM_OK; token++) {
            if (is_key) adm_gen_key(&w->kv[h], w->spec, w->rope, token, row);
            else adm_gen_value(&w->kv[h], w->spec, token, row);
            status = put(w, row, err);
        }
    return status == ADM_OK ? flush(w, err) : status;
}

static adm_status write_queries(work *w, adm_error *err) {
    const adm_shape *shape = &w->spec->shape;
    double row[ADM_MAX_HEAD_DIM];
    adm_status status = ADM_OK;
    for (size_t run = 0; run < n_runs(w->spec); run++)
        for (uint64_t step = 0; step < w->spec->n_steps; step++)
            for (uint32_t h = 0; h < shape->n_q_heads && status == ADM_OK; h++) {
                uint64_t position = start_of(w->spec, run) + step;
                adm_gen_query(&w->q[h], &w->kv[adm_kv_head(shape, h)], w->spec, w->rope, position, row);
                status = put(w, row, err);
            }
    return status == ADM_OK ? flush(w, err) : status;
}

static adm_status write_layer(work *w, uint32_t layer, adm_error *err) {
    const adm_shape *shape = &w->spec->shape;
    for (uint32_t h = 0; h < shape->n_kv_heads; h++) adm_gen_kv_head_init(&w->kv[h], w->spec, w->rope, layer, h);
    for (uint32_t h = 0; h < shape->n_q_heads; h++)
        adm_gen_q_head_init(&w->q[h], &w->kv[adm_kv_head(shape, h)], w->spec, w->rope, layer, h);
    adm_status status = write_cache(w, true, err);
    if (status == ADM_OK) status = write_cache(w, false, err);
    return status == ADM_OK ? write_queries(w, err) : status;
}

static adm_status write_positions(work *w, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t run = 0; run < n_runs(w->spec); run++)
        for (uint64_t step = 0; step < w->spec->n_steps && status == ADM_OK; step++) {
            int64_t position = (int64_t)(start_of(w->spec, run) + step);
            memcpy(w->chunk + w->used, &position, sizeof position);
            w->used += sizeof position;
            if (w->used == CHUNK_BYTES) status = flush(w, err);
        }
    return status == ADM_OK ? flush(w, err) : status;
}

/* --- Public ------------------------------------------------------------------------------------------------------- */

uint64_t adm_generate_bytes(const adm_generate_spec *s) {
    if (check_spec(s, NULL) != ADM_OK) return 0;
    uint64_t rows = 2 * s->shape.n_kv_heads * s->n_tokens + s->shape.n_q_heads * s->n_steps * n_runs(s);
    uint64_t positions = s->n_steps * n_runs(s) * sizeof(int64_t);
    return s->n_layers * rows * s->shape.head_dim * adm_dtype_bytes(s->dtype) + positions;
}

adm_status adm_generate(const adm_generate_spec *spec, const char *path, adm_error *err) {
    work w = {.spec = spec};
    adm_status status = check_spec(spec, err);
    if (status != ADM_OK) return status;
    status = adm_alloc(&w.rope, 1, sizeof *w.rope, "rotations", err);
    if (status == ADM_OK) status = adm_alloc(&w.kv, spec->shape.n_kv_heads, sizeof *w.kv, "KV heads", err);
    if (status == ADM_OK) status = adm_alloc(&w.q, spec->shape.n_q_heads, sizeof *w.q, "query heads", err);
    if (status == ADM_OK) status = adm_alloc(&w.chunk, CHUNK_BYTES, 1, "a chunk of the file", err);
    if (status != ADM_OK) goto done;
    adm_gen_rope_init(w.rope, spec->rope_base, spec->n_tokens, spec->shape.head_dim);
    status = check_turn(spec, w.rope, err);
    if (status == ADM_OK) status = check_needles(spec, w.rope, err);
    if (status == ADM_OK) status = create_file(&w, path, err);
    for (size_t i = 0; i < spec->n_layers && status == ADM_OK; i++) status = write_layer(&w, spec->layers[i], err);
    if (status == ADM_OK) status = write_positions(&w, err);
    if (status == ADM_OK) status = adm_st_finish(&w.writer, err);
done:
    adm_st_discard(&w.writer);
    adm_free(&w.rope);
    adm_free(&w.kv);
    adm_free(&w.q);
    adm_free(&w.chunk);
    return status;
}
