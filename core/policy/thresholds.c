/* thresholds.c: specifications of bucketing thresholds, their defaults, and quantiles. */
#include "core/policy/thresholds.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/suggest.h"

/* What each default is worth, mean over every fourth of the last 64 steps of the bundled session (4,096 tokens, calibrated
 * on the first 1,024), recall at budgets 64 / 256 / 1024 and then the output's relative L2 error:
 *
 *   l1          1/3   1/2 2/3    .33 .43 .61 | .42 .21 .07        dot         1/3 1/2 2/3    .38 .47 .65 | .36 .18 .05
 *               .25   .5  .75    .31 .41 .60 | .43 .24 .08                    .25 .5  .75    .47 .55 .70 | .29 .15 .04
 *               .2    .5  .8     .28 .37 .57 | .49 .28 .10                    .2  .5  .8     .50 .57 .72 | .27 .13 .04
 *   l1, 3 bits  .2 .3 .4 ...     .36 .46 .63 | .40 .21 .06                    .1  .5  .9     .46 .54 .69 | .30 .14 .04
 *               eighths          .34 .44 .62 | .43 .24 .08        dot, 3 bits .2 .3 .4 ...   .53 .60 .73 | .26 .13 .04
 *                                                                             eighths        .62 .68 .78 | .22 .11 .03
 * A metric that subtracts codes punishes a key for being longer than the query, so it wants the outer codes common; one that
 * multiplies them rewards it. */
void adm_threshold_defaults(uint32_t bits, bool products, float *value) {
    static const float defaults[2][ADM_MAX_CODE_BITS][ADM_MAX_THRESHOLDS] = {
        {{0.5f}, {1.0f / 3, 0.5f, 2.0f / 3}, {0.2f, 0.3f, 0.4f, 0.5f, 0.6f, 0.7f, 0.8f}},
        {{0.5f}, {0.2f, 0.5f, 0.8f}, {0.125f, 0.25f, 0.375f, 0.5f, 0.625f, 0.75f, 0.875f}},
    };
    memcpy(value, defaults[products][bits - 1], ((1u << bits) - 1) * sizeof *value);
}

/* --- Parsing ------------------------------------------------------------------------------------------------------ */

uint32_t adm_threshold_scaled(float tau, float *value) {
    value[0] = -tau;
    value[1] = 0;
    value[2] = tau;
    return 3;
}

/* One number is tau; three are what they say. */
static adm_status finish_scaled(adm_threshold_spec *spec, adm_error *err) {
    if (spec->n_values == 7)
        return adm_fail(err, ADM_EINPUT, "thresholds '%s': seven numbers; scaled takes one or three", spec->text);
    if (spec->n_values == 3) return ADM_OK;
    if (!(spec->value[0] > 0))
        return adm_fail(err, ADM_EINPUT, "thresholds '%s': %g standard deviations; tau must be above 0", spec->text,
                        (double)spec->value[0]);
    spec->n_values = adm_threshold_scaled(spec->value[0], spec->value);
    return ADM_OK;
}

static adm_status parse_numbers(const char *numbers, adm_threshold_spec *spec, adm_error *err) {
    const char *at = numbers, *text = spec->text;
    uint32_t n = 0;
    for (bool more = true; more; at++) {
        char *end;
        float value = strtof(at, &end);
        more = *end == ',';
        if (end == at || (*end != '\0' && !more) || n == ADM_MAX_THRESHOLDS) {
            n = 0;
            break;
        }
        if (!isfinite(value))
            return adm_fail(err, ADM_EINPUT, "thresholds '%s': number %u is not finite in float32", text, n + 1);
        if (n > 0 && value < spec->value[n - 1])
            return adm_fail(err, ADM_EINPUT, "thresholds '%s': the numbers must ascend", text);
        spec->value[n++] = value;
        at = end;
    }
    if (n != 1 && n != 3 && n != 7)
        return adm_fail(err, ADM_EINPUT,
                        "thresholds '%s': one, three or seven numbers separated by commas must follow the "
                        "colon, for codes of 1, 2 or 3 bits",
                        text);
    spec->n_values = n;
    if (spec->kind == ADM_THRESHOLDS_SCALED) return finish_scaled(spec, err);
    if (spec->per_layer && (spec->value[0] < 0 || spec->value[n - 1] > 1))
        return adm_fail(err, ADM_EINPUT, "thresholds '%s': a quantile lies between 0 and 1", text);
    return ADM_OK;
}

