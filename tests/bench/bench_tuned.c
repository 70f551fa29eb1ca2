/* bench_tuned.c: what `adamas tune --search-rows` can gain over the recorded grid: of every stage with launch parameters, the
 * registry's first row that takes the shape (the default) against the fastest of all rows and settings.
 *
 *   build/release/tests/bench_tuned [--tokens 8192] [--budgets 64,256] [--stages topk,step] [--limit-s N] [--out FILE]
 *
 * Per stage and configuration: every setting is compared with the default's output over all heads and timed in 3 short graphs;
 * up to 3 within 8% of the fastest are timed as a session would, in turns with the default; the fastest of them is tuned, or
 * the default where it is not 1% faster. A third timing, in turns (default, tuned, tuned, default), has had no part in the
 * choice and gives the gain.
 * 32 query heads, d = 128, F16, cold L2, CUDA graph. Exit status 77 without a GPU, 1 where a setting was wrong. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/stats/stats.h"
#include "core/system/clock.h"
#include "kernels/gpu/observe.h"
#include "kernels/gpu/registry.h"
#include "kernels/gpu/time.h"
#include "kernels/gpu/ways.h"
#include "kernels/profile/grid/grid.h"
#include "kernels/tune/candidate/collect.h"
#include "kernels/tune/gpu/gpu_compare.h"
#include "kernels/tune/search.h"

enum { MAX_WAYS = 96, FINALISTS = 3 };

/* A row, or a row with chosen parameters. */
typedef struct way {
    adm_candidate c;
    double ns; /* NAN: out */
} way;

typedef struct bench {
    adm_gpu *gpu;
    adm_gpu_case *c;
    adm_gpu_shape shape;
    uint32_t length[8];
    FILE *out;
    size_t n[ADM_N_STAGES], n_faster[ADM_N_STAGES], n_wrong, n_ways;
    double worst;
} bench;

/* --- A setting as a row --------------------------------------------------------------------------------------------- */

static const way *present; /* a launcher has no room for it */

static adm_status launch_present(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                                 adm_error *err) {
    return adm_gpu_ways_of(present->c.gpu_row)->launch(shape, buffers, present->c.chosen, stream, err);
}

static adm_gpu_impl impl_of(const way *w) {
    adm_gpu_impl impl = *w->c.gpu_row;
    present = w;
    if (w->c.n_parameters > 0) impl.launch = launch_present;
    return impl;
}

static void name_of(const way *w, char *out, size_t bytes) {
    size_t used = (size_t)snprintf(out, bytes, "%s", w->c.name);
    for (size_t p = 0; p < w->c.n_parameters && used < bytes; p++)
        used += (size_t)snprintf(out + used, bytes - used, "%s%s=%lld", p > 0 ? "," : " ", w->c.parameter[p].name,
                                 (long long)w->c.chosen[p]);
}

/* The rows, then every setting of those that have parameters. */
static adm_status gather(adm_stage stage, way *w, size_t *n, adm_error *err) {
    adm_tune_list list = {0};
    *n = 0;
    adm_status status = adm_tune_add_rows(&list, stage, true, NULL, err);
    if (status == ADM_OK) status = adm_tune_add_ways(&list, stage, NULL, err);
    for (size_t i = 0; status == ADM_OK && i < list.n; i++)
        for (size_t k = 0; k < adm_search_n_settings(&list.c[i]) && *n < MAX_WAYS; k++) {
            w[*n].c = list.c[i];
            adm_search_choose(&w[*n].c, k);
            w[(*n)++].ns = NAN;
        }
    adm_free(&list.c);
    return status;
}

/* --- Checking and timing -------------------------------------------------------------------------------------------- */

