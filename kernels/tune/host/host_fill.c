/* host_fill.c: inputs that mean something, made from a seed, and their answers by the references.
 *
 * Patterns are chosen so that a typical mistake shows: distances that tie in the dozens, all alike, at both ends of the range
 * or with one needle; keys with loud channels and one token that draws all attention; values that lie exactly on a
 * threshold. */
#include "kernels/tune/host/host_fill.h"

#include <math.h>
#include <string.h>

#include "core/base/minmax.h"
#include "kernels/attention/attention.h"
#include "kernels/distance/distance.h"
#include "kernels/encode/bucket.h"
#include "kernels/encode/hadamard.h"
#include "kernels/encode/pack.h"
#include "kernels/topk/topk.h"
#include "kernels/tune/host/trace_source.h"

size_t adm_host_answer_bytes(const adm_host_call *call) {
    const size_t d = call->head_dim;
    switch (call->stage) {
    case ADM_STAGE_HADAMARD: return call->n * d * sizeof(float);
    case ADM_STAGE_BUCKET: return call->n;
    case ADM_STAGE_PACK: return call->n * d / 4;
    case ADM_STAGE_DISTANCE: return call->n * sizeof(uint16_t);
    case ADM_STAGE_TOPK:
        return sizeof(uint32_t) + sizeof(adm_select_info) + adm_min(call->rule.budget, call->n) * sizeof(uint32_t);
    default: return d * sizeof(float);
    }
}

/* --- Inputs --------------------------------------------------------------------------------------------------------- */

/* Nearly normal, variance 1: the sum of four uniform numbers. Quick, since a timing refills its inputs for every sample. */
static float nearly_normal(adm_rng *rng) {
    const uint64_t bits = adm_rng_u64(rng);
    const int32_t sum = (int32_t)(bits & 0xffff) + (int32_t)(bits >> 16 & 0xffff) + (int32_t)(bits >> 32 & 0xffff) +
                        (int32_t)(bits >> 48) - 2 * 65535;
    return (float)sum * 2.6428998e-5f;
}

/* One row. loud: three channels are far from the mean, as in real keys and queries. */
static void fill_row(adm_rng *rng, adm_dtype dtype, uint32_t d, float factor, bool loud, void *out) {
    float row[ADM_MAX_HEAD_DIM];
    for (uint32_t i = 0; i < d; i++) row[i] = factor * nearly_normal(rng) + (loud && i % 29 == 7 ? 4 * factor : 0);
    adm_from_f32(dtype, row, d, out);
}

static void fill_rows(adm_rng *rng, const adm_host_call *call, void *out, size_t n, float factor, bool loud) {
    const size_t row_bytes = call->head_dim * adm_dtype_bytes(call->dtype);
    for (size_t r = 0; r < n; r++) fill_row(rng, call->dtype, call->head_dim, factor, loud, (char *)out + r * row_bytes);
}

/* Hadamard: ordinary rows, one-hot rows, subnormals, the largest values that do not overflow in float32. */
static void fill_hadamard(adm_rng *rng, const adm_host_call *call, void *x) {
    static const float factors[] = {1, 1, 1e-6f, 1e4f};
    float row[ADM_MAX_HEAD_DIM] = {0};
    const size_t row_bytes = call->head_dim * adm_dtype_bytes(call->dtype);
    fill_rows(rng, call, x, call->n, factors[call->pattern % 4], true);
    if (call->pattern % 4 != 1) return;
    for (size_t r = 0; r < call->n; r++) {
        const uint32_t hot = (uint32_t)adm_rng_below(rng, call->head_dim);
        row[hot] = r % 2 ? -1 : 1;
        adm_from_f32(call->dtype, row, call->head_dim, (char *)x + r * row_bytes);
        row[hot] = 0;
    }
}

static void fill_bucket(adm_rng *rng, const adm_host_call *call, float *y) {
    static const float odd[] = {INFINITY, -INFINITY, 0.0f, -0.0f, 1e-45f, 3e38f};
    for (size_t i = 0; i < call->n; i++) {
        const uint64_t pick = adm_rng_below(rng, 16);
        y[i] = nearly_normal(rng);
        if (call->pattern == 0) continue;
        if (pick < 3) y[i] = call->threshold[pick];
        else if (pick < 6) y[i] = nextafterf(call->threshold[pick - 3], pick % 2 ? 9.0f : -9.0f);
        else if (pick == 6) y[i] = odd[adm_rng_below(rng, 6)];
        else if (pick == 7) y[i] = NAN;
    }
}

