/* aggregate.h: the distribution of values that come one after the other, in bounded memory.
 *
 *   up to max_exact values   kept as they are: quantiles are exact, as adm_distribution_of() has them
 *   more                     counted in bins; mean, min and max stay those of all values
 *
 * A bin is a double's sign, exponent and first mantissa bits: at first 9 of them, so that it is 2^-9 of its values wide
 * and a quantile, taken from the middle of a bin, is within 2^-10 (0.1%) of an order statistic. Where more than MAX_BINS
 * bins are in use, bits are dropped until they are not: values that spread over E powers of two leave about
 * log2(MAX_BINS / E) bits, so 60 powers of two, from 1e-18 to 1, still give quantiles within 1%.
 *
 * The result depends on the values and, in the last bits of the mean, on their order, and on nothing else. No NaN. */
#ifndef ADM_CORE_STATS_AGGREGATE_H
#define ADM_CORE_STATS_AGGREGATE_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/stats/stats.h"

enum { ADM_AGGREGATE_MAX_BINS = 4096 };

typedef struct adm_bin {
    int64_t key;              /* ascends with the values in it */
    uint64_t n;               /* 0: the slot is free */
} adm_bin;

/* Zero-initialise but for max_exact. */
typedef struct adm_aggregate {
    size_t max_exact;
    size_t n;                 /* values so far */
    double sum, compensation; /* Neumaier's: what rounding took from sum */
    double min, max;
    double *value;            /* [capacity], the first n while n <= max_exact, else NULL */
    size_t capacity;
    adm_bin *bin;             /* [n_slots], a hash table without pointers; NULL while values are kept */
    size_t n_slots, n_bins;
    int mantissa_bits;
} adm_aggregate;

/* Takes n values in. ADM_EENVIRONMENT when out of memory: the aggregate is then good for freeing only. */
adm_status adm_aggregate_add(adm_aggregate *aggregate, const double *values, size_t n, adm_error *err);

/* The distribution so far; all zeros with n = 0. Reorders what is kept. scratch: ADM_AGGREGATE_MAX_BINS
 * bins. */
adm_distribution adm_aggregate_result(adm_aggregate *aggregate, adm_bin *scratch);

/* Half the width of a bin, relative to its values; 0 while values are exact. */
double adm_aggregate_error(const adm_aggregate *aggregate);

void adm_aggregate_free(adm_aggregate *aggregate);

#endif