/* The way's output on set 0, poisoned before. */
static adm_status answer(const bench *b, adm_stage stage, const way *w, adm_gpu_copy *copy, adm_gpu_output *o, size_t *n,
                         adm_error *err) {
    const adm_gpu_impl impl = impl_of(w), *one = &impl;
    const adm_gpu_shape shape = adm_gpu_case_shape(b->c, 0);
    *n = adm_gpu_outputs(stage, &shape, adm_gpu_case_buffers(b->c, 0), o);
    adm_status status = adm_gpu_case_poison(b->c, 0, impl.covers, err);
    if (status == ADM_OK) status = adm_gpu_case_run(b->c, &one, 1, 0, err);
    return status == ADM_OK ? adm_gpu_copy_outputs(b->gpu, o, *n, copy, err) : status;
}

/* Whether it takes the shape and is right; *wrong: it is not. */
static bool check(bench *b, adm_stage stage, const way *w, const adm_gpu_copy *right) {
    adm_gpu_output o[ADM_MAX_OUTPUTS];
    adm_gpu_copy mine = {{NULL}};
    adm_error err = {0};
    size_t n;
    const adm_gpu_shape shape = adm_gpu_case_shape(b->c, 0);
    char name[256];
    adm_status status = answer(b, stage, w, &mine, o, &n, &err);
    if (status == ADM_OK)
        status = adm_gpu_compare_copies(o, n, &shape, b->length, &mine, right, 2 * w->c.gpu_row->tolerance, &err);
    adm_gpu_copy_free(&mine);
    name_of(w, name, sizeof name);
    if (status != ADM_OK && status != ADM_EUNSUPPORTED) {
        b->n_wrong++;
        printf("WRONG %s '%s': %s\n", adm_stage_name(stage), name, err.text);
    }
    return status == ADM_OK;
}

/* The least of three short graphs over the cold sets. */
static double short_ns(const bench *b, const way *w) {
    const adm_gpu_impl impl = impl_of(w);
    const adm_gpu_plan *plan = adm_gpu_case_plan(b->c);
    const uint32_t n_sets = adm_gpu_plan_rotation(plan, &b->shape, impl.covers);
    const uint32_t n = n_sets < 64 ? 64 / n_sets * n_sets : n_sets;
    adm_gpu_graph *graph = NULL;
    double best = INFINITY, ns;
    adm_status status = adm_gpu_graph_begin(b->gpu, NULL);
    for (uint32_t i = 0; i < n && status == ADM_OK; i++) status = adm_gpu_case_launch(b->c, &impl, i % n_sets, NULL);
    const adm_status ended = adm_gpu_graph_end(b->gpu, &graph, NULL);
    if (status == ADM_OK) status = ended;
    for (int i = 0; i < 4 && status == ADM_OK; i++) {
        status = adm_gpu_graph_time(graph, 1, &ns, NULL);
        if (status == ADM_OK && i > 0) best = fmin(best, ns / n);
    }
    adm_gpu_graph_free(&graph);
    return status == ADM_OK ? best : NAN;
}

/* As a session times it. */
static double median_ns(const bench *b, const way *w) {
    const adm_gpu_impl impl = impl_of(w), *one = &impl;
    adm_gpu_timing timing = {0};
    if (adm_gpu_time(b->c, &one, 1, ADM_LAUNCH_GRAPH, 0.01, 20000000, &timing, NULL) != ADM_OK) return NAN;
    const double median = adm_distribution_of(timing.sample_ns, timing.n_samples).median;
    adm_free(&timing.sample_ns);
    adm_free(&timing.end_ns);
    return median;
}

/* --- A stage of a configuration ------------------------------------------------------------------------------------- */

static int by_time(const void *a, const void *b) {
    const double x = ((const way *)a)->ns, y = ((const way *)b)->ns;
    return isnan(x) ? !isnan(y) : isnan(y) ? -1 : (x > y) - (x < y);
}

/* The fastest of the first few ways, timed in turns with the default; `usual` where none is faster. */
static const way *choose(const bench *b, const way *w, size_t n, const way *usual) {
    const way *found = usual;
    double best = fmin(median_ns(b, usual), median_ns(b, usual));
    for (size_t i = 0; i < n && i < FINALISTS && w[i].ns <= 1.08 * w[0].ns; i++) {
        const bool is_usual = w[i].c.gpu_row == usual->c.gpu_row && w[i].c.n_parameters == 0;
        const double ns = is_usual ? NAN : median_ns(b, &w[i]);
        if (ns < 0.99 * best) best = ns, found = &w[i];
    }
    return found;
}

