/* generate_head.c: one KV head of a synthetic session. The constants are fitted, see generate.h; where one is a range,
 * each head draws its own. Vectors are in RoPE halves: pair j is the elements j and j + d/2. */
#include "traces/generate/generate_head.h"

#include <math.h>

#include "traces/generate/generate_math.h"

enum {
    STREAM_HEAD = 1,
    STREAM_TOPIC_OF,
    STREAM_TOPIC,
    STREAM_PHRASE,
    STREAM_TOKEN,
    STREAM_SINK,
    STREAM_QUERY_HEAD,
    STREAM_QUERY,
    STREAM_VALUE = 64 /* added to the streams of content */
};

enum { N_TOPICS = 64, TOPIC_TOKENS = 32, PHRASE_TOKENS = 4, QUERY_TOPIC_STEPS = 16, RECENT_TOKENS = 64 };

/* Shares of a key's content: their squares sum to 1. Neighbours then correlate by 0.37, tokens 4 apart by 0.1. */
static const double phrase_share = 0.6, topic_share = 0.3162277660168379, token_share = 0.7348469228349535;

/* --- RoPE --------------------------------------------------------------------------------------------------------- */

void adm_gen_rope_init(adm_gen_rope *rope, double base, uint64_t n_tokens, uint32_t head_dim) {
    if (base == 0) {
        /* The pairs that matter most, 23/32 of the way to the slowest, turn by base^(-23/32) a token: growing with the
         * power 3/2 of the length, the base keeps them from turning farther over a longer context. Models do the like. */
        double longer = (double)n_tokens / 4096.0;
        base = longer <= 1.0 ? 100000.0 : floor(100000.0 * longer * sqrt(longer));
    }
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

/* Every second of the 5 in 32 pairs before the needle's holds an outlier: 3 pairs of a head of 64. */
static pair_role role_of(const adm_gen_rope *rope, uint32_t j) {
    double radians = rope->turns[j] * 6.283185307179586;
    if (j >= first_needle_pair(rope->n_pairs)) return PAIR_NEEDLE;
    if (j >= first_outlier_pair(rope->n_pairs) && (j - first_outlier_pair(rope->n_pairs)) % 2 == 0) return PAIR_OUTLIER;
    if (radians > 0.15) return PAIR_FAST;
    return radians > 1.0 / 1500 ? PAIR_MIDDLE : PAIR_SLOW;
}

double adm_gen_outlier_turn(const adm_gen_rope *rope, uint64_t n_tokens) {
    return rope->turns[first_outlier_pair(rope->n_pairs)] * 6.283185307179586 * (double)n_tokens;
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
    static const double spread[] = {
        [PAIR_FAST] = 1.5, [PAIR_MIDDLE] = 1.5, [PAIR_SLOW] = 1.5, [PAIR_OUTLIER] = 0.5, [PAIR_NEEDLE] = 0.0};
    static const double amplitude[][2] = {[PAIR_FAST] = {0.3, 1.6},
                                          [PAIR_MIDDLE] = {0.8, 3.6},
                                          [PAIR_SLOW] = {0.2, 1.8},
                                          [PAIR_OUTLIER] = {4.5, 10.0},
                                          [PAIR_NEEDLE] = {0.2, 1.8}};
    adm_rng rng;
    uint32_t n = rope->n_pairs;
    *h = (adm_gen_kv_head){
        .seed = spec->seed, .id = (uint64_t)layer << 32 | kv_head, .phrase_of = UINT64_MAX, .topic_of = UINT64_MAX};
    adm_gen_stream(&rng, spec->seed, STREAM_HEAD, h->id, 0, 0);
    h->value_sigma = adm_gen_between(&rng, 0.75, 2.1);
    for (uint32_t j = 0; j < n; j++) {
        pair_role role = role_of(rope, j);
        double c, s, u = adm_rng_unit(&rng), size = adm_gen_between(&rng, amplitude[role][0], amplitude[role][1]);
        adm_gen_circle(adm_rng_unit(&rng), &c, &s);
        h->mean[j] = size * c;
        h->mean[j + n] = size * s;
        h->sigma[j] = h->sigma[j + n] = 0.35 + spread[role] * u * u;
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

/* What a token says, in unit variance: to keys (stream 0) or values (STREAM_VALUE), best one of them at a time. */
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

/* Length of the needle's own part of a key: with it the key is about as long as any other. */
static double needle_length(uint32_t d) { return 12.0 * sqrt((double)d / 64.0); }

/* A needle has the outlier channels of every key. Little else is left of a token's content and mean, which would raise
 * and lower its score from step to step. */
static double needle_element(const adm_gen_kv_head *h, const adm_gen_rope *rope, uint32_t i, double said) {
    pair_role role = role_of(rope, i % rope->n_pairs);
    double mean = role == PAIR_FAST || role == PAIR_MIDDLE ? 0.0 : h->mean[i];
    return mean + 0.25 * h->sigma[i] * said + needle_length(2 * rope->n_pairs) * h->needle[i];
}

void adm_gen_key(adm_gen_kv_head *h, const adm_generate_spec *spec, adm_gen_rope *rope, uint64_t token, double *out) {
    uint32_t d = spec->shape.head_dim;
    if (token < spec->n_sinks) {
        adm_rng rng;
        adm_gen_stream(&rng, h->seed, STREAM_SINK, h->id, token, 0);
        for (uint32_t i = 0; i < d; i++) out[i] = 0.6 * adm_gen_normal(&rng) + 0.12 * (double)token * h->mean[i];
    } else {
        content(h, 0, token, out, d);
        bool needle = is_needle(h, spec, token);
        for (uint32_t i = 0; i < d; i++)
            out[i] = needle ? needle_element(h, rope, i, out[i]) : h->mean[i] + h->sigma[i] * out[i];
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
    double both = adm_gen_between(rng, 0.35, 0.96), of_sink = adm_gen_between(rng, 0.36, 0.86);
    return (wish){.sink = both * of_sink, .recent = both * (1.0 - of_sink), .spread = adm_gen_between(rng, 1.9, 3.2)};
}

/* What the fixed part of a query adds to the score of an ordinary key, by distance: near * recent - gap * down, where
 * `recent` and `down` come from the pairs they use. Sampled at every recent token, then in strata that widen. */
enum { N_STRATA = 512, N_SAMPLES = RECENT_TOKENS + N_STRATA };

typedef struct profile {
    double recent[N_SAMPLES], down[N_SAMPLES], weight[N_SAMPLES]; /* weight: tokens that a sample stands for */
    double energy_recent, energy_down;                            /* squared length of the mean in the pairs of each */
    double noise_recent, noise_down;    /* variance that the keys' content adds to a score, at near = 1 and gap = 1 */
} profile;

/* The query runs ahead of the mean by 3/4 of the length in the outlier pairs, so that those, which turn a little, favour
 * the near end of the context slightly, and not the far one. */
static const double ahead = 0.75;

static double power_of(const adm_gen_kv_head *kv, uint32_t j, uint32_t n) {
    return kv->mean[j] * kv->mean[j] + kv->mean[j + n] * kv->mean[j + n];
}

static void take_profile(profile *p, const adm_gen_kv_head *kv, const adm_gen_rope *rope, double n_tokens) {
    uint32_t n = rope->n_pairs;
    double c, s;
    *p = (profile){.energy_recent = 0};
    for (uint32_t j = 0; j < n; j++) {
        double power = power_of(kv, j, n), noise = power * kv->sigma[j] * kv->sigma[j];
        pair_role role = role_of(rope, j);
        if (role == PAIR_MIDDLE) p->energy_recent += power;
        if (role == PAIR_MIDDLE) p->noise_recent += noise;
        if (role == PAIR_OUTLIER) p->energy_down += power;
        if (role == PAIR_OUTLIER) p->noise_down += noise;
    }
    p->noise_recent /= p->energy_recent * p->energy_recent;
    p->noise_down /= p->energy_down * p->energy_down;
    for (int i = 0; i < N_SAMPLES; i++) {
        double distance = i, share = ((double)(i - RECENT_TOKENS) + 0.5) / N_STRATA;
        p->weight[i] = 1.0;
        if (i >= RECENT_TOKENS) {
            distance = RECENT_TOKENS + (n_tokens - RECENT_TOKENS) * share * share;
            p->weight[i] = 2.0 * share / N_STRATA * (n_tokens - RECENT_TOKENS);
        }
        for (uint32_t j = 0; j < n; j++) {
            pair_role role = role_of(rope, j);
            if (role != PAIR_MIDDLE && role != PAIR_OUTLIER) continue;
            adm_gen_circle(rope->turns[j] * (distance - (role == PAIR_OUTLIER ? ahead * n_tokens : 0.0)), &c, &s);
            if (role == PAIR_MIDDLE) p->recent[i] += power_of(kv, j, n) / p->energy_recent * c;
            else p->down[i] += power_of(kv, j, n) / p->energy_down * c;
        }
    }
}

/* Logarithms of the mass of the recent tokens and of the others, without the noise's share; and the variance of the
 * others' scores. */
static void weigh(const profile *p, double near, double gap, double *recent, double *others, double *variance) {
    double sum[2] = {0, 0}, mean = 0, square = 0, n = 0;
    for (int i = 0; i < N_SAMPLES; i++) {
        double score = near * p->recent[i] - gap * p->down[i];
        sum[i >= RECENT_TOKENS] += p->weight[i] * adm_gen_exp(score);
        if (i < RECENT_TOKENS) continue;
        n += p->weight[i];
        mean += p->weight[i] * score;
        square += p->weight[i] * score * score;
    }
    *recent = adm_gen_log(sum[0]);
    *others = adm_gen_log(sum[1]);
    *variance = square / n - mean / n * (mean / n);
}

static double clamp(double x, double min, double max) { return x < min ? min : x > max ? max : x; }

/* Finds the near and gap that give a head what it wants, and the variance that is left for the query's own content,
 * after the drift of the mean and what the fixed part makes of the keys' content. Of n normal scores with variance v, the
 * exponentials sum to n e^(v/2); a sink scores 0. */
static void settle(const profile *p, const wish *w, double *near, double *gap, double *content) {
    const double least_content = 0.36;
    double recent, others, variance, rest = 1.0 - w->sink - w->recent;
    *near = 5.0;
    *gap = 12.0;
    for (int round = 0; round < 40; round++) {
        weigh(p, *near, *gap, &recent, &others, &variance);
        double noise = *near * *near * p->noise_recent + *gap * *gap * p->noise_down;
        *content = clamp(w->spread * w->spread - variance - noise, least_content, 100.0);
        *gap = clamp(*gap + 0.5 * (others + 0.5 * (noise + *content) + adm_gen_log(w->sink / rest)), 1.0, 60.0);
        *near = clamp(*near + 0.5 * (adm_gen_log(w->recent / rest) - (recent - others)), 0.0, 20.0);
    }
}

/* The fixed part: -gap * mean in the outlier pairs, run ahead, and +near * mean in the middle ones. near and gap come
 * divided by the softmax scale and the energy of their pairs. */
static void fix(adm_gen_q_head *h, const adm_gen_kv_head *kv, const adm_gen_rope *rope, double near, double gap,
                double n_tokens) {
    uint32_t n = rope->n_pairs;
    double c, s;
    for (uint32_t j = 0; j < n; j++) {
        pair_role role = role_of(rope, j);
        if (role != PAIR_MIDDLE && role != PAIR_OUTLIER) continue;
        double a = role == PAIR_MIDDLE ? near : -gap;
        adm_gen_circle(role == PAIR_OUTLIER ? -ahead * rope->turns[j] * n_tokens : 0.0, &c, &s);
        h->fixed[j] = a * (kv->mean[j] * c - kv->mean[j + n] * s);
        h->fixed[j + n] = a * (kv->mean[j] * s + kv->mean[j + n] * c);
    }
}

void adm_gen_q_head_init(adm_gen_q_head *h, const adm_gen_kv_head *kv, const adm_generate_spec *spec, const adm_gen_rope *rope,
                         uint32_t layer, uint32_t q_head) {
    adm_rng rng;
    profile p;
    uint32_t d = spec->shape.head_dim;
    double scale = 1.0 / sqrt((double)d), n_tokens = (double)spec->n_tokens, near, gap, content;
    *h = (adm_gen_q_head){.seed = spec->seed, .id = (uint64_t)layer << 32 | q_head};
    adm_gen_stream(&rng, spec->seed, STREAM_QUERY_HEAD, h->id, 0, 0);
    wish w = draw_wish(&rng);
    take_profile(&p, kv, rope, n_tokens);
    settle(&p, &w, &near, &gap, &content);
    fix(h, kv, rope, near / (scale * p.energy_recent), gap / (scale * p.energy_down), n_tokens);

    double variance = 0;
    for (uint32_t i = 0; i < d; i++) {
        double sigma = kv->sigma[i], mean = kv->mean[i];
        pair_role role = role_of(rope, i % (d / 2));
        if (role == PAIR_OUTLIER) continue; /* content there would move the whole context up and down, step by step */
        h->content[i] = sigma;
        variance += scale * scale * sigma * sigma * sigma * sigma;
        if (role == PAIR_FAST || role == PAIR_MIDDLE) variance += scale * scale * sigma * sigma * mean * mean;
    }
    bool seeks_needle = spec->n_needles > 0 && q_head == spec->needle_head;
    double gain = sqrt(content / variance);
    for (uint32_t i = 0; i < d; i++) /* chance must not hide a needle from the head that seeks it */
        h->content[i] *= seeks_needle && role_of(rope, i % (d / 2)) == PAIR_NEEDLE ? 0.0 : gain;
    if (seeks_needle) /* e^6.5 times the mass of all others at its best, of which distance and chance take some */
        h->needle_gain = (gap - adm_gen_log(w.sink) + 6.5) / (scale * needle_length(d));
}

void adm_gen_query(const adm_gen_q_head *h, const adm_gen_kv_head *kv, const adm_generate_spec *spec, adm_gen_rope *rope,
                   uint64_t position, double *out) {
    const double noise = 0.8, on_topic = 0.6;
    uint32_t d = spec->shape.head_dim;
    double topic[ADM_MAX_HEAD_DIM];
    adm_rng rng;
    adm_gen_stream(&rng, h->seed, STREAM_QUERY, UINT64_MAX, position / QUERY_TOPIC_STEPS, 0);
    uint64_t read = adm_rng_below(&rng, position / TOPIC_TOKENS + 1); /* an earlier stretch that it comes back to */
    topic_vector(kv, 0, topic_at(h->seed, read), topic, d);
    adm_gen_stream(&rng, h->seed, STREAM_QUERY, h->id, position, 1);
    for (uint32_t i = 0; i < d; i++)
        out[i] = h->fixed[i] + h->needle_gain * kv->needle[i] +
                 h->content[i] * (noise * adm_gen_normal(&rng) + on_topic * topic[i]);
    rotate(rope, position, out);
}
