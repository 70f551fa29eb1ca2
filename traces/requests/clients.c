/* clients.c: samples arrivals and lengths. */
#include "traces/requests/clients.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/suggest.h"
#include "traces/generate/generate_math.h"
#include "traces/requests/json_numbers.h"
#include "traces/requests/numbers.h"

enum { MAX_SAMPLED = 1000000, MAX_TABLE = 65536, PREFIX_BLOCK_TOKENS = 16 };

typedef enum pattern { POISSON, GAMMA, WEIBULL, BURSTY } pattern;

typedef struct entry {
    double tokens, until; /* until: the sum of weights up to this one's */
} entry;

typedef struct lengths {
    entry *table; /* [n] by tokens; NULL: log-normal */
    size_t n;
    double mean, sigma; /* of the logarithm */
} lengths;

typedef struct client {
    double rate, cv, start, duration, on, off, prefix_tokens;
    pattern pattern;
    double shape, scale; /* of the gap's distribution, in seconds */
    lengths input, output;
} client;

/* --- Random numbers ------------------------------------------------------------------------------------------------- */

static double exponential(adm_rng *rng) { return -adm_gen_log(1 - adm_rng_unit(rng)); }

/* The polar method with a logarithm that is the same everywhere. */
static double normal(adm_rng *rng) {
    double x, y, r2;
    do {
        x = 2 * adm_rng_unit(rng) - 1;
        y = 2 * adm_rng_unit(rng) - 1;
        r2 = x * x + y * y;
    } while (r2 >= 1 || r2 == 0);
    return x * sqrt(-2 * adm_gen_log(r2) / r2);
}

/* Marsaglia and Tsang, 2000; a shape below 1 through shape + 1. */
static double gamma_of(adm_rng *rng, double shape) {
    const double k = shape < 1 ? shape + 1 : shape, d = k - 1.0 / 3, c = 1 / sqrt(9 * d);
    const double boost = shape < 1 ? adm_gen_exp(adm_gen_log(1 - adm_rng_unit(rng)) / shape) : 1;
    for (;;) {
        const double x = normal(rng), v0 = 1 + c * x, v = v0 * v0 * v0;
        if (v0 <= 0) continue;
        if (adm_gen_log(1 - adm_rng_unit(rng)) < 0.5 * x * x + d - d * v + d * adm_gen_log(v)) return d * v * boost;
    }
}

/* ln Gamma(x), x >= 1: Stirling's series after shifting x beyond 8; to 1e-10. */
static double log_gamma(double x) {
    double shift = 0;
    for (; x < 8; x++) shift += adm_gen_log(x);
    const double i = 1 / x, i2 = i * i;
    return (x - 0.5) * adm_gen_log(x) - x + 0.9189385332046727 + i * (1.0 / 12 - i2 * (1.0 / 360 - i2 / 1260)) - shift;
}

/* The Weibull shape whose coefficient of variation is cv, by bisection. */
static double weibull_shape(double cv) {
    double low = 0.15, high = 20;
    for (int i = 0; i < 60; i++) {
        const double k = (low + high) / 2, g1 = log_gamma(1 + 1 / k), g2 = log_gamma(1 + 2 / k);
        if (adm_gen_exp(g2 - 2 * g1) - 1 > cv * cv) low = k;
        else high = k;
    }
    return (low + high) / 2;
}

/* Seconds to the next request. */
static double gap(adm_rng *rng, const client *c) {
    if (c->pattern == GAMMA) return gamma_of(rng, c->shape) * c->scale;
    const double e = exponential(rng);
    return c->pattern == WEIBULL ? adm_gen_exp(adm_gen_log(e > 0 ? e : 1e-300) / c->shape) * c->scale : e * c->scale;
}

static uint64_t length(adm_rng *rng, const lengths *l) {
    if (l->table == NULL) {
        const double x = adm_gen_exp(l->mean + l->sigma * normal(rng)) + 0.5;
        return x < 1 ? 1 : x > ADM_REQUESTS_MAX_TOKENS ? ADM_REQUESTS_MAX_TOKENS : (uint64_t)x;
    }
    const double at = adm_rng_unit(rng) * l->table[l->n - 1].until;
    size_t low = 0, high = l->n - 1;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (l->table[middle].until > at) high = middle;
        else low = middle + 1;
    }
    return (uint64_t)l->table[low].tokens;
}

