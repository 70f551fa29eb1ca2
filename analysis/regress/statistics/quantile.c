/* quantile.c: quantiles of the normal and Student's distributions, and of values. */
#include "analysis/regress/statistics/quantile.h"

#include <math.h>

/* Horner: c[0] + c[1] r + ... */
static double polynomial(const double *c, int n, double r) {
    double sum = c[n - 1];
    for (int i = n - 2; i >= 0; i--) sum = sum * r + c[i];
    return sum;
}

/* Wichura, Algorithm AS 241, Applied Statistics 37(3), 1988: PPND16. */
double adm_normal_quantile(double q) {
    static const double a[] = {3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3,
                               1.3731693765509461125e4, 4.5921953931549871457e4, 6.7265770927008700853e4,
                               3.3430575583588128105e4, 2.5090809287301226727e3};
    static const double b[] = {1.0,
                               4.2313330701600911252e1,
                               6.8718700749205790830e2,
                               5.3941960214247511077e3,
                               2.1213794301586595867e4,
                               3.9307895800092710610e4,
                               2.8729085735721942674e4,
                               5.2264952788528545610e3};
    static const double c[] = {1.42343711074968357734e0,  4.63033784615654529590e0, 5.76949722146069140550e0,
                               3.64784832476320460504e0,  1.27045825245236838258e0, 2.41780725177450611770e-1,
                               2.27238449892691845833e-2, 7.74545014278341407640e-4};
    static const double d[] = {1.0,
                               2.05319162663775882187e0,
                               1.67638483018380384940e0,
                               6.89767334985100004550e-1,
                               1.48103976427480074590e-1,
                               1.51986665636164571966e-2,
                               5.47593808499534494600e-4,
                               1.05075007164441684324e-9};
    static const double e[] = {6.65790464350110377720e0,  5.46378491116411436990e0,  1.78482653991729133580e0,
                               2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
                               2.71155556874348757815e-5, 2.01033439929228813265e-7};
    static const double f[] = {1.0,
                               5.99832206555887937690e-1,
                               1.36929880922735805310e-1,
                               1.48753612908506148525e-2,
                               7.86869131145613259100e-4,
                               1.84631831751005468180e-5,
                               1.42151175831644588870e-7,
                               2.04426310338993978564e-15};
    double from_middle = q - 0.5;
    if (fabs(from_middle) <= 0.425) {
        double r = 0.180625 - from_middle * from_middle;
        return from_middle * polynomial(a, 8, r) / polynomial(b, 8, r);
    }
    double r = sqrt(-log(from_middle < 0 ? q : 1 - q));
    double z = r <= 5 ? polynomial(c, 8, r - 1.6) / polynomial(d, 8, r - 1.6)
                      : polynomial(e, 8, r - 5) / polynomial(f, 8, r - 5);
    return from_middle < 0 ? -z : z;
}

/* The regularised incomplete beta function's continued fraction, by Lentz's method; converges fast for
 * x < (a + 1) / (a + b + 2). */
static double beta_fraction(double a, double b, double x) {
    const double tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1);
    d = 1 / (fabs(d) < tiny ? tiny : d);
    double h = d;
    for (int m = 1; m <= 500; m++) {
        double term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        for (int half = 0; half < 2; half++) {
            d = 1 + term * d;
            c = 1 + term / c;
            d = 1 / (fabs(d) < tiny ? tiny : d);
            if (fabs(c) < tiny) c = tiny;
            h *= d * c;
            if (half == 0) term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        }
        if (fabs(d * c - 1) < 1e-15) break;
    }
    return h;
}

static double incomplete_beta(double a, double b, double x) {
    if (x <= 0) return 0;
    if (x >= 1) return 1;
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
    if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(a, b, x) / a;
    return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

double adm_student_quantile(double q, double df) {
    if (q == 0.5) return 0;
    double tail = q < 0.5 ? q : 1 - q, low = 0, high = 2;
    /* P(T > t) = I(df / (df + t^2); df/2, 1/2) / 2 falls with t. */
    while (incomplete_beta(df / 2, 0.5, df / (df + high * high)) / 2 > tail && high < 1e300) high *= 2;
    for (int i = 0; i < 200 && high - low > 1e-12 * high; i++) {
        double t = (low + high) / 2;
        if (incomplete_beta(df / 2, 0.5, df / (df + t * t)) / 2 > tail) low = t;
        else high = t;
    }
    return q < 0.5 ? -low : low;
}

/* --- Order statistics --------------------------------------------------------------------------------------------- */

double adm_select(double *v, size_t n, size_t k) {
    size_t low = 0, high = n - 1;
    while (low < high) {
        double pivot = v[low + (high - low) / 2];
        size_t i = low, j = high;
        for (;;) {
            while (v[i] < pivot) i++;
            while (v[j] > pivot) j--;
            if (i >= j) break;
            double other = v[i];
            v[i++] = v[j];
            v[j--] = other;
        }
        /* v[low..j] <= pivot <= v[j+1..high] */
        if (k <= j) high = j;
        else low = j + 1;
    }
    return v[k];
}

double adm_median(double *v, size_t n) {
    double upper = adm_select(v, n, n / 2);
    if (n % 2 == 1) return upper;
    double lower = v[0]; /* the largest of those before, which the selection left there */
    for (size_t i = 1; i < n / 2; i++)
        if (v[i] > lower) lower = v[i];
    return (lower + upper) / 2;
}
