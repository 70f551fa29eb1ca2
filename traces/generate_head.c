/* generate_head.c: one KV head of a synthetic session. The constants are fitted, see generate.h; where one is a range, each
 * head draws its own. Vectors are in RoPE halves: pair j is the elements j and j + d/2. */
#include "traces/generate_head.h"

#include <math.h>
#include <string.h>

#include "traces/generate_math.h"

enum { STREAM_HEAD = 1, STREAM_TOPIC_OF, STREAM_TOPIC, STREAM_PHRASE, STREAM_TOKEN, STREAM_SINK, STREAM_QUERY_HEAD,
       STREAM_QUERY, STREAM_VALUE = 64 /* added to the streams of content */ };

enum { N_TOPICS = 64, TOPIC_TOKENS = 32, PHRASE_TOKENS = 4, QUERY_TOPIC_STEPS = 16, RECENT_TOKENS = 64 };

/* Shares of a key's content: their squares sum to 1. Neighbours then correlate by 0.37, tokens 4 apart by 0.1. */
static const double phrase_share = 0.6, topic_share = 0.3162277660168379, token_share = 0.7348469228349535;

/* --- RoPE --------------------------------------------------------------------------------------------------------- */

void adm_gen_rope_init(adm_gen_rope *rope, double base, uint64_t n_tokens, uint32_t head_dim) {
    const double fitted_base = 100000, fitted_tokens = 8192;
    if (base == 0) base = n_tokens <= (uint64_t)fitted_tokens ? fitted_base
                                                              : floor(fitted_base * (double)n_tokens / fitted_tokens);
    rope->base = base;
    rope->n_pairs = head_dim / 2;
    rope->block = UINT64_MAX;
    adm_gen_rope_turns(base, head_dim, rope->turns);
    for (int r = 0; r < ADM_GEN_BLOCK; r++)
        for (uint32_t j = 0; j < rope->n_pairs; j++)
            adm_gen_circle(rope->turns[j] * (double)r, &rope->cos_in[r][j], &rope->sin_in[r][j]);
}

static void rotate(adm_gen_rope *rope, uint64_t token, double *x) {
    const double *cos_in = rope->cos_in[token % ADM_GEN_BLOCK], *sin_in = rope->sin_in[token % ADM_GEN_BLOCK];
    if (rope->block != token / ADM_GEN_BLOCK) {
        rope->block = token / ADM_GEN_BLOCK;
        for (uint32_t j = 0; j < rope->n_pairs; j++)
            adm_gen_circle(rope->turns[j] * (double)(rope->block * ADM_GEN_BLOCK), &rope->cos_block[j], &rope->sin_block[j]);
    }
    for (uint32_t j = 0; j < rope->n_pairs; j++) {
        double c = rope->cos_block[j] * cos_in[j] - rope->sin_block[j] * sin_in[j];
        double s = rope->sin_block[j] * cos_in[j] + rope->cos_block[j] * sin_in[j];
        double a = x[j], b = x[j + rope->n_pairs];
        x[j] = a * c - b * s;
        x[j + rope->n_pairs] = a * s + b * c;
    }
}

/* --- What a pair is for, by how fast it turns ---------------------------------------------------------------------- */

typedef enum pair_role { PAIR_FAST, PAIR_MIDDLE, PAIR_SLOW, PAIR_OUTLIER, PAIR_NEEDLE } pair_role;

static uint32_t first_needle_pair(uint32_t n_pairs) { return n_pairs - n_pairs / 8; }
static uint32_t first_outlier_pair(uint32_t n_pairs) { return n_pairs - n_pairs * 9 / 32; }

/* Every second or so of the pairs before the needle's holds an outlier: 3 of 64 channels' 32 pairs. */
static pair_role role_of(const adm_gen_rope *rope, uint32_t j) {
    double radians = rope->turns[j] * 6.283185307179586;
    if (j >= first_needle_pair(rope->n_pairs)) return PAIR_NEEDLE;
    if (j >= first_outlier_pair(rope->n_pairs) && (j - first_outlier_pair(rope->n_pairs)) % 2 == 0) return PAIR_OUTLIER;
    if (radians > 0.15) return PAIR_FAST;
    return radians > 1.0 / 1500 ? PAIR_MIDDLE : PAIR_SLOW;
}