/* --- Parameters ----------------------------------------------------------------------------------------------------- */

static adm_status number(const adm_lines *lines, const json_t *object, const char *key, double otherwise, double min,
                         double max, double *value, adm_error *err) {
    const json_t *item = json_object_get(object, key);
    *value = otherwise;
    if (item == NULL && otherwise >= 0) return ADM_OK;
    if (!json_is_number(item)) return adm_lines_refuse(lines, err, "\"%s\" is not a number", key);
    *value = json_number_value(item);
    if (*value >= min && *value <= max) return ADM_OK;
    return adm_lines_refuse(lines, err, "\"%s\" is %g, it must be %g to %g", key, *value, min, max);
}

static int entry_order(const void *a, const void *b) {
    const double x = ((const entry *)a)->tokens, y = ((const entry *)b)->tokens;
    return x < y ? -1 : x > y;
}

static adm_status read_table(const adm_lines *lines, json_t *table, const char *name, lengths *l, adm_error *err) {
    const char *key;
    json_t *weight;
    char quote[ADM_SHOWN_BYTES];
    const size_t n = json_object_size(table);
    if (n == 0 || n > MAX_TABLE)
        return adm_lines_refuse(lines, err, "\"%s\" has %zu lengths, it must have 1 to %d", name, n, MAX_TABLE);
    adm_status status = adm_alloc(&l->table, n, sizeof *l->table, "a table of lengths", err);
    if (status != ADM_OK) return status;
    json_object_foreach(table, key, weight) {
        uint64_t tokens;
        const double w = json_number_value(weight);
        if (!adm_read_whole(key, ADM_REQUESTS_MAX_TOKENS, &tokens) || !json_is_number(weight) || !(w >= 0) || !(w <= 1e12))
            return adm_lines_refuse(lines, err, "\"%s\" has '%s', which is no number of tokens with a weight of 0 to 1e12",
                                    name, adm_shown(key, quote));
        l->table[l->n++] = (entry){(double)tokens, w};
    }
    adm_sort(l->table, l->n, sizeof *l->table, entry_order);
    for (size_t i = 1; i < l->n; i++) l->table[i].until += l->table[i - 1].until;
    return l->table[n - 1].until > 0 ? ADM_OK
                                     : adm_lines_refuse(lines, err, "\"%s\" has no length with a weight above 0", name);
}

static adm_status read_lengths(const adm_lines *lines, const json_t *object, const char *name, lengths *l, adm_error *err) {
    json_t *item = json_object_get(object, name);
    double mean, cv = 0;
    adm_status status = ADM_OK;
    if (json_is_number(item)) {
        status = number(lines, object, name, -1, 1, ADM_REQUESTS_MAX_TOKENS, &mean, err);
        if (status != ADM_OK) return status;
    } else if (!json_is_object(item))
        return adm_lines_refuse(lines, err, "has no \"%s\", neither a number, a table nor a mean", name);
    else if (json_object_get(item, "mean") == NULL) return read_table(lines, item, name, l, err);
    else {
        status = number(lines, item, "mean", -1, 1, ADM_REQUESTS_MAX_TOKENS, &mean, err);
        if (status == ADM_OK) status = number(lines, item, "cv", 1, 0, 20, &cv, err);
    }
    if (status != ADM_OK) return status;
    const double variance = adm_gen_log(1 + cv * cv);
    l->sigma = sqrt(variance);
    l->mean = adm_gen_log(mean) - variance / 2;
    return ADM_OK;
}

static adm_status read_pattern(const adm_lines *lines, const json_t *object, client *c, adm_error *err) {
    static const char *const names[] = {"poisson", "gamma", "weibull", "bursty"};
    const json_t *item = json_object_get(object, "pattern");
    const char *name = item == NULL ? "poisson" : json_string_value(item);
    char quote[ADM_SHOWN_BYTES], meant[ADM_DID_YOU_MEAN_BYTES];
    size_t i = 0;
    while (name != NULL && i < 4 && strcasecmp(names[i], name) != 0) i++;
    if (name == NULL || i == 4)
        return adm_lines_refuse(lines, err, "pattern '%s' is none of poisson, gamma, weibull, bursty%s",
                                adm_shown(name != NULL ? name : "", quote),
                                adm_did_you_mean(name != NULL ? name : "", names, 4, meant));
    c->pattern = (pattern)i;
    c->scale = 1 / c->rate;
    if (c->pattern == GAMMA) {
        c->shape = 1 / (c->cv * c->cv);
        c->scale = 1 / (c->rate * c->shape);
    } else if (c->pattern == WEIBULL) {
        c->shape = weibull_shape(c->cv);
        c->scale = 1 / (c->rate * adm_gen_exp(log_gamma(1 + 1 / c->shape)));
    } else if (c->pattern == BURSTY) c->scale = c->on / ((c->on + c->off) * c->rate);
    return ADM_OK;
}

