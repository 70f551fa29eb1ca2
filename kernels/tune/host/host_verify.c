/* host_verify.c: what a call left against the right answer, in words that say what kind of mistake it is. */
#include <math.h>
#include <string.h>

#include "core/base/minmax.h"
#include "kernels/topk/topk.h"
#include "kernels/tune/host/host_case.h"
#include "kernels/tune/host/topk_words.h"

/* What a comparison works with. */
typedef struct comparison {
    const adm_host_case *c;
    const adm_host_call *call;
    const adm_arena *out;
    const char *expected;
    char where[96]; /* the call in words */
    adm_error *err;
} comparison;

static const void *input(const comparison *x, int i) { return adm_arena_at(&x->c->in, (size_t)x->call->in[i]); }
static const void *output(const comparison *x, int i) { return adm_arena_at(x->out, (size_t)x->call->out[i]); }

/* --- Top-k ---------------------------------------------------------------------------------------------------------- */

static bool has(const uint32_t *index, uint32_t n, uint32_t token) {
    for (uint32_t i = 0; i < n; i++)
        if (index[i] == token) return true;
    return false;
}

/* The first token of `of` that `other` lacks; UINT32_MAX: none. */
static uint32_t first_missing(const uint32_t *of, uint32_t n, const uint32_t *other, uint32_t n_other) {
    for (uint32_t i = 0; i < n; i++)
        if (!has(other, n_other, of[i])) return of[i];
    return UINT32_MAX;
}

/* A selection, the right one, and what it was made from. */
typedef struct selection {
    const uint16_t *distance;
    size_t n_tokens;
    const adm_select_rule *rule;
    const char *where;
    adm_error *err;
} selection;

static adm_status wrong_token(const selection *s, uint32_t absent, uint32_t extra) {
    const uint16_t *distance = s->distance;
    const uint32_t newest = (uint32_t)s->n_tokens - 1;
    const adm_eligible e = adm_topk_eligible(s->rule, s->n_tokens);
    if (absent == newest)
        return adm_fail(s->err, ADM_EINTERNAL, "%s: the newest token, %u, is missing; it is always selected", s->where, absent);
    if (absent < e.first) return adm_fail(s->err, ADM_EINTERNAL, "%s: token %u, a sink, is missing", s->where, absent);
    if (absent >= e.last)
        return adm_fail(s->err, ADM_EINTERNAL, "%s: token %u is missing, one of the %u most recent, which are always selected",
                        s->where, absent, s->rule->n_recent);
    if (distance[absent] == distance[extra] && absent > extra)
        return adm_fail(s->err, ADM_EINTERNAL,
                        "%s: a tie given to the older token: %u was selected and %u was not, both at distance %u", s->where,
                        extra, absent, distance[absent]);
    return adm_fail(s->err, ADM_EINTERNAL, "%s: token %u at distance %u is missing, and token %u at distance %u was selected",
                    s->where, absent, distance[absent], extra, distance[extra]);
}

adm_status adm_topk_verify(const uint16_t *distance, size_t n_tokens, const adm_select_rule *rule, const uint32_t *found,
                           uint32_t n_found, const uint32_t *expected, uint32_t n, const char *where, adm_error *err) {
    const selection s = {distance, n_tokens, rule, where, err};
    if (n_found != n && (n_found == UINT32_MAX || n_found == 0xa5a5a5a5u))
        return adm_fail(err, ADM_EINTERNAL, "%s: the number of selected tokens was never written", where);
    if (n_found != n)
        return adm_fail(err, ADM_EINTERNAL, "%s: %u tokens were selected, and min(budget, tokens) is %u", where, n_found, n);
    if (n == 0 || memcmp(found, expected, n * sizeof *found) == 0) return ADM_OK;
    for (uint32_t i = 0; i < n; i++) {
        if (found[i] >= n_tokens)
            return adm_fail(err, ADM_EINTERNAL, "%s: index[%u] is %u, which is no token%s", where, i, found[i],
                            found[i] == UINT32_MAX || found[i] == 0xa5a5a5a5u ? ": it was never written" : "");
        if (i > 0 && found[i] <= found[i - 1])
            return adm_fail(err, ADM_EINTERNAL, "%s: index[%u] is %u after %u: %s", where, i, found[i], found[i - 1],
                            found[i] == found[i - 1] ? "a token is selected twice" : "the tokens must ascend");
    }
    const uint32_t absent = first_missing(expected, n, found, n), extra = first_missing(found, n, expected, n);
    return wrong_token(&s, absent, extra);
}

