/* codebook.c: thresholds of a layer from its keys, and the tables of a query. */
#include "core/policy/codebook.h"

#include <math.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/contract/asym4.h"

/* What a calibration works on. */
typedef struct sample {
    const float *y;   /* [n_kv_heads][n_rows][d] */
    float *mean;      /* [n_kv_heads][d] taken off each channel; zeros with the kinds fixed and layer */
    float *residual;  /* the sample less the means; reordered by taking quantiles */
    size_t n_rows;
    uint32_t n_kv_heads, d;
} sample;

static void take_off_means(const adm_coding *coding, sample *s) {
    const bool centre = coding->thresholds.kind >= ADM_THRESHOLDS_CENTRED;
    for (size_t h = 0; h < s->n_kv_heads; h++) {
        const float *y = s->y + h * s->n_rows * s->d;
        float *residual = s->residual + h * s->n_rows * s->d;
        float *mean = s->mean + h * s->d;
        double sum[ADM_MAX_HEAD_DIM] = {0};
        for (size_t r = 0; centre && r < s->n_rows; r++)
            for (uint32_t i = 0; i < s->d; i++) sum[i] += y[r * s->d + i];
        for (uint32_t i = 0; i < s->d; i++) mean[i] = centre ? (float)(sum[i] / (double)s->n_rows) : 0.0f;
        for (size_t r = 0; r < s->n_rows; r++)
            for (uint32_t i = 0; i < s->d; i++) residual[r * s->d + i] = y[r * s->d + i] - mean[i];
    }
}

static uint32_t code_of(float y, const float *t, uint32_t n_thresholds, size_t stride) {
    uint32_t code = 0;
    for (uint32_t l = 0; l < n_thresholds; l++) code += y > t[l * stride];
    return code;
}

/* --- Thresholds --------------------------------------------------------------------------------------------------- */

/* The same thresholds in every channel; those of keys shifted by the channel's mean. */
static void spread(adm_codebook *book, const float *mean) {
    const uint32_t n_t = (1u << book->bits) - 1, d = book->head_dim;
    for (size_t h = 0; h < book->n_kv_heads; h++)
        for (uint32_t l = 0; l < n_t; l++)
            for (uint32_t i = 0; i < d; i++) {
                size_t at = (h * n_t + l) * d + i;
                book->query[at] = book->layer[l];
                book->key[at] = book->layer[l] + (mean != NULL ? mean[h * d + i] : 0.0f);
            }
}

/* Each channel's own quantiles. column: n_rows floats of scratch. */
static void spread_channels(const adm_coding *coding, adm_codebook *book, const sample *s, float *column) {
    const uint32_t n_t = (1u << book->bits) - 1, d = book->head_dim;
    float quantile[ADM_MAX_THRESHOLDS];
    for (size_t h = 0; h < book->n_kv_heads; h++)
        for (uint32_t i = 0; i < d; i++) {
            for (size_t r = 0; r < s->n_rows; r++) column[r] = s->residual[(h * s->n_rows + r) * d + i];
            adm_quantiles(column, s->n_rows, coding->thresholds.value, n_t, quantile);
            for (uint32_t l = 0; l < n_t; l++) {
                size_t at = (h * n_t + l) * d + i;
                book->query[at] = quantile[l];
                book->key[at] = book->query[at] + s->mean[h * d + i];
            }
        }
}

/* Each channel's own mean and standard deviation. */
static void spread_scaled(const adm_coding *coding, adm_codebook *book, const sample *s) {
    const uint32_t n_t = (1u << book->bits) - 1, d = book->head_dim;
    const float no_centre[ADM_MAX_HEAD_DIM] = {0};
    for (size_t h = 0; h < book->n_kv_heads; h++) {
        float *scale = book->scale + h * d;
        adm_asym4_learn(s->y + h * s->n_rows * d, s->n_rows, d, s->mean + h * d, scale);
        adm_asym4_thresholds(s->mean + h * d, scale, d, coding->thresholds.value, book->key + h * n_t * d);
        adm_asym4_thresholds(no_centre, scale, d, coding->thresholds.value, book->query + h * n_t * d);
    }
}

/* --- Levels ------------------------------------------------------------------------------------------------------- */

/* Levels of a channel without keys to take means of: the middle of each bucket, the outer ones as wide as their neighbours. */
static void middle_levels(const float *t, uint32_t n_t, size_t stride, float *level) {
    float first = n_t > 1 ? t[stride] - t[0] : 1.0f;
    float last = n_t > 1 ? t[(n_t - 1) * stride] - t[(n_t - 2) * stride] : 1.0f;
    level[0] = t[0] - first / 2;
    for (uint32_t c = 1; c < n_t; c++) level[c] = (t[(c - 1) * stride] + t[c * stride]) / 2;
    level[n_t] = t[(n_t - 1) * stride] + last / 2;
}

