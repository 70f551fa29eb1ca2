/* differences.c: order statistics of differences, by halving the range of values until few are left. */
#include "analysis/regress/statistics/differences.h"

#include "analysis/regress/statistics/quantile.h"

size_t adm_difference_scratch(size_t n_x, size_t n_y) { return 2 * (n_x + n_y) + 64; }

/* How many differences are at most `bound`. */
static size_t count_to(const double *x, size_t n_x, const double *y, size_t n_y, double bound) {
    size_t n = 0, j = 0;
    for (size_t i = 0; i < n_x; i++) {
        while (j < n_y && y[j] - x[i] <= bound) j++;
        n += j;
    }
    return n;
}

/* The differences above `low` and at most `high`, into out; their number is known to fit. */
static size_t take_between(const double *x, size_t n_x, const double *y, size_t n_y, double low, double high, double *out) {
    size_t n = 0, from = 0, to = 0;
    for (size_t i = 0; i < n_x; i++) {
        while (from < n_y && y[from] - x[i] <= low) from++;
        while (to < n_y && y[to] - x[i] <= high) to++;
        for (size_t j = from; j < to; j++) out[n++] = y[j] - x[i];
    }
    return n;
}

double adm_difference_select(const double *x, size_t n_x, const double *y, size_t n_y, size_t k, double *scratch) {
    const size_t max_pairs = adm_difference_scratch(n_x, n_y);
    double low = y[0] - x[n_x - 1], high = y[n_y - 1] - x[0];
    size_t n_low = count_to(x, n_x, y, n_y, low), n_high = n_x * n_y;
    if (k < n_low) return low;
    /* The answer is above low and at most high, among n_high - n_low differences. */
    while (n_high - n_low > max_pairs) {
        double middle = low + (high - low) / 2;
        if (middle <= low || middle >= high) return high; /* neighbours: all that are left are equal */
        size_t n = count_to(x, n_x, y, n_y, middle);
        if (n > k) {
            high = middle;
            n_high = n;
        } else {
            low = middle;
            n_low = n;
        }
    }
    size_t n = take_between(x, n_x, y, n_y, low, high, scratch);
    return adm_select(scratch, n, k - n_low);
}

double adm_difference_median(const double *x, size_t n_x, const double *y, size_t n_y, double *scratch) {
    const size_t n = n_x * n_y;
    double upper = adm_difference_select(x, n_x, y, n_y, n / 2, scratch);
    if (n % 2 == 1) return upper;
    return (adm_difference_select(x, n_x, y, n_y, n / 2 - 1, scratch) + upper) / 2;
}