adm_status adm_threshold_parse(const char *text, adm_threshold_spec *spec, adm_error *err) {
    static const struct {
        const char *word;
        adm_threshold_kind kind;
        bool takes_numbers, needs_numbers;
    } known[] = {
        {"fixed", ADM_THRESHOLDS_FIXED, true, true},        {"quantile", ADM_THRESHOLDS_LAYER, true, true},
        {"calibrated", ADM_THRESHOLDS_LAYER, false, false}, {"centred", ADM_THRESHOLDS_CENTRED, true, false},
        {"channel", ADM_THRESHOLDS_CHANNEL, true, false},   {"scaled", ADM_THRESHOLDS_SCALED, true, false},
    };
    const char *words[sizeof known / sizeof known[0]];
    char kind[64], meant[ADM_DID_YOU_MEAN_BYTES];
    *spec = (adm_threshold_spec){.n_values = 0};
    size_t length = strlen(text);
    if (length >= sizeof spec->text)
        return adm_fail(err, ADM_EINPUT, "thresholds '%.20s...': longer than %zu characters", text, sizeof spec->text - 1);
    memcpy(spec->text, text, length + 1);
    size_t word = strcspn(text, ":");
    snprintf(kind, sizeof kind, "%.*s", (int)(word < sizeof kind ? word : sizeof kind - 1), text);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) words[i] = known[i].word;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strlen(known[i].word) != word || memcmp(known[i].word, text, word) != 0) continue;
        bool numbers = text[word] == ':';
        if (numbers ? !known[i].takes_numbers : known[i].needs_numbers) break;
        spec->kind = known[i].kind;
        spec->per_layer = spec->kind != ADM_THRESHOLDS_FIXED;
        adm_threshold_defaults(2, false, spec->value);
        return numbers ? parse_numbers(text + word + 1, spec, err) : ADM_OK;
    }
    return adm_fail(err, ADM_EINPUT,
                    "thresholds '%s' are not known: use calibrated, fixed:a,b,c, quantile:p,q,r, "
                    "centred[:p,q,r], channel[:p,q,r] or scaled[:tau]%s",
                    text, adm_did_you_mean(kind, words, sizeof words / sizeof words[0], meant));
}

/* --- Quantiles ---------------------------------------------------------------------------------------------------- */

/* Where a value between the ends of y [n] may be found: the middle one of three. */
static float pivot_of(const float *y, size_t n) {
    float a = y[0], b = y[n / 2], c = y[n - 1];
    float low = a < b ? a : b, high = a < b ? b : a;
    return c < low ? low : c > high ? high : c;
}

/* Puts the k-th smallest of y [n] to y[k], none larger before it, none smaller behind it. Splits in three, so that a value
 * which fills the keys (zeros) takes one round. */
static void put_in_place(float *y, size_t n, size_t k) {
    size_t first = 0, last = n; /* the k-th is in [first, last) */
    while (last - first > 1) {
        const float pivot = pivot_of(y + first, last - first);
        size_t below = first, i = first, above = last;
        while (i < above) {
            float value = y[i];
            if (value < pivot) {
                y[i++] = y[below];
                y[below++] = value;
            } else if (value > pivot) {
                y[i] = y[--above];
                y[above] = value;
            } else {
                i++;
            }
        }
        if (k >= below && k < above) return;
        if (k < below) last = below;
        else first = above;
    }
}

