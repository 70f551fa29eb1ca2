/* bench_regression.c: how often the statistics of regression tracking are wrong, on recorded noise with planted shifts.
 * Called by bench_regression.py, which prints the table; output: NAME VALUE a line.
 *
 *     recorded:  processes p0 p1 p2 p3 | p4 p5 p6 p7 | ...   of one program, in the order in which they ran
 *     a check:   five of these blocks by chance, ABBA in each: ten processes per side that are all of one program; those that
 *                ran on a contended core are then left out, as adm_series_load() has it
 *
 * Each of the 54 rows (6 stages x 9 configurations) draws blocks of its own, so that rows are independent, as the test of a
 * family has it hardest. Stages with fewer than nine recorded series repeat them with other draws. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/regress/statistics/change_points.h"
#include "analysis/regress/statistics/judge.h"
#include "analysis/regress/statistics/quantile.h"
#include "analysis/regress/statistics/shift.h"
#include "core/base/mem.h"
#include "core/stats/rng.h"

enum {
    N_QUANTILES = 9,
    MAX_PROCESSES = 128,
    MAX_SERIES = 128,
    MAX_SAMPLES = 128,
    SIDE = 10,
    N_STAGES = 6,
    N_PER_STAGE = 9,
    N_ROWS = N_STAGES * N_PER_STAGE
};

static const double quantile[N_QUANTILES] = {0, .05, .25, .4, .5, .6, .75, .95, 1};
static const char *const stage_name[N_STAGES] = {"hadamard", "bucket", "pack", "distance", "topk", "attention"};

typedef struct series {
    char stage[16];
    size_t n_processes;
    size_t n[MAX_PROCESSES];                           /* samples of each */
    double sample[MAX_PROCESSES][MAX_SAMPLES];         /* ascending */
    double median[MAX_PROCESSES];
    bool is_contended[MAX_PROCESSES];
} series;

static series *all;
static size_t n_all;
static adm_error err;

static void must(adm_status status) {
    if (status == ADM_OK) return;
    fprintf(stderr, "bench_regression: %s\n", err.text);
    exit(4);
}

/* --- Recorded noise ----------------------------------------------------------------------------------------------- */

/* As many samples as there were, up to MAX_SAMPLES, at even steps through the recorded quantiles. */
static void expand(series *s, size_t n, const double value[N_QUANTILES], double unit, double loop) {
    size_t kept = n < MAX_SAMPLES ? n : MAX_SAMPLES, p = s->n_processes++;
    s->is_contended[p] = loop > 1100; /* thousandths of the fastest; 0: not known */
    for (size_t i = 0; i < kept; i++) {
        double u = ((double)i + 0.5) / (double)kept;
        int k = 0;
        while (u > quantile[k + 1]) k++;
        double part = (u - quantile[k]) / (quantile[k + 1] - quantile[k]);
        s->sample[p][i] = unit * (1 + 1e-5 * (value[k] + part * (value[k + 1] - value[k])));
    }
    s->n[p] = kept;
    s->median[p] = unit * (1 + 1e-5 * value[4]);
}

static void read_noise(const char *path) {
    FILE *file = fopen(path, "r");
    char line[1024];
    double unit = 1;
    if (file == NULL) {
        perror(path);
        exit(2);
    }
    must(adm_alloc(&all, MAX_SERIES, sizeof *all, "recorded noise", &err));
    while (fgets(line, sizeof line, file) != NULL) {
        double v[N_QUANTILES], loop = 0;
        size_t n;
        if (line[0] == 'S' && n_all < MAX_SERIES) {
            series *s = &all[n_all++];
            const char *last = strrchr(line, '\t');
            sscanf(line, "S\t%15[^\t]", s->stage);
            unit = strtod(last + 1, NULL);
        } else if (line[0] == 'P' && n_all > 0 && all[n_all - 1].n_processes < MAX_PROCESSES &&
                   sscanf(line, "P\t%zu\t%lf\t%lf\t%lf\t%lf\t%lf\t%lf\t%lf\t%lf\t%lf\t%lf", &n, &v[0], &v[1], &v[2], &v[3],
                          &v[4], &v[5], &v[6], &v[7], &v[8], &loop) >= 10) {
            expand(&all[n_all - 1], n, v, unit, loop);
        }
    }
    fclose(file);
}