double adm_gen_needle_share(const adm_gen_rope *rope, uint64_t distance) {
    double sum = 0, c, s;
    uint32_t first = first_needle_pair(rope->n_pairs);
    for (uint32_t j = first; j < rope->n_pairs; j++) {
        adm_gen_circle(rope->turns[j] * (double)distance, &c, &s);
        sum += c;
    }
    return sum / (double)(rope->n_pairs - first);
}

/* --- KV heads ----------------------------------------------------------------------------------------------------- */

void adm_gen_kv_head_init(adm_gen_kv_head *h, const adm_generate_spec *spec, const adm_gen_rope *rope, uint32_t layer,
                          uint32_t kv_head) {
    static const double amplitude[][2] = {
        [PAIR_FAST] = {0.3, 1.6}, [PAIR_MIDDLE] = {0.8, 3.6}, [PAIR_SLOW] = {0.2, 1.8}, [PAIR_OUTLIER] = {4.5, 10.0},
        [PAIR_NEEDLE] = {0.2, 1.8}};
    adm_rng rng;
    uint32_t n = rope->n_pairs;
    *h = (adm_gen_kv_head){.seed = spec->seed, .id = (uint64_t)layer << 32 | kv_head, .phrase_of = UINT64_MAX,
                           .topic_of = UINT64_MAX};
    adm_gen_stream(&rng, spec->seed, STREAM_HEAD, h->id, 0, 0);
    h->value_sigma = adm_gen_between(&rng, 0.75, 2.1);
    for (uint32_t j = 0; j < n; j++) {
        pair_role role = role_of(rope, j);
        double c, s, u = adm_rng_unit(&rng), size = adm_gen_between(&rng, amplitude[role][0], amplitude[role][1]);
        adm_gen_circle(adm_rng_unit(&rng), &c, &s);
        h->mean[j] = size * c;
        h->mean[j + n] = size * s;
        h->sigma[j] = h->sigma[j + n] = 0.35 + 1.5 * u * u;
        if (role == PAIR_NEEDLE) {
            double unit = 1.0 / sqrt((double)(n - first_needle_pair(n)));
            h->needle[j] = -s * unit;
            h->needle[j + n] = c * unit;
        }
    }
    for (uint32_t i = 0; i < 2 * n; i++) h->value_mean[i] = 0.4 * h->value_sigma * adm_gen_normal(&rng);
}

static void fill_normal(adm_rng *rng, double *out, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) out[i] = adm_gen_normal(rng);
}

/* The topic of the 32 tokens around one; all heads agree on it. */
static uint64_t topic_at(uint64_t seed, uint64_t segment) {
    adm_rng rng;
    adm_gen_stream(&rng, seed, STREAM_TOPIC_OF, segment, 0, 0);
    return adm_rng_below(&rng, N_TOPICS);
}

static void topic_vector(const adm_gen_kv_head *h, uint64_t stream, uint64_t topic, double *out, uint32_t d) {
    adm_rng rng;
    adm_gen_stream(&rng, h->seed, STREAM_TOPIC + stream, h->id, topic, 0);
    fill_normal(&rng, out, d);
}

/* What a token says, in unit variance: to keys (stream 0) or values (STREAM_VALUE). A head serves one stream at a time. */
static void content(adm_gen_kv_head *h, uint64_t stream, uint64_t token, double *out, uint32_t d) {
    adm_rng rng;
    uint64_t phrase = token / PHRASE_TOKENS << 7 | stream, segment = token / TOPIC_TOKENS << 7 | stream;
    if (h->phrase_of != phrase) {
        h->phrase_of = phrase;
        adm_gen_stream(&rng, h->seed, STREAM_PHRASE + stream, h->id, token / PHRASE_TOKENS, 0);
        fill_normal(&rng, h->phrase, d);
    }
    if (h->topic_of != segment) {
        h->topic_of = segment;
        topic_vector(h, stream, topic_at(h->seed, token / TOPIC_TOKENS), h->topic, d);
    }
    adm_gen_stream(&rng, h->seed, STREAM_TOKEN + stream, h->id, token, 0);
    for (uint32_t i = 0; i < d; i++)
        out[i] = token_share * adm_gen_normal(&rng) + phrase_share * h->phrase[i] + topic_share * h->topic[i];
}