static void report(bench *b, adm_stage stage, const way *usual, const way *tuned) {
    char name[256] = "";
    double before = median_ns(b, usual), after = before;
    if (tuned != usual) {
        after = median_ns(b, tuned);
        after = (after + median_ns(b, tuned)) / 2;
        before = (before + median_ns(b, usual)) / 2;
    }
    name_of(tuned, name, sizeof name);
    const double gain = before / after - 1;
    b->n[stage]++;
    b->n_faster[stage] += gain >= 0.05;
    b->worst = fmin(b->worst, gain);
    fprintf(b->out, "%s\t%u\t%u\t%u\t%u\t%s\t%.1f\t%s\t%.1f\t%+.2f%%\n", adm_stage_name(stage), b->shape.heads.n_kv_heads,
            b->shape.batch, b->length[0], adm_profile_by_budget(stage) ? b->shape.rule.budget : 0, usual->c.name, before, name,
            after, gain * 100);
    fflush(b->out);
}

static adm_status run_stage(bench *b, adm_stage stage, adm_error *err) {
    static way w[MAX_WAYS], usual;
    adm_profile_unit six;
    adm_gpu_output o[ADM_MAX_OUTPUTS];
    adm_gpu_copy right = {{NULL}};
    size_t n = 0, n_outputs, first = 0, n_before = 0;
    adm_status status = gather(stage, w, &n, err);
    if (status != ADM_OK || !adm_profile_six_stages(ADM_METRIC_L1, &six)) return status;
    while (stage < ADM_STAGE_STEP && n_before < six.n_impls && six.impl[n_before]->stage < stage) n_before++;
    if (n_before > 0) status = adm_gpu_case_run_all(b->c, six.impl, n_before, err);
    while (status == ADM_OK && first < n &&
           (status = answer(b, stage, &w[first], &right, o, &n_outputs, err)) == ADM_EUNSUPPORTED)
        first++, status = ADM_OK;
    if (status != ADM_OK || first == n) return status;
    usual = w[first];
    for (size_t i = 0; i < n; i++)
        if (i == first || check(b, stage, &w[i], &right)) w[i].ns = short_ns(b, &w[i]), b->n_ways++;
    adm_gpu_copy_free(&right);
    qsort(w, n, sizeof *w, by_time);
    report(b, stage, &usual, choose(b, w, n, &usual));
    return adm_gpu_wait(b->gpu, err);
}

/* --- The grid ------------------------------------------------------------------------------------------------------- */

typedef struct asked {
    uint32_t tokens[16], budget[16];
    size_t n_tokens, n_budgets;
    bool stage[ADM_N_STAGES];
    uint64_t end_ns;
} asked;

static adm_status run_case(bench *b, const asked *a, uint32_t n_tokens, uint32_t n_kv, uint32_t batch, adm_error *err) {
    b->shape = (adm_gpu_shape){.heads = {32, n_kv, 128},
                               .dtype = ADM_F16,
                               .batch = batch,
                               .capacity = n_tokens,
                               .rule = {a->budget[a->n_budgets - 1], 0, 1},
                               .threshold = {-0.674f, 0, 0.674f},
                               .scale = 0.088388348f};
    for (uint32_t i = 0; i < batch; i++) b->length[i] = n_tokens;
    const adm_gpu_inputs inputs = {.length = b->length, .seed = 20261130};
    adm_status status = adm_gpu_case_create(b->gpu, &b->shape, &inputs, true, &b->c, err);
    for (size_t i = 0; i < a->n_budgets && status == ADM_OK; i++) {
        b->shape.rule.budget = a->budget[i];
        adm_gpu_case_set_rule(b->c, &b->shape.rule);
        for (adm_stage stage = ADM_STAGE_DISTANCE; stage < ADM_N_STAGES && status == ADM_OK; stage++)
            if (a->stage[stage] && (i == 0 || adm_profile_by_budget(stage)) && adm_clock_ns() < a->end_ns)
                status = run_stage(b, stage, err);
    }
    adm_gpu_case_free(&b->c);
    return status;
}