/* Of many values, those that share the leading bits with the k-th smallest: sign, exponent and three more. */
enum { BIN_BITS = 12, N_BINS = 1 << BIN_BITS, MANY = 16 * N_BINS };

/* Ascends with the value. */
static uint32_t bin_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (bits >> 31 ? ~bits : bits | UINT32_C(1) << 31) >> (32 - BIN_BITS);
}

/* Moves the k-th smallest of y [n] to y[*at], and all that lie in its bin to the front, in place among themselves. Returns
 * how many those are. count [N_BINS]: values in each bin. */
static size_t select_in_bin(float *y, size_t n, const uint32_t *count, size_t k, size_t *at) {
    uint32_t bin = 0;
    size_t below = 0, n_found = 0;
    while (below + count[bin] <= k) below += count[bin++];
    for (size_t i = 0; i < n; i++) {
        const float value = y[i];
        if (bin_of(value) != bin) continue;
        y[i] = y[n_found];
        y[n_found++] = value;
    }
    *at = k - below;
    put_in_place(y, n_found, *at);
    return n_found;
}

static float smallest_from_bin(const float *y, size_t n, uint32_t bin) {
    float smallest = INFINITY;
    for (size_t i = 0; i < n; i++)
        if (bin_of(y[i]) >= bin && y[i] < smallest) smallest = y[i];
    return smallest;
}

static void quantiles_of_many(float *y, size_t n, const float *q, uint32_t n_q, float *out) {
    uint32_t count[N_BINS] = {0};
    for (size_t i = 0; i < n; i++) count[bin_of(y[i])]++;
    for (uint32_t i = 0; i < n_q; i++) {
        const double rank = (double)q[i] * (double)(n - 1);
        size_t at, n_found = select_in_bin(y, n, count, (size_t)rank, &at);
        const float below = y[at];
        float above = below; /* the next value, where there is one */
        if (at + 1 < n_found) {
            put_in_place(y + at + 1, n_found - at - 1, 0);
            above = y[at + 1];
        } else if ((size_t)rank + 1 < n) {
            above = smallest_from_bin(y, n, bin_of(below) + 1);
        }
        out[i] = (float)(below + (rank - (double)(size_t)rank) * ((double)above - below));
    }
}

void adm_quantiles(float *y, size_t n, const float *q, uint32_t n_q, float *out) {
    if (n >= MANY) {
        quantiles_of_many(y, n, q, n_q, out);
        return;
    }
    size_t done = 0; /* y[0 .. done) are in place: none behind is smaller */
    for (uint32_t i = 0; i < n_q; i++) {
        const double rank = (double)q[i] * (double)(n - 1);
        const size_t below = (size_t)rank, above = below + 1 < n ? below + 1 : below;
        if (below >= done) put_in_place(y + done, n - done, below - done);
        if (above >= done && above > below) put_in_place(y + below + 1, n - below - 1, 0);
        done = above + 1;
        out[i] = (float)(y[below] + (rank - (double)below) * ((double)y[above] - y[below]));
    }
}

adm_status adm_threshold_resolve(const adm_threshold_spec *spec, float *y, size_t n, float thresholds[3], adm_error *err) {
    if (spec->kind > ADM_THRESHOLDS_LAYER || (spec->n_values != 0 && spec->n_values != 3))
        return adm_fail(err, ADM_EINPUT,
                        "thresholds '%s' are not three for a layer: use calibrated, fixed:a,b,c or "
                        "quantile:p,q,r",
                        spec->text);
    if (!spec->per_layer) {
        memcpy(thresholds, spec->value, 3 * sizeof *thresholds);
        return ADM_OK;
    }
    if (n == 0)
        return adm_fail(err, ADM_EINPUT, "thresholds '%s': no token stands before the first step to calibrate on", spec->text);
    adm_quantiles(y, n, spec->value, 3, thresholds);
    return ADM_OK;
}