static bool is_needle(const adm_gen_kv_head *h, const adm_generate_spec *spec, uint64_t token) {
    if (adm_kv_head(&spec->shape, spec->needle_head) != (uint32_t)h->id) return false;
    for (size_t i = 0; i < spec->n_needles; i++)
        if (spec->needles[i] == token) return true;
    return false;
}

/* Length of the needle's part of a key: that of the content beside it, so that no single channel gives it away. */
static double needle_length(uint32_t d) { return 12.0 * sqrt((double)d / 64.0); }

void adm_gen_key(adm_gen_kv_head *h, const adm_generate_spec *spec, adm_gen_rope *rope, uint64_t token, double *out) {
    uint32_t d = spec->shape.head_dim;
    if (token < spec->n_sinks) {
        adm_rng rng;
        adm_gen_stream(&rng, h->seed, STREAM_SINK, h->id, token, 0);
        for (uint32_t i = 0; i < d; i++) out[i] = 0.6 * adm_gen_normal(&rng) + 0.12 * (double)token * h->mean[i];
    } else {
        content(h, 0, token, out, d);
        bool needle = is_needle(h, spec, token);
        double extra = needle ? needle_length(d) : 0.0, share = needle ? 0.5 : 1.0;
        for (uint32_t i = 0; i < d; i++) out[i] = h->mean[i] + share * h->sigma[i] * out[i] + extra * h->needle[i];
    }
    rotate(rope, token, out);
}

void adm_gen_value(adm_gen_kv_head *h, const adm_generate_spec *spec, uint64_t token, double *out) {
    const double sink_share = 0.2; /* a sink's value is small, so that looking at it changes little */
    double size = token < spec->n_sinks ? sink_share : 1.0;
    content(h, STREAM_VALUE, token, out, spec->shape.head_dim);
    for (uint32_t i = 0; i < spec->shape.head_dim; i++) out[i] = size * (h->value_mean[i] + h->value_sigma * out[i]);
}

/* --- Query heads -------------------------------------------------------------------------------------------------- */

/* What a head wants: shares of mass for sinks and for recent tokens, and the spread of its scores. */
typedef struct wish {
    double sink, recent, spread;
} wish;

static wish draw_wish(adm_rng *rng) {
    double both = adm_gen_between(rng, 0.35, 0.96), of_sink = adm_gen_between(rng, 0.45, 0.92);
    return (wish){.sink = both * of_sink, .recent = both * (1.0 - of_sink), .spread = adm_gen_between(rng, 2.0, 3.4)};
}

/* The mean of cos(turns * distance) over the recent tokens. */
static double recent_cosine(double turns) {
    double sum = 0, c, s;
    for (int distance = 0; distance < RECENT_TOKENS; distance++) {
        adm_gen_circle(turns * (double)distance, &c, &s);
        sum += c;
    }
    return sum / RECENT_TOKENS;
}

/* Adds -gap * mean to `fixed` in the outlier pairs, so that the ordinary token scores `gap` below a key of zeros. The
 * query runs ahead of the mean by 3/4 of the length, so that pairs which turn a little favour neither end of the context but
 * the near one slightly. Returns by how much recent tokens then exceed the middle ones. */
static double push_down(double *fixed, const adm_gen_kv_head *kv, const adm_gen_rope *rope, double gap, double scale,
                        double n_tokens) {
    double energy = 0, recent = 0, c, s, c_mid, s_mid;
    uint32_t n = rope->n_pairs;
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t j = 0; j < n; j++) {
            if (role_of(rope, j) != PAIR_OUTLIER) continue;
            double x = kv->mean[j], y = kv->mean[j + n];
            adm_gen_circle(-0.75 * rope->turns[j] * n_tokens, &c, &s);
            adm_gen_circle(0.25 * rope->turns[j] * n_tokens, &c_mid, &s_mid);
            if (pass == 0) {
                energy += (x * x + y * y) * c_mid;
                recent += (x * x + y * y) * (c_mid - c);
                continue;
            }
            double a = -gap / (scale * energy);
            fixed[j] += a * (x * c - y * s);
            fixed[j + n] += a * (x * s + y * c);
        }
    return gap * recent / energy;
}