static adm_status read_client(const adm_lines *lines, const json_t *object, client *c, adm_error *err) {
    adm_status status = number(lines, object, "rate", -1, 1e-9, 1e6, &c->rate, err);
    if (status == ADM_OK) status = number(lines, object, "cv", 1, 0.05, 10, &c->cv, err);
    if (status == ADM_OK) status = number(lines, object, "start", 0, 0, 1e9, &c->start, err);
    if (status == ADM_OK) status = number(lines, object, "duration", 600, 1e-3, 1e9, &c->duration, err);
    if (status == ADM_OK) status = number(lines, object, "on", 5, 1e-3, 1e6, &c->on, err);
    if (status == ADM_OK) status = number(lines, object, "off", 15, 0, 1e6, &c->off, err);
    if (status == ADM_OK) status = number(lines, object, "prefix_tokens", 0, 0, 1 << 24, &c->prefix_tokens, err);
    if (status == ADM_OK && c->rate * c->duration > MAX_SAMPLED)
        status = adm_lines_refuse(lines, err, "rate and duration make %.3g requests, the limit of a client is %d",
                                  c->rate * c->duration, MAX_SAMPLED);
    if (status == ADM_OK) status = read_pattern(lines, object, c, err);
    if (status == ADM_OK) status = read_lengths(lines, object, "input_tokens", &c->input, err);
    if (status == ADM_OK) status = read_lengths(lines, object, "output_tokens", &c->output, err);
    return status;
}

/* --- Sampling ------------------------------------------------------------------------------------------------------- */

static adm_status add_prefix(const client *c, const adm_lines *lines, uint64_t seed, uint64_t input, adm_builder *builder,
                             adm_error *err) {
    adm_status status = ADM_OK;
    builder->fixed_block_tokens = PREFIX_BLOCK_TOKENS;
    for (uint64_t i = 0; status == ADM_OK && (double)((i + 1) * PREFIX_BLOCK_TOKENS) <= c->prefix_tokens &&
                         (i + 1) * PREFIX_BLOCK_TOKENS <= input;
         i++)
        status = adm_builder_block(builder, (seed * 1000003 + lines->n_line) << 24 | i, err);
    return status;
}

static adm_status sample(const client *c, uint64_t seed, const adm_lines *lines, adm_builder *builder, adm_error *err) {
    adm_rng times, sizes;
    adm_gen_stream(&times, seed, 1, lines->n_line, 0, 0);
    adm_gen_stream(&sizes, seed, 2, lines->n_line, 0, 0);
    adm_status status = ADM_OK;
    double at = 0;
    for (size_t n = 0; status == ADM_OK; n++) {
        at += gap(&times, c);
        /* A burst's clock runs while it is on. */
        const double on = c->pattern == BURSTY ? floor(at / c->on) : 0;
        const double second = at + on * c->off;
        if (second > c->duration || n == 2 * MAX_SAMPLED) break;
        adm_row_request r = {.arrival_ns = (uint64_t)((c->start + second) * 1e9), .parent = -1};
        r.input = length(&sizes, &c->input);
        r.output = length(&sizes, &c->output);
        status = adm_builder_add(builder, lines, &r, err);
        if (status == ADM_OK && c->prefix_tokens > 0) status = add_prefix(c, lines, seed, r.input, builder, err);
    }
    return status;
}

adm_status adm_client_row(uint64_t seed, const adm_lines *lines, const json_t *object, adm_builder *builder, adm_error *err) {
    client c = {0};
    adm_status status = read_client(lines, object, &c, err);
    if (status == ADM_OK) status = sample(&c, seed, lines, builder, err);
    adm_free(&c.input.table);
    adm_free(&c.output.table);
    return status;
}
