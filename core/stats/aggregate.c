/* aggregate.c: the distribution of values that come one after the other, in bounded memory. */
#include "core/stats/aggregate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"

enum { FIRST_MANTISSA_BITS = 9, FIRST_CAPACITY = 64, FIRST_SLOTS = 256 };

/* --- Bins ----------------------------------------------------------------------------------------------------------- */

/* The upper bits of a double, as a number that ascends with it; 0 and -0 share theirs with what is next to nothing. */
static int64_t key_of(double value, int mantissa_bits) {
    int64_t bits;
    double size = fabs(value);
    memcpy(&bits, &size, sizeof bits);
    int64_t key = bits >> (52 - mantissa_bits);
    return value < 0 ? ~key : key;
}

static double magnitude(int64_t upper, int mantissa_bits) {
    double value;
    int64_t bits = upper << (52 - mantissa_bits);
    memcpy(&value, &bits, sizeof value);
    return value;
}

static double middle_of(int64_t key, int mantissa_bits) {
    int64_t upper = key < 0 ? ~key : key;
    double low = magnitude(upper, mantissa_bits), high = magnitude(upper + 1, mantissa_bits);
    double middle = upper == 0 ? 0 : low + (high - low) / 2;
    return key < 0 ? -middle : middle;
}

static adm_bin *slot_of(adm_bin *bin, size_t n_slots, int64_t key) {
    size_t at = (size_t)((uint64_t)key * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (n_slots - 1);
    while (bin[at].n > 0 && bin[at].key != key) at = (at + 1) & (n_slots - 1);
    return &bin[at];
}

/* Moves the bins to a table of n_slots, their keys shortened by `shift` bits. */
static adm_status rehash(adm_aggregate *a, size_t n_slots, int shift, adm_error *err) {
    adm_bin *table = NULL;
    adm_status status = adm_alloc(&table, n_slots, sizeof *table, "bins of a distribution", err);
    if (status != ADM_OK) return status;
    a->n_bins = 0;
    for (size_t i = 0; i < a->n_slots; i++) {
        if (a->bin[i].n == 0) continue;
        int64_t key = a->bin[i].key >> shift; /* of a negative value it is ~(bits): shifting keeps it so */
        adm_bin *slot = slot_of(table, n_slots, key);
        a->n_bins += slot->n == 0;
        slot->key = key;
        slot->n += a->bin[i].n;
    }
    adm_free(&a->bin);
    a->bin = table;
    a->n_slots = n_slots;
    a->mantissa_bits -= shift;
    return ADM_OK;
}

static adm_status count(adm_aggregate *a, double value, adm_error *err) {
    int64_t key = key_of(value, a->mantissa_bits);
    adm_bin *slot = slot_of(a->bin, a->n_slots, key);
    a->n_bins += slot->n == 0;
    slot->key = key;
    slot->n++;
    adm_status status = ADM_OK;
    while (status == ADM_OK && a->n_bins > ADM_AGGREGATE_MAX_BINS && a->mantissa_bits > 0)
        status = rehash(a, a->n_slots, 1, err);
    if (status == ADM_OK && 2 * a->n_bins > a->n_slots) status = rehash(a, 2 * a->n_slots, 0, err);
    return status;
}

/* --- Values --------------------------------------------------------------------------------------------------------- */

static adm_status start_counting(adm_aggregate *a, adm_error *err) {
    adm_status status = adm_alloc(&a->bin, FIRST_SLOTS, sizeof *a->bin, "bins of a distribution", err);
    a->n_slots = status == ADM_OK ? FIRST_SLOTS : 0;
    a->mantissa_bits = FIRST_MANTISSA_BITS;
    for (size_t i = 0; status == ADM_OK && i < a->n; i++) status = count(a, a->value[i], err);
    adm_free(&a->value);
    return status;
}

static adm_status keep(adm_aggregate *a, double value, adm_error *err) {
    if (a->n == a->capacity) {
        size_t larger = a->capacity == 0 ? FIRST_CAPACITY : 2 * a->capacity;
        double *moved = NULL;
        if (larger > a->max_exact) larger = a->max_exact;
        adm_status status = adm_alloc(&moved, larger, sizeof *moved, "values of a distribution", err);
        if (status != ADM_OK) return status;
        adm_copy(moved, a->value, a->n * sizeof *moved);
        adm_free(&a->value);
        a->value = moved;
        a->capacity = larger;
    }
    a->value[a->n] = value;
    return ADM_OK;
}

static void add_to_sum(adm_aggregate *a, double value) {
    double sum = a->sum + value;
    a->compensation += fabs(a->sum) >= fabs(value) ? (a->sum - sum) + value : (value - sum) + a->sum;
    a->sum = sum;
}

adm_status adm_aggregate_add(adm_aggregate *a, const double *values, size_t n, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < n; i++) {
        double value = values[i];
        if (a->n == 0) a->min = a->max = value;
        a->min = value < a->min ? value : a->min;
        a->max = value > a->max ? value : a->max;
        add_to_sum(a, value);
        if (a->n == a->max_exact && a->bin == NULL) status = start_counting(a, err);
        if (status == ADM_OK) status = a->bin != NULL ? count(a, value, err) : keep(a, value, err);
        a->n++;
    }
    return status;
}

/* --- The result ----------------------------------------------------------------------------------------------------- */

static int by_key(const void *x, const void *y) {
    int64_t a = ((const adm_bin *)x)->key, b = ((const adm_bin *)y)->key;
    return (a > b) - (a < b);
}

/* The i-th smallest value, as its bin tells it. */
static double order_statistic(const adm_aggregate *a, const adm_bin *sorted, size_t i) {
    uint64_t below = 0;
    size_t bin = 0;
    while (below + sorted[bin].n <= i) below += sorted[bin++].n;
    double value = middle_of(sorted[bin].key, a->mantissa_bits);
    return value < a->min ? a->min : value > a->max ? a->max : value;
}

static double quantile(const adm_aggregate *a, const adm_bin *sorted, double q) {
    double rank = q * (double)(a->n - 1);
    size_t below = (size_t)rank;
    double low = order_statistic(a, sorted, below);
    if (below + 1 >= a->n) return low;
    return low + (rank - (double)below) * (order_statistic(a, sorted, below + 1) - low);
}

adm_distribution adm_aggregate_result(adm_aggregate *a, adm_bin *scratch) {
    if (a->bin == NULL) return adm_distribution_of(a->value, a->n);
    size_t n = 0;
    for (size_t i = 0; i < a->n_slots; i++)
        if (a->bin[i].n > 0) scratch[n++] = a->bin[i];
    adm_sort(scratch, n, sizeof *scratch, by_key);
    return (adm_distribution){.n = a->n,
                              .mean = (a->sum + a->compensation) / (double)a->n,
                              .min = a->min,
                              .max = a->max,
                              .p01 = quantile(a, scratch, 0.01),
                              .p05 = quantile(a, scratch, 0.05),
                              .p10 = quantile(a, scratch, 0.10),
                              .median = quantile(a, scratch, 0.50),
                              .p90 = quantile(a, scratch, 0.90),
                              .p95 = quantile(a, scratch, 0.95),
                              .p99 = quantile(a, scratch, 0.99)};
}

double adm_aggregate_error(const adm_aggregate *a) { return a->bin == NULL ? 0 : ldexp(1, -a->mantissa_bits - 1); }

void adm_aggregate_free(adm_aggregate *a) {
    adm_free(&a->value);
    adm_free(&a->bin);
    *a = (adm_aggregate){.max_exact = a->max_exact};
}