static adm_status verify_topk(const comparison *x) {
    const uint32_t expected_n = *(const uint32_t *)x->expected, n = *(const uint32_t *)output(x, 1);
    const adm_select_info *info = (const adm_select_info *)(x->expected + sizeof(uint32_t));
    adm_status status = adm_topk_verify(input(x, 0), x->call->n, &x->call->rule, output(x, 0), n, (const uint32_t *)(info + 1),
                                        expected_n, x->where, x->err);
    if (status != ADM_OK || x->call->out[2] < 0) return status;
    const adm_select_info *found = output(x, 2);
    if (memcmp(found, info, sizeof *info) != 0)
        return adm_fail(x->err, ADM_EINTERNAL, "%s: info is boundary %u, %u tied, %u of them in; right is %u, %u, %u", x->where,
                        found->boundary, found->n_tied, found->n_tied_in, info->boundary, info->n_tied, info->n_tied_in);
    return ADM_OK;
}

/* --- The others ----------------------------------------------------------------------------------------------------- */

static adm_status verify_floats(const comparison *x) {
    const float *found = output(x, 0), *expected = (const float *)x->expected;
    const size_t d = x->call->head_dim;
    for (size_t i = 0; i < x->call->n * d; i++)
        if (memcmp(&found[i], &expected[i], sizeof *found) != 0)
            return adm_fail(x->err, ADM_EINTERNAL, "%s: row %zu, element %zu is %.9g; right, bit for bit, is %.9g", x->where,
                            i / d, i % d, (double)found[i], (double)expected[i]);
    return ADM_OK;
}

static adm_status verify_bytes(const comparison *x, size_t n, size_t row) {
    const uint8_t *found = output(x, 0), *expected = (const uint8_t *)x->expected;
    for (size_t i = 0; i < n; i++) {
        if (found[i] == expected[i]) continue;
        if (x->call->stage == ADM_STAGE_BUCKET)
            return adm_fail(x->err, ADM_EINTERNAL,
                            "%s: the code of element %zu, %.9g, is %u; right is %u (thresholds %.9g, %.9g, %.9g)", x->where, i,
                            (double)((const float *)input(x, 0))[i], found[i], expected[i], (double)x->call->threshold[0],
                            (double)x->call->threshold[1], (double)x->call->threshold[2]);
        return adm_fail(x->err, ADM_EINTERNAL, "%s: row %zu, byte %zu is 0x%02x; right is 0x%02x", x->where, i / row, i % row,
                        found[i], expected[i]);
    }
    return ADM_OK;
}

static adm_status verify_distance(const comparison *x) {
    const uint16_t *found = output(x, 0), *expected = (const uint16_t *)x->expected;
    for (size_t t = 0; t < x->call->n; t++)
        if (found[t] != expected[t])
            return adm_fail(x->err, ADM_EINTERNAL, "%s: the distance of token %zu is %u; right is %u", x->where, t, found[t],
                            expected[t]);
    return ADM_OK;
}

static adm_status verify_attention(const comparison *x, double tolerance) {
    const float *found = output(x, 0), *expected = (const float *)x->expected;
    double difference = 0, norm = 0;
    size_t worst = 0;
    for (size_t i = 0; i < x->call->head_dim; i++) {
        const double here = fabs((double)found[i] - expected[i]);
        if (!isfinite(found[i]))
            return adm_fail(x->err, ADM_EINTERNAL, "%s: element %zu of the output is not finite; right is %.9g", x->where, i,
                            (double)expected[i]);
        if (here > fabs((double)found[worst] - expected[worst])) worst = i;
        difference += here * here;
        norm += (double)expected[i] * expected[i];
    }
    const double error = norm > 0 ? sqrt(difference / norm) : sqrt(difference);
    if (error <= tolerance) return ADM_OK;
    return adm_fail(x->err, ADM_EINTERNAL,
                    "%s: the output has a relative L2 error of %.3g, above %.3g; element %zu is %.9g and should be %.9g",
                    x->where, error, tolerance, worst, (double)found[worst], (double)expected[worst]);
}

adm_status adm_host_call_verify(const adm_host_case *c, const adm_arena *out, size_t i, double tolerance, adm_error *err) {
    comparison x = {.c = c, .call = &c->call[i], .out = out, .expected = c->expected + c->call[i].expected, .err = err};
    const size_t d = x.call->head_dim;
    adm_host_call_words(c, i, x.where, sizeof x.where);
    switch (x.call->stage) {
    case ADM_STAGE_HADAMARD: return verify_floats(&x);
    case ADM_STAGE_BUCKET: return verify_bytes(&x, x.call->n, d);
    case ADM_STAGE_PACK: return verify_bytes(&x, x.call->n * d / 4, d / 4);
    case ADM_STAGE_DISTANCE: return verify_distance(&x);
    case ADM_STAGE_TOPK: return verify_topk(&x);
    default: return verify_attention(&x, tolerance);
    }
}