/* Adds +gain * mean in the middle pairs, where it lasts for about the recent tokens. Returns the variance that its
 * ripple over distant tokens adds to their scores. */
static double pull_recent(double *fixed, const adm_gen_kv_head *kv, const adm_gen_rope *rope, double gain, double scale) {
    double energy = 0, ripple = 0, a = 0;
    uint32_t n = rope->n_pairs;
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t j = 0; j < n; j++) {
            if (role_of(rope, j) != PAIR_MIDDLE) continue;
            double power = kv->mean[j] * kv->mean[j] + kv->mean[j + n] * kv->mean[j + n];
            if (pass == 0) {
                energy += power * recent_cosine(rope->turns[j]);
                continue;
            }
            ripple += 0.5 * (a * power * scale) * (a * power * scale);
            fixed[j] += a * kv->mean[j];
            fixed[j + n] += a * kv->mean[j + n];
        }
        if (energy <= 0) return 0; /* no pair turns at such a speed: a base far from any model's */
        a = gain / (scale * energy);
    }
    return ripple;
}

void adm_gen_q_head_init(adm_gen_q_head *h, const adm_gen_kv_head *kv, const adm_generate_spec *spec,
                         const adm_gen_rope *rope, uint32_t layer, uint32_t q_head) {
    adm_rng rng;
    uint32_t d = spec->shape.head_dim;
    double scale = 1.0 / sqrt((double)d), n_tokens = (double)spec->n_tokens;
    *h = (adm_gen_q_head){.seed = spec->seed, .id = (uint64_t)layer << 32 | q_head};
    adm_gen_stream(&rng, spec->seed, STREAM_QUERY_HEAD, h->id, 0, 0);
    wish w = draw_wish(&rng);

    /* Of n normal scores with variance v, the exponentials sum to n e^(v/2); the shares follow from that. */
    double rest = 1.0 - w.sink - w.recent, body = adm_gen_log(n_tokens) + 0.5 * w.spread * w.spread;
    double gap = adm_gen_log(w.sink / rest) + body;
    double near = adm_gen_log(w.recent / rest * n_tokens / RECENT_TOKENS);
    near -= push_down(h->fixed, kv, rope, gap, scale, n_tokens);
    double variance = w.spread * w.spread - pull_recent(h->fixed, kv, rope, near > 0 ? near : 0, scale);
    double content_variance = 0;
    for (uint32_t i = 0; i < d; i++) {
        double by_fixed = scale * h->fixed[i] * kv->sigma[i], by_content = scale * kv->sigma[i] * kv->sigma[i];
        variance -= by_fixed * by_fixed;
        content_variance += by_content * by_content;
    }
    const double least_variance = 0.36;
    h->content_gain = sqrt((variance > least_variance ? variance : least_variance) / content_variance);
    if (spec->n_needles > 0 && q_head == spec->needle_head) /* e^3 times the mass of all others at a needle's best */
        h->needle_gain = (gap - adm_gen_log(w.sink) + 3.0) / (scale * needle_length(d));
}

void adm_gen_query(const adm_gen_q_head *h, const adm_gen_kv_head *kv, const adm_generate_spec *spec, adm_gen_rope *rope,
                   uint64_t position, double *out) {
    const double noise = 0.8, on_topic = 0.6;
    uint32_t d = spec->shape.head_dim;
    double topic[ADM_MAX_HEAD_DIM];
    adm_rng rng;
    adm_gen_stream(&rng, h->seed, STREAM_QUERY, UINT64_MAX, position / QUERY_TOPIC_STEPS, 0);
    uint64_t read = adm_rng_below(&rng, position / TOPIC_TOKENS + 1); /* an earlier stretch of text that it comes back to */
    topic_vector(kv, 0, topic_at(h->seed, read), topic, d);
    adm_gen_stream(&rng, h->seed, STREAM_QUERY, h->id, position, 1);
    for (uint32_t i = 0; i < d; i++)
        out[i] = h->fixed[i] + h->needle_gain * kv->needle[i] +
                 h->content_gain * kv->sigma[i] * (noise * adm_gen_normal(&rng) + on_topic * topic[i]);
    rotate(rope, position, out);
}