static const series *series_of(int stage, size_t i) {
    size_t n = 0;
    for (size_t s = 0; s < n_all; s++) n += strcmp(all[s].stage, stage_name[stage]) == 0;
    for (size_t s = 0, seen = 0; s < n_all; s++)
        if (strcmp(all[s].stage, stage_name[stage]) == 0 && seen++ == i % n) return &all[s];
    fprintf(stderr, "bench_regression: no noise was recorded of %s\n", stage_name[stage]);
    exit(2);
}

/* --- A simulated check -------------------------------------------------------------------------------------------- */

typedef struct side {
    double sample[SIDE][MAX_SAMPLES];
    adm_process process[SIDE];
    size_t n;
} side;

static void take(side *to, const series *s, size_t p, double factor) {
    if (s->is_contended[p]) return;
    for (size_t k = 0; k < s->n[p]; k++) to->sample[to->n][k] = factor * s->sample[p][k];
    to->process[to->n] = (adm_process){to->sample[to->n], s->n[p]};
    to->n++;
}

/* Ten processes per side from five blocks of four neighbours that do not overlap. */
static void draw(adm_rng *rng, const series *s, double factor, side *a, side *b) {
    size_t offset = adm_rng_below(rng, s->n_processes % 4 + 1), n_blocks = (s->n_processes - offset) / 4, order[MAX_PROCESSES];
    a->n = b->n = 0;
    for (size_t i = 0; i < n_blocks; i++) order[i] = i;
    for (size_t i = 0; i < 5; i++) {
        size_t j = i + adm_rng_below(rng, n_blocks - i), at = order[j];
        order[j] = order[i];
        at = offset + 4 * at;
        bool turned = adm_rng_below(rng, 2);
        for (size_t k = 0; k < 4; k++) {
            bool is_b = (k == 1 || k == 2) != turned;
            take(is_b ? b : a, s, at + k, is_b ? factor : 1);
        }
    }
}

typedef struct row {
    side a, b;
    adm_shift shift;
    double p;
    bool planted;
    adm_verdict verdict;
} row;

static row rows[N_ROWS];

/* Rows with `factor` in one stage (-1: none), judged as `adamas check` judges them. */
static void simulate(adm_rng *rng, int planted_stage, double factor, double margin) {
    double p[N_ROWS];
    for (int i = 0; i < N_ROWS; i++) {
        row *r = &rows[i];
        r->planted = i / N_PER_STAGE == planted_stage;
        draw(rng, series_of(i / N_PER_STAGE, (size_t)(i % N_PER_STAGE)), r->planted ? factor : 1, &r->a, &r->b);
        p[i] = 1;
        if (r->a.n < ADM_MIN_PROCESSES || r->b.n < ADM_MIN_PROCESSES) continue;
        must(adm_shift_compare(r->a.process, r->a.n, r->b.process, r->b.n, 0.99, &r->shift, &err));
        p[i] = r->shift.p;
    }
    must(adm_benjamini_hochberg(p, N_ROWS, &err));
    for (int i = 0; i < N_ROWS; i++) {
        row *r = &rows[i];
        r->p = p[i];
        r->verdict = ADM_VERDICT_INCONCLUSIVE;
        if (r->a.n < ADM_MIN_PROCESSES || r->b.n < ADM_MIN_PROCESSES) continue;
        r->verdict = adm_judge_time(&r->shift, p[i], margin, 0.01);
    }
}

/* --- Goals -------------------------------------------------------------------------------------------------------- */

static void false_alarms(adm_rng *rng, size_t n_checks) {
    size_t n_regressed = 0, n_improved = 0, n_open = 0;
    for (size_t c = 0; c < n_checks; c++) {
        bool regressed = false, improved = false;
        simulate(rng, -1, 1, 0.01);
        for (int i = 0; i < N_ROWS; i++) {
            regressed |= rows[i].verdict == ADM_VERDICT_REGRESSED;
            improved |= rows[i].verdict == ADM_VERDICT_IMPROVED;
            n_open += rows[i].verdict == ADM_VERDICT_INCONCLUSIVE;
        }
        n_regressed += regressed;
        n_improved += improved;
    }
    printf("checks %zu\nfalse_regressed %zu\nfalse_improved %zu\nopen %zu\n", n_checks, n_regressed, n_improved, n_open);
}

