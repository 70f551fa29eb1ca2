/* ratio.h: how sure a ratio of two median times is, where few timings stand behind it. */
#ifndef ADM_CORE_STATS_RATIO_H
#define ADM_CORE_STATS_RATIO_H

#include <stdint.h>

/* A ratio of medians of at least so many timings needs no interval beside it: as many as `adamas profile` always takes. */
enum { ADM_RATIO_ENOUGH = 20 };

/* The median of n timings. What is not known is NAN. */
typedef struct adm_timing_spread {
    int64_t n;
    double median, p10, p90;
    double median_ci_ratio; /* half the median's 95% interval, over the median */
} adm_timing_spread;

typedef enum adm_ratio_basis {
    ADM_RATIO_OF_ENOUGH, /* no interval needed */
    ADM_RATIO_NO_INTERVAL, /* it needs one, and none can be computed */
    ADM_RATIO_OF_MEDIANS, /* from the two medians' 95% intervals */
    ADM_RATIO_OF_SPREADS, /* from p10 and p90 of both */
} adm_ratio_basis;

typedef struct adm_ratio_interval {
    adm_ratio_basis basis;
    double low, high; /* 0 for the first two */
} adm_ratio_interval;

/* The interval of over->median / under->median: the ratios of opposite ends, so at least as wide as the two intervals make it.
 * Of the medians' intervals where both sides have one from 6 timings or more, since fewer cannot bound a median with 95%;
 * else of p10 and p90 where both sides have two timings. Either side may be NULL: a constant 1, no timing. */
adm_ratio_interval adm_ratio_of_times(const adm_timing_spread *over, const adm_timing_spread *under);

/* " (1.8 to 2.3, from the medians' 95% intervals)" with low and high times `scale`, " (n < 20, no interval)", or "".
 * out: 96 bytes. */
enum { ADM_RATIO_WORDS_BYTES = 96 };
void adm_ratio_words(const adm_ratio_interval *interval, double scale, int n_digits, char out[ADM_RATIO_WORDS_BYTES]);

/* "from the medians' 95% intervals", "from p10 and p90", or "". */
const char *adm_ratio_basis_words(adm_ratio_basis basis);

#endif