static adm_status run_grid(bench *b, const asked *a, adm_error *err) {
    static const uint32_t kv[] = {8, 32}, batches[] = {1, 8};
    adm_status status = ADM_OK;
    for (size_t i = 0; i < 4 * a->n_tokens && status == ADM_OK && adm_clock_ns() < a->end_ns; i++)
        status = run_case(b, a, a->tokens[i / 4], kv[i % 2], batches[i / 2 % 2], err);
    return status;
}

static void sum_up(const bench *b) {
    size_t n = 0, n_faster = 0;
    for (int s = 0; s < ADM_N_STAGES; s++) {
        if (b->n[s] == 0) continue;
        printf("tuned: %-10s at least 5%% faster in %zu of %zu (%.0f%%)\n", adm_stage_name((adm_stage)s), b->n_faster[s],
               b->n[s], 100.0 * (double)b->n_faster[s] / (double)b->n[s]);
        n += b->n[s];
        n_faster += b->n_faster[s];
    }
    if (n > 0)
        printf("tuned: all        at least 5%% faster in %zu of %zu (%.0f%%); the least gain %+.2f%%; %zu settings timed, %zu "
               "wrong\n",
               n_faster, n, 100.0 * (double)n_faster / (double)n, b->worst * 100, b->n_ways, b->n_wrong);
}

static size_t read_list(const char *text, uint32_t list[16]) {
    size_t n = 0;
    for (char *at = (char *)(uintptr_t)text; *at != '\0' && n < 16; at += *at == ',')
        list[n++] = (uint32_t)strtoul(at, &at, 10);
    return n;
}

static bool read_options(int argc, char **argv, asked *a, bench *b) {
    const char *tokens = "8192,16384,32768,131072", *budgets = "64,128,256,512,1024,2048,4096";
    const char *stages = "distance,topk,attention,step,dense";
    double limit_s = 3600;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--tokens") == 0) tokens = argv[i + 1];
        else if (strcmp(argv[i], "--budgets") == 0) budgets = argv[i + 1];
        else if (strcmp(argv[i], "--stages") == 0) stages = argv[i + 1];
        else if (strcmp(argv[i], "--limit-s") == 0) limit_s = atof(argv[i + 1]);
        else if (strcmp(argv[i], "--out") == 0) b->out = fopen(argv[i + 1], "w");
        else return false;
    }
    if (argc % 2 == 0 || b->out == NULL) return false;
    a->n_tokens = read_list(tokens, a->tokens);
    a->n_budgets = read_list(budgets, a->budget);
    for (int s = 0; s < ADM_N_STAGES; s++) a->stage[s] = strstr(stages, adm_stage_name((adm_stage)s)) != NULL;
    a->end_ns = adm_clock_ns() + (uint64_t)(limit_s * 1e9);
    return a->n_tokens > 0 && a->n_budgets > 0;
}

int main(int argc, char **argv) {
    bench b = {.out = stdout};
    asked a = {.n_budgets = 0};
    adm_error err = {0};
    if (!read_options(argc, argv, &a, &b)) {
        fprintf(
            stderr,
            "usage: bench_tuned [--tokens L] [--budgets L] [--stages L] [--limit-s N] [--out FILE]; the largest budget last\n");
        return 2;
    }
    adm_status status = adm_gpu_open(0, &b.gpu, &err);
    if (status == ADM_OK) {
        fprintf(b.out, "stage\tkv_heads\tbatch\ttokens\tbudget\tdefault\tdefault_ns\ttuned\ttuned_ns\tgain\n");
        status = run_grid(&b, &a, &err);
    }
    sum_up(&b);
    adm_gpu_close(&b.gpu);
    if (status != ADM_OK) fprintf(stderr, "bench_tuned: %s\n", err.text);
    return status == ADM_EUNSUPPORTED ? 77 : status != ADM_OK ? 4 : b.n_wrong > 0;
}