static void fill_bytes(adm_rng *rng, uint8_t *out, size_t n, uint8_t mask) {
    for (size_t i = 0; i < n;) {
        uint64_t bits = adm_rng_u64(rng);
        for (int k = 0; k < 8 && i < n; k++, i++, bits >>= 8) out[i] = (uint8_t)bits & mask;
    }
}

/* Codes: any, all 0 against all 3, equal to the query, all far but one. */
static void fill_codes(adm_rng *rng, const adm_host_call *call, uint8_t *q, uint8_t *k, bool with_k) {
    const size_t row = call->head_dim / 4;
    fill_bytes(rng, q, row, 0xff);
    if (!with_k) return;
    fill_bytes(rng, k, call->n * row, 0xff);
    if (call->pattern % 4 == 1) memset(q, 0x00, row), memset(k, 0xff, call->n * row);
    if (call->pattern % 4 >= 2)
        for (size_t t = 0; t < call->n; t++)
            for (size_t i = 0; i < row; i++) k[t * row + i] = call->pattern % 4 == 2 ? q[i] : (uint8_t)~q[i];
    if (call->pattern % 4 == 3 && call->n > 0) memcpy(k + adm_rng_below(rng, call->n) * row, q, row);
}

/* Distances as real ones are: a narrow bell, dozens at the boundary. */
static void fill_bell(adm_rng *rng, uint16_t *distance, size_t n, uint32_t max) {
    const uint32_t middle = max / 3, spread = max / 8 + 1;
    for (size_t i = 0; i < n;) {
        uint64_t bits = adm_rng_u64(rng);
        for (int k = 0; k < 2 && i < n; k++, i++, bits >>= 32) {
            const uint32_t sum = (uint32_t)(bits & 0xff) + (uint32_t)(bits >> 8 & 0xff) + (uint32_t)(bits >> 16 & 0xff) +
                                 (uint32_t)(bits >> 24 & 0xff); /* 0 .. 1020, mean 510 */
            const uint32_t value = middle + sum * spread / 1020;
            distance[i] = (uint16_t)(value < max ? value : max);
        }
    }
}

static void fill_distances(adm_rng *rng, const adm_host_call *call, uint16_t *distance) {
    const uint32_t max = 3 * call->head_dim;
    const size_t n = call->n;
    const uint16_t same = (uint16_t)adm_rng_below(rng, max + 1);
    fill_bell(rng, distance, n, max);
    for (size_t t = 0; t < n && call->pattern % 8 > 0; t++) switch (call->pattern % 8) {
        case 1: distance[t] = same; break;
        case 2: distance[t] = (uint16_t)(t * (max + 1) / n); break;
        case 3: distance[t] = (uint16_t)(max - t * (max + 1) / n); break;
        case 4: distance[t] = adm_rng_below(rng, 2) ? (uint16_t)max : 0; break;
        case 5: distance[t] = (uint16_t)max; break;
        case 6: distance[t] = (uint16_t)adm_rng_below(rng, max + 1); break;
        default: distance[t] = (uint16_t)(max / 2 + adm_rng_below(rng, 2)); break;
        }
    if (call->pattern % 8 == 5 && n > 0) distance[adm_rng_below(rng, n)] = 0; /* the needle */
}

static void fill_index(adm_rng *rng, const adm_host_call *call, uint32_t *index, bool ascending) {
    uint64_t at = 0;
    for (size_t j = 0; j < call->n; j++) {
        const uint64_t step = call->n_rows / call->n;
        index[j] = (uint32_t)(ascending ? at + adm_rng_below(rng, step > 0 ? step : 1) : adm_rng_below(rng, call->n_rows));
        at += step;
    }
}