/* Adds the residuals of one channel to the sums and counts of their buckets. */
static void add_to_buckets(const adm_codebook *book, const sample *s, size_t h, uint32_t i, double *sum, size_t *count) {
    const uint32_t n_t = (1u << book->bits) - 1, d = book->head_dim;
    for (size_t r = 0; r < s->n_rows; r++) {
        float y = s->y[(h * s->n_rows + r) * d + i]; /* coded as a key will be */
        uint32_t c = code_of(y, book->key + h * n_t * d + i, n_t, d);
        sum[c] += (double)y - s->mean[h * d + i];
        count[c]++;
    }
}

static void find_levels(const adm_coding *coding, adm_codebook *book, const sample *s) {
    const uint32_t n_t = (1u << book->bits) - 1, d = book->head_dim, n_codes = n_t + 1;
    const bool by_channel = coding->thresholds.kind >= ADM_THRESHOLDS_CHANNEL, fixed = !coding->thresholds.per_layer;
    double sum[1 << ADM_MAX_CODE_BITS] = {0};
    size_t count[1 << ADM_MAX_CODE_BITS] = {0};
    for (size_t j = 0; !by_channel && !fixed && j < (size_t)book->n_kv_heads * d; j++)
        add_to_buckets(book, s, j / d, (uint32_t)(j % d), sum, count);
    for (size_t j = 0; j < (size_t)book->n_kv_heads * d; j++) {
        float *level = book->level + j * n_codes;
        middle_levels(book->query + j / d * n_t * d + j % d, n_t, d, level);
        if (by_channel) {
            memset(sum, 0, sizeof sum);
            memset(count, 0, sizeof count);
            add_to_buckets(book, s, j / d, (uint32_t)(j % d), sum, count);
        }
        for (uint32_t c = 0; c < n_codes; c++)
            if (count[c] > 0) level[c] = (float)(sum[c] / (double)count[c]);
    }
}

/* --- The book ----------------------------------------------------------------------------------------------------- */

static void learn(const adm_coding *coding, adm_codebook *book, sample *s) {
    const adm_threshold_spec *spec = &coding->thresholds;
    const size_t n = (size_t)s->n_kv_heads * s->n_rows * s->d;
    if (spec->kind == ADM_THRESHOLDS_SCALED) {
        spread_scaled(coding, book, s);
        return;
    }
    take_off_means(coding, s);
    if (spec->kind == ADM_THRESHOLDS_CHANNEL) {
        float *column = s->residual + n; /* room for one column is allocated behind the residuals */
        spread_channels(coding, book, s, column);
        return;
    }
    adm_quantiles(s->residual, n, spec->value, spec->n_values, book->layer);
    spread(book, s->mean);
}

static adm_status make_book(const adm_coding *coding, uint32_t n_kv_heads, uint32_t head_dim, adm_codebook **out,
                            adm_error *err) {
    const size_t n_codes = (size_t)1 << coding->bits, n_thresholds = (n_codes - 1) * n_kv_heads;
    adm_status status = adm_alloc(out, 1, sizeof **out, "a codebook", err);
    if (status != ADM_OK) return status;
    **out = (adm_codebook){.bits = coding->bits, .n_kv_heads = n_kv_heads, .head_dim = head_dim};
    status = adm_alloc(&(*out)->key, n_thresholds, head_dim * sizeof(float), "thresholds of keys", err);
    if (status == ADM_OK)
        status = adm_alloc(&(*out)->query, n_thresholds, head_dim * sizeof(float), "thresholds of queries", err);
    if (status == ADM_OK) status = adm_alloc(&(*out)->scale, n_kv_heads, head_dim * sizeof(float), "channel scales", err);
    if (status == ADM_OK)
        status = adm_alloc(&(*out)->level, n_kv_heads * n_codes, head_dim * sizeof(float), "levels of codes", err);
    return status;
}

adm_status adm_codebook_create(const adm_coding *coding, const float *y, size_t n_rows, uint32_t n_kv_heads, uint32_t head_dim,
                               adm_codebook **out, adm_error *err) {
    *out = NULL;
    const adm_threshold_spec *spec = &coding->thresholds;
    if (spec->per_layer && n_rows == 0)
        return adm_fail(err, ADM_EINPUT, "thresholds '%s': no token stands before the first step to calibrate on", spec->text);
    sample s = {.y = y, .n_rows = n_rows, .n_kv_heads = n_kv_heads, .d = head_dim};
    adm_status status = make_book(coding, n_kv_heads, head_dim, out, err);
    if (status == ADM_OK && spec->per_layer) {
        status = adm_alloc(&s.mean, n_kv_heads, head_dim * sizeof(float), "channel means", err);
        if (status == ADM_OK)
            status = adm_alloc(&s.residual, (n_kv_heads * (size_t)head_dim + 1) * n_rows, sizeof(float), "keys for calibration",
                               err);
        if (status == ADM_OK) learn(coding, *out, &s);
    } else if (status == ADM_OK) {
        memcpy((*out)->layer, spec->value, spec->n_values * sizeof(float));
        spread(*out, NULL);
    }
    if (status == ADM_OK && coding->metric == ADM_METRIC_ASYMMETRIC)
        find_levels(coding, *out, &s); /* nothing else asks for them */
    adm_free(&s.mean);
    adm_free(&s.residual);
    if (status != ADM_OK) adm_codebook_free(out);
    return status;
}

