/* bench_probes.c: what observing costs, for `ninja bench`; nothing is asserted.
 *
 *   host   one layer of one decode step, 8 KV heads and queries of d = 128 over 4,096 tokens, budget 256, by this processor's
 *          fastest stages; and beside it the nine pairs of begin and end around it with nothing attached, with NVTX and no
 *          tool, and with a timeline. The pairs are timed by themselves, in a tight loop: their share of the step is
 *          pairs * cost / step.
 *   GPU    a step as six kernels at 32,768 tokens with and without CUPTI's activity records, in turns; skipped without one. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/system/clock.h"
#include "core/replay/event_spool.h"
#include "core/base/mem.h"
#include "core/contract/probe.h"
#include "core/stats/rng.h"
#include "core/stats/stats.h"
#include "kernels/gpu/time.h"
#include "kernels/profile/run.h"
#include "kernels/registry.h"
#include "probes/cupti/activity_probe.h"
#include "probes/clock_probe.h"
#include "probes/nvtx_probe.h"

enum { N_HEADS = 8, D = 128, N_TOKENS = 4096, BUDGET = 256, N_ROUNDS = 101, N_PAIRS = 9, N_LOOPS = 2000 };

/* --- The host ----------------------------------------------------------------------------------------------------- */

typedef struct layer {
    adm_host_pipeline by;
    uint16_t *q, *k, *v;   /* [N_HEADS][D], [N_HEADS][N_TOKENS][D], likewise */
    uint8_t *cache;        /* [N_HEADS][N_TOKENS][D/4] */
    float y[N_HEADS * D], out[D];
    uint8_t code[N_HEADS * D], packed[N_HEADS * D / 4];
    uint16_t distance[N_TOKENS];
    uint32_t histogram[3 * D + 1], index[N_TOKENS];
    double score[N_TOKENS];
} layer;

static void run_step(layer *l) {
    static const float thresholds[3] = {-0.674f, 0, 0.674f};
    const adm_select_rule rule = {BUDGET, 0, 1};
    l->by.hadamard->fn.hadamard(ADM_F16, l->q, N_HEADS, D, l->y);
    l->by.bucket->fn.bucket(l->y, N_HEADS * D, thresholds, l->code);
    l->by.pack->fn.pack(l->code, N_HEADS, D, l->packed);
    for (size_t h = 0; h < N_HEADS; h++) {
        l->by.distance->fn.distance(l->packed + h * D / 4, l->cache + h * N_TOKENS * D / 4, N_TOKENS, D, l->distance);
        uint32_t n = l->by.topk->fn.topk(l->distance, N_TOKENS, 3 * D, &rule, l->histogram, l->index, NULL);
        l->by.attention->fn.attention(ADM_F16, l->q + h * D, l->k + h * N_TOKENS * D, l->v + h * N_TOKENS * D, l->index, n, D,
                                      0.088, l->score, l->out);
    }
}

static double median_step_ns(layer *l) {
    static double ns[N_ROUNDS];
    for (int i = -3; i < N_ROUNDS; i++) {
        uint64_t start = adm_clock_ns();
        run_step(l);
        if (i >= 0) ns[i] = (double)(adm_clock_ns() - start);
    }
    return adm_distribution_of(ns, N_ROUNDS).median;
}

/* The median of short series, so that an interruption does not count. */
static double pair_ns(adm_probes *probes, adm_event_spool *spool) {
    static double ns[N_ROUNDS];
    const adm_range range = {.kind = ADM_RANGE_STAGE,
                             .stage = ADM_STAGE_DISTANCE,
                             .variant = "bench",
                             .step = 1,
                             .layer = 1,
                             .seq_len = N_TOKENS,
                             .budget = BUDGET};
    for (int i = 0; i < N_ROUNDS; i++) {
        uint64_t start = adm_clock_ns();
        for (int j = 0; j < N_LOOPS; j++) {
            adm_probes_begin(probes, &range);
            __asm__ volatile("" ::: "memory"); /* a stage that the compiler cannot see through */
            adm_probes_end(probes, &range);
        }
        ns[i] = (double)(adm_clock_ns() - start) / N_LOOPS;
        if (spool != NULL) adm_event_spool_settle(spool, NULL); /* as a replay does between steps */
    }
    return adm_distribution_of(ns, N_ROUNDS).median;
}

static void to_spool(void *spool, const adm_range *range, uint64_t start_ns, uint64_t end_ns) {
    adm_event_spool_append(spool, range, start_ns, end_ns);
}