/* Attention: ordinary; large scores; all keys alike; one key that draws everything. */
static void fill_attention(adm_rng *rng, const adm_host_case *c, const adm_host_call *call, bool with_kv) {
    static const float query_factor[] = {1, 6, 1, 1};
    char *q = adm_arena_at(&c->in, (size_t)call->in[0]), *k = adm_arena_at(&c->in, (size_t)call->in[1]);
    const size_t row_bytes = call->head_dim * adm_dtype_bytes(call->dtype);
    const uint32_t pattern = call->pattern % 4;
    fill_row(rng, call->dtype, call->head_dim, query_factor[pattern], true, q);
    if (with_kv) {
        fill_rows(rng, call, k, call->n_rows, 1, true);
        fill_rows(rng, call, adm_arena_at(&c->in, (size_t)call->in[2]), call->n_rows, 1, false);
        for (size_t t = 1; t < call->n_rows && pattern == 2; t++) memcpy(k + t * row_bytes, k, row_bytes);
        if (pattern == 3 && call->n_rows > 0) memcpy(k + adm_rng_below(rng, call->n_rows) * row_bytes, q, row_bytes);
    }
    if (call->in[3] >= 0) fill_index(rng, call, adm_arena_at(&c->in, (size_t)call->in[3]), c->is_timed);
}

/* --- Answers -------------------------------------------------------------------------------------------------------- */

static void answer(adm_host_case *c, const adm_host_call *call, double *score, uint32_t *histogram) {
    const void *in[ADM_CALL_INPUTS];
    char *to = c->expected + call->expected;
    for (int k = 0; k < ADM_CALL_INPUTS; k++) in[k] = call->in[k] >= 0 ? adm_arena_at(&c->in, (size_t)call->in[k]) : NULL;
    switch (call->stage) {
    case ADM_STAGE_HADAMARD: adm_hadamard_reference(call->dtype, in[0], call->n, call->head_dim, (float *)to); return;
    case ADM_STAGE_BUCKET: adm_bucket_reference(in[0], call->n, call->threshold, (uint8_t *)to); return;
    case ADM_STAGE_PACK: adm_pack_reference(in[0], call->n, call->head_dim, (uint8_t *)to); return;
    case ADM_STAGE_DISTANCE: /* element by element, unless that would take seconds */
        (c->is_timed ? adm_distance_l1 : adm_distance_reference)(in[0], in[1], call->n, call->head_dim, (uint16_t *)to);
        return;
    case ADM_STAGE_TOPK: {
        adm_select_info *info = (adm_select_info *)(to + sizeof(uint32_t));
        *(uint32_t *)to = adm_topk_reference(in[0], call->n, 3 * call->head_dim, &call->rule, histogram, (uint32_t *)(info + 1),
                                             info);
        return;
    }
    default:
        (c->is_timed ? c->timed_attention : adm_attention_reference)(call->dtype, in[0], in[1], in[2], in[3], call->n,
                                                                     call->head_dim, call->scale, score, (float *)to);
    }
}

static void fill_call(adm_host_case *c, const adm_host_call *call, adm_rng *rng, bool with_keys) {
    void *in = adm_arena_at(&c->in, (size_t)call->in[0]);
    switch (call->stage) {
    case ADM_STAGE_HADAMARD: fill_hadamard(rng, call, in); break;
    case ADM_STAGE_BUCKET: fill_bucket(rng, call, in); break;
    case ADM_STAGE_PACK: fill_bytes(rng, in, call->n * call->head_dim, 3); break;
    case ADM_STAGE_DISTANCE: fill_codes(rng, call, in, adm_arena_at(&c->in, (size_t)call->in[1]), with_keys); break;
    case ADM_STAGE_TOPK: fill_distances(rng, call, in); break;
    default: fill_attention(rng, c, call, with_keys); break;
    }
}

/* Calls that share keys follow one another, and later sets share those of the first. */
static void fill_random(adm_host_case *c, adm_rng *rng, bool refill) {
    int32_t newest_keys = -1;
    for (size_t i = 0; i < c->n_calls; i++) {
        const adm_host_call *call = &c->call[i];
        fill_call(c, call, rng, !refill && call->in[1] > newest_keys);
        if (call->in[1] > newest_keys) newest_keys = call->in[1];
    }
}

void adm_host_case_fill(adm_host_case *c, uint64_t seed, bool refill) {
    adm_rng rng;
    adm_rng_seed(&rng, seed);
    c->seed = seed;
    if (c->is_timed && c->config.source != NULL) adm_trace_source_fill(c->config.source, c, &rng, refill);
    else fill_random(c, &rng, refill);
    for (size_t i = 0; i < c->n_calls; i++) answer(c, &c->call[i], c->score, c->histogram);
}