void adm_codebook_free(adm_codebook **book) {
    if (*book == NULL) return;
    adm_free(&(*book)->key);
    adm_free(&(*book)->query);
    adm_free(&(*book)->scale);
    adm_free(&(*book)->level);
    adm_free(book);
}

/* --- Tables ------------------------------------------------------------------------------------------------------- */

static void code_table(const adm_coding *coding, const adm_codebook *book, size_t kv_head, const float *y, uint32_t n_queries,
                       uint16_t *table) {
    const uint32_t d = book->head_dim, n_t = (1u << book->bits) - 1;
    const float *t = adm_codebook_query(book, kv_head);
    memset(table, 0, ((size_t)d << book->bits) * sizeof *table);
    for (uint32_t q = 0; q < n_queries; q++)
        for (uint32_t i = 0; i < d; i++) {
            uint32_t code = code_of(y[q * d + i], t + i, n_t, d);
            for (uint32_t c = 0; c <= n_t; c++) {
                uint16_t *entry = &table[((size_t)i << book->bits) + c];
                *entry = (uint16_t)(*entry + adm_code_distance(coding->metric, coding->bits, code, c));
            }
        }
}

/* What element i of the queries' sum gains from each code; returns the spread between the best and the worst. */
static double gains(const adm_codebook *book, size_t kv_head, const float *y, uint32_t n_queries, uint32_t i, double *gain,
                    double *best) {
    const uint32_t d = book->head_dim, n_codes = 1u << book->bits;
    const float *level = book->level + (kv_head * d + i) * n_codes;
    double query = 0, worst = INFINITY;
    for (uint32_t q = 0; q < n_queries; q++) query += y[q * d + i];
    *best = -INFINITY;
    for (uint32_t c = 0; c < n_codes; c++) {
        gain[c] = query * level[c];
        if (gain[c] > *best) *best = gain[c];
        if (gain[c] < worst) worst = gain[c];
    }
    return *best - worst;
}

static void asymmetric_table(const adm_codebook *book, size_t kv_head, const float *y, uint32_t n_queries, uint16_t *table) {
    const uint32_t d = book->head_dim, n_codes = 1u << book->bits;
    double gain[1 << ADM_MAX_CODE_BITS], best, total = 0;
    for (uint32_t i = 0; i < d; i++) total += gains(book, kv_head, y, n_queries, i, gain, &best);
    /* Less half a unit for each element that may be rounded up. */
    double scale = total > 0 ? (UINT16_MAX - d / 2.0) / total : 0;
    for (uint32_t i = 0; i < d; i++) {
        gains(book, kv_head, y, n_queries, i, gain, &best);
        for (uint32_t c = 0; c < n_codes; c++) table[(size_t)i * n_codes + c] = (uint16_t)lround((best - gain[c]) * scale);
    }
}

/* With 2 bits: what a query's element loses by each code against the best one. */
static void asym4_table(const adm_codebook *book, size_t kv_head, const float *y, uint32_t n_queries, uint16_t *table) {
    const uint32_t d = book->head_dim;
    int8_t q[ADM_MAX_HEAD_DIM];
    memset(table, 0, (size_t)d * 4 * sizeof *table);
    for (uint32_t one = 0; one < n_queries; one++) {
        adm_asym4_quantise(y + one * d, adm_codebook_scale(book, kv_head), d, q);
        for (uint32_t i = 0; i < d; i++)
            for (uint32_t c = 0; c < 4; c++) {
                const uint32_t lost = q[i] > 0 ? (uint32_t)q[i] * (3 - c) : (uint32_t)-q[i] * c;
                table[4 * i + c] = (uint16_t)(table[4 * i + c] + lost);
            }
    }
}

void adm_codebook_table(const adm_coding *coding, const adm_codebook *book, size_t kv_head, const float *y, uint32_t n_queries,
                        uint16_t *table) {
    if (coding->metric == ADM_METRIC_ASYMMETRIC) asymmetric_table(book, kv_head, y, n_queries, table);
    else if (coding->metric == ADM_METRIC_ASYM4) asym4_table(book, kv_head, y, n_queries, table);
    else code_table(coding, book, kv_head, y, n_queries, table);
}