static void report(const char *what, double ns, double step_ns, const char *limit) {
    printf("%-34s %8.1f ns a pair %9.4f%% of a step   (wanted: under %s)\n", what, ns, N_PAIRS * ns / step_ns * 100, limit);
}

static adm_status bench_host(adm_error *err) {
    layer *l = NULL;
    adm_event_spool *spool = NULL;
    adm_nvtx_probe nvtx;
    adm_clock_probe clock;
    adm_probes none = {0}, with_nvtx = {0}, with_timeline = {0};
    adm_rng rng;
    adm_status status = adm_alloc(&l, 1, sizeof *l, "a layer", err);
    if (status == ADM_OK) status = adm_alloc(&l->q, N_HEADS * D, sizeof *l->q, "queries", err);
    if (status == ADM_OK) status = adm_alloc(&l->k, (size_t)N_HEADS * N_TOKENS * D, sizeof *l->k, "keys", err);
    if (status == ADM_OK) status = adm_alloc(&l->v, (size_t)N_HEADS * N_TOKENS * D, sizeof *l->v, "values", err);
    if (status == ADM_OK) status = adm_alloc(&l->cache, (size_t)N_HEADS * N_TOKENS * D / 4, 1, "codes", err);
    if (status == ADM_OK) status = adm_event_spool_open(&spool, err);
    adm_nvtx_probe_init(&nvtx);
    adm_clock_probe_init(&clock, to_spool, spool);
    if (status == ADM_OK) status = adm_probes_attach(&with_nvtx, &nvtx.probe, err);
    if (status == ADM_OK) status = adm_probes_attach(&with_timeline, &clock.probe, err);
    if (status == ADM_OK) status = adm_probes_start(&with_nvtx, err);
    if (status == ADM_OK) status = adm_probes_start(&with_timeline, err);
    if (status == ADM_OK) {
        adm_host_pipeline_default(&l->by);
        adm_rng_seed(&rng, 1);
        for (size_t i = 0; i < N_HEADS * D; i++) l->q[i] = adm_f32_to_f16((float)adm_rng_normal(&rng));
        for (size_t i = 0; i < (size_t)N_HEADS * N_TOKENS * D; i++)
            l->k[i] = l->v[i] = adm_f32_to_f16((float)adm_rng_normal(&rng));
        for (size_t i = 0; i < (size_t)N_HEADS * N_TOKENS * D / 4; i++) l->cache[i] = (uint8_t)adm_rng_u64(&rng);
        double step_ns = median_step_ns(l);
        printf("one layer of one step on the host: %.1f us, %d pairs of begin and end (n = %d)\n", step_ns * 1e-3, N_PAIRS,
               N_ROUNDS);
        report("probes compiled in, none attached", pair_ns(&none, NULL), step_ns, "0.1%");
        report("NVTX, no tool attached", pair_ns(&with_nvtx, NULL), step_ns, "0.5%");
        report("timeline", pair_ns(&with_timeline, spool), step_ns, "3%");
    }
    adm_probes_stop(&with_timeline, NULL);
    adm_probes_stop(&with_nvtx, NULL);
    adm_event_spool_close(&spool);
    if (l != NULL) {
        void *const owned[] = {&l->q, &l->k, &l->v, &l->cache};
        for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) adm_free(owned[i]);
    }
    adm_free(&l);
    return status;
}

/* --- The GPU ------------------------------------------------------------------------------------------------------ */

static void ignore(void *user, const adm_range *range, const adm_activity *activity, size_t n) {
    (void)user, (void)range, (void)activity, (void)n;
}

/* The median of a unit's samples, with or without records. */
static adm_status time_unit(adm_gpu_case *gpu_case, const adm_profile_unit *unit, adm_gpu_launch_mode mode, adm_probes *probes,
                            double *ns, adm_error *err) {
    adm_gpu_timing timing = {0};
    adm_status status = probes != NULL ? adm_probes_start(probes, err) : ADM_OK;
    if (status != ADM_OK) return status;
    status = adm_gpu_time(gpu_case, unit->impl, unit->n_impls, mode, 0.005, 100000000, &timing, err);
    if (probes != NULL) {
        adm_status stopped = adm_probes_stop(probes, status == ADM_OK ? err : NULL);
        if (status == ADM_OK) status = stopped;
    }
    if (status == ADM_OK) *ns = adm_distribution_of(timing.sample_ns, timing.n_samples).median;
    adm_free(&timing.sample_ns);
    adm_free(&timing.end_ns);
    return status;
}