/* Rows of the stage that are judged regressed, and checks in which at least one is. */
static void planted(adm_rng *rng, double factor, double margin, const char *name, size_t n_checks) {
    for (int stage = 0; stage < N_STAGES; stage++) {
        size_t n_found = 0, n_rows_found = 0, n_equivalent = 0;
        for (size_t c = 0; c < n_checks; c++) {
            size_t n_here = 0;
            simulate(rng, stage, factor, margin);
            for (int i = 0; i < N_ROWS; i++) {
                if (!rows[i].planted) continue;
                n_here += rows[i].verdict == ADM_VERDICT_REGRESSED;
                n_equivalent += rows[i].verdict == ADM_VERDICT_EQUIVALENT;
            }
            n_found += n_here > 0;
            n_rows_found += n_here;
        }
        printf("%s_%s %zu %zu %zu %zu\n", name, stage_name[stage], n_checks, n_found, n_rows_found, n_equivalent);
    }
}

enum { RUNS = 100 };

/* The medians of the processes that ran alone; returns how many. */
static size_t medians_alone(const series *s, double v[MAX_PROCESSES]) {
    size_t n = 0;
    for (size_t i = 0; i < s->n_processes; i++)
        if (!s->is_contended[i]) v[n++] = s->median[i];
    return n;
}

static double robust_spread(const series *s) {
    double v[MAX_PROCESSES];
    size_t n = medians_alone(s, v);
    double middle = adm_median(v, n);
    n = medians_alone(s, v); /* the median put them into another order */
    for (size_t i = 0; i < n; i++) v[i] = fabs(v[i] / middle - 1);
    return 1.4826 * adm_median(v, n);
}

/* A series of runs from the recorded processes' medians; correlated: x' = rho x + sqrt(1 - rho^2) e on the log scale. */
static void make_runs(adm_rng *rng, const series *s, double rho, double out[RUNS]) {
    double centre = 0, x = 0, median[MAX_PROCESSES];
    const size_t n = medians_alone(s, median);
    for (size_t i = 0; i < n; i++) centre += log(median[i]) / (double)n;
    for (int i = 0; i < RUNS; i++) {
        double e = log(median[adm_rng_below(rng, n)]) - centre;
        x = i > 0 ? rho * x + sqrt(1 - rho * rho) * e : e;
        out[i] = exp(centre + x);
    }
}

static size_t find(const double *value, size_t at, bool *near) {
    const adm_change_options options = ADM_CHANGE_DEFAULTS;
    adm_change_point *found;
    size_t n;
    must(adm_change_points(value, RUNS, &options, &found, &n, &err));
    *near = false;
    for (size_t i = 0; i < n; i++) *near |= found[i].at + 3 >= at && found[i].at <= at + 3;
    adm_free(&found);
    return n;
}

static void change_points(adm_rng *rng, size_t n_rounds) {
    double value[RUNS];
    bool near;
    for (int stage = 0; stage < N_STAGES; stage++) {
        size_t n = 0, n_near = 0, n_false = 0, n_correlated = 0, n_quiet = 0, n_quiet_near = 0;
        double spread = 0;
        for (size_t r = 0; r < n_rounds; r++)
            for (size_t i = 0; i < N_PER_STAGE; i++) {
                const series *s = series_of(stage, i);
                size_t at = 10 + adm_rng_below(rng, RUNS - 20 + 1);
                bool quiet = robust_spread(s) <= 0.012;
                make_runs(rng, s, 0, value);
                for (size_t k = at; k < RUNS; k++) value[k] *= 1.05;
                find(value, at, &near);
                n_near += near;
                n_quiet += quiet;
                n_quiet_near += quiet && near;
                make_runs(rng, s, 0, value);
                n_false += find(value, 0, &near) > 0;
                make_runs(rng, s, 0.3, value);
                n_correlated += find(value, 0, &near) > 0;
                n++;
                spread += robust_spread(s);
            }
        printf("change_%s %zu %zu %zu %zu %.5f %zu %zu\n", stage_name[stage], n, n_near, n_false, n_correlated,
               spread / (double)n, n_quiet, n_quiet_near);
    }
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: bench_regression NOISE.tsv SEED SCALE\n");
        return 2;
    }
    adm_rng rng;
    size_t scale = strtoul(argv[3], NULL, 10);
    read_noise(argv[1]);
    adm_rng_seed(&rng, strtoull(argv[2], NULL, 10));
    printf("series %zu\n", n_all);
    false_alarms(&rng, 200 * scale);
    planted(&rng, 1.03, 0.01, "slower_3", 10 * scale);
    planted(&rng, 1.01, 0.01, "slower_1", 10 * scale);
    change_points(&rng, 10 * scale);
    return 0;
}