/* Off and on in turns; the ratio is the median of the pairs' own. */
static adm_status compare(adm_gpu_case *gpu_case, const adm_profile_unit *unit, adm_gpu_launch_mode mode, adm_probes *probes,
                          adm_error *err) {
    enum { N = 7 };
    double off[N], on[N], ratio[N];
    adm_status status = ADM_OK;
    for (int i = 0; status == ADM_OK && i < N; i++) {
        status = time_unit(gpu_case, unit, mode, i % 2 ? probes : NULL, i % 2 ? &on[i] : &off[i], err);
        if (status == ADM_OK) status = time_unit(gpu_case, unit, mode, i % 2 ? NULL : probes, i % 2 ? &off[i] : &on[i], err);
        if (status == ADM_OK) ratio[i] = on[i] / off[i] - 1;
    }
    if (status != ADM_OK) return status;
    adm_distribution r = adm_distribution_of(ratio, N);
    printf("GPU timeline, step %-6s %-7s %8.2f us off, %8.2f us on: %+.1f%% (%+.1f%% to %+.1f%%, n = %d pairs; wanted: under "
           "3%%)\n",
           unit->variant, mode == ADM_LAUNCH_GRAPH ? "graph" : "stream", adm_distribution_of(off, N).median * 1e-3,
           adm_distribution_of(on, N).median * 1e-3, r.median * 100, r.min * 100, r.max * 100, N);
    return ADM_OK;
}

static adm_status bench_gpu(adm_error *err) {
    static const uint32_t seq_len = 32768, budget = 256, kv_heads = 32, batch = 1;
    adm_gpu *gpu = NULL;
    adm_gpu_case *gpu_case = NULL;
    adm_profile_unit *units = NULL;
    adm_activity_probe *activity = NULL;
    adm_probes probes = {0};
    size_t n_units = 0;
    static const adm_dtype dtype = ADM_F16;
    static const adm_code_metric metric = ADM_METRIC_L1;
    static const uint32_t contiguous = 0;
    adm_profile_options o = {.seq_lens = &seq_len,
                             .n_seq_lens = 1,
                             .budgets = &budget,
                             .n_budgets = 1,
                             .kv_heads = &kv_heads,
                             .n_kv_heads = 1,
                             .batches = &batch,
                             .n_batches = 1,
                             .n_q_heads = 32,
                             .head_dim = 128,
                             .metrics = &metric,
                             .n_metrics = 1,
                             .dtypes = &dtype,
                             .n_dtypes = 1,
                             .page_sizes = &contiguous,
                             .n_page_sizes = 1,
                             .threshold = {-0.674f, 0, 0.674f},
                             .cold = true,
                             .seed = 1,
                             .stage = {[ADM_STAGE_STEP] = true}};
    adm_status status = adm_gpu_open(0, &gpu, err);
    if (status == ADM_OK) status = adm_profile_units(&o, metric, &units, &n_units, err);
    if (status == ADM_OK) status = adm_activity_probe_open(&activity, err);
    if (status == ADM_OK) {
        adm_activity_probe_deliver_to(activity, ignore, NULL);
        status = adm_probes_attach(&probes, adm_activity_probe_of(activity), err);
    }
    const adm_profile_case c = adm_profile_case_at(&o, 0);
    const adm_gpu_shape shape = adm_profile_shape(&o, &c);
    const adm_gpu_inputs inputs = adm_profile_inputs(&o, &c);
    if (status == ADM_OK) status = adm_gpu_case_create(gpu, &shape, &inputs, true, &gpu_case, err);
    for (size_t i = 0; status == ADM_OK && i < n_units; i++)
        for (int mode = 0; status == ADM_OK && mode < 2; mode++)
            status = compare(gpu_case, &units[i], (adm_gpu_launch_mode)mode, &probes, err);
    adm_gpu_case_free(&gpu_case);
    adm_activity_probe_close(&activity);
    adm_free(&units);
    adm_gpu_close(&gpu);
    return status;
}

int main(void) {
    adm_error err = {0};
    printf("\nprobes: what observing costs\n");
    adm_status status = bench_host(&err);
    if (status == ADM_OK) {
        status = bench_gpu(&err);
        if (status == ADM_EUNSUPPORTED) {
            printf("GPU timeline: not run: %s\n", err.text);
            status = ADM_OK;
        }
    }
    if (status != ADM_OK) fprintf(stderr, "bench_probes: %s\n", err.text);
    return adm_exit_code(status);
}
