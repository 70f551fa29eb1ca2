/* bench_gpu_attention.c: one table of attention and dense times against the read limit of the same run. Cold L2, in a
 * CUDA graph of back-to-back calls (kernels/gpu_run.h says how). Indices are random and ascending.
 *
 *   bench_gpu_attention [tune]      tune: also the launch parameters */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"
#include "kernels/attention.h"
#include "kernels/attention_gpu.h"
#include "kernels/bandwidth.h"
#include "kernels/gpu_memory.h"
#include "kernels/gpu_run.h"

static double limit_bytes_per_s;
static unsigned splits, n_warps, n_blocks; /* what the launchers below pass on */

static adm_status launch_attention(const adm_gpu_shape *s, const adm_gpu_buffers *b, adm_gpu_stream stream, adm_error *err) {
    return adm_gpu_attention_tuned(s, b, splits, n_warps, stream, err);
}

static adm_status launch_dense(const adm_gpu_shape *s, const adm_gpu_buffers *b, adm_gpu_stream stream, adm_error *err) {
    return adm_gpu_dense_tuned(s, b, n_blocks, stream, err);
}

static void must(adm_status status, const adm_error *err) {
    if (status == ADM_OK) return;
    fprintf(stderr, "bench_gpu_attention: %s\n", err->text);
    exit(adm_exit_code(status));
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* Random distinct tokens, by stepping through equal strata, for every set. */
static void select_tokens(adm_gpu_case *c, const adm_gpu_shape *s, uint32_t length, adm_rng *rng) {
    adm_error err = {0};
    size_t rows = (size_t)s->batch * s->heads.n_q_heads;
    uint32_t *index = malloc(rows * s->rule.budget * sizeof *index), *n = malloc(rows * sizeof *n);
    if (index == NULL || n == NULL) exit(4);
    for (uint32_t set = 0; set < adm_gpu_case_n_sets(c); set++) {
        for (size_t r = 0; r < rows; r++) {
            n[r] = s->rule.budget;
            uint32_t *row = index + r * s->rule.budget, stratum = length / s->rule.budget;
            for (uint32_t j = 0; j < s->rule.budget; j++) row[j] = j * stratum + (uint32_t)adm_rng_below(rng, stratum);
            qsort(row, s->rule.budget, sizeof *row, ascending);
        }
        const adm_gpu_buffers *b = adm_gpu_case_buffers(c, set);
        must(adm_gpu_write(b->index, index, rows * s->rule.budget * sizeof *index, &err), &err);
        must(adm_gpu_write(b->n_selected, n, rows * sizeof *n, &err), &err);
    }
    free(index);
    free(n);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void time_one(adm_gpu_case *c, const adm_gpu_impl *impl, const char *what, double bytes) {
    adm_error err = {0};
    adm_gpu_timing t;
    must(adm_gpu_time(c, &impl, 1, ADM_LAUNCH_GRAPH, 0.003, 300000000, &t, &err), &err);
    qsort(t.sample_ns, t.n_samples, sizeof *t.sample_ns, by_value);
    double ns = t.sample_ns[t.n_samples / 2];
    printf("%-64s %9.2f us  [%.2f, %.2f] n=%zu x %u  %8.1f GB/s  %5.1f%%\n", what, ns / 1e3, t.sample_ns[t.n_samples / 10] / 1e3,
           t.sample_ns[t.n_samples * 9 / 10] / 1e3, t.n_samples, t.n_calls, bytes / ns, 100 * bytes / ns * 1e9 / limit_bytes_per_s);
    fflush(stdout);
    adm_free(&t.sample_ns);
}

static adm_gpu_case *case_of(adm_gpu *gpu, adm_gpu_shape *s, uint32_t length) {
    adm_error err = {0};
    adm_gpu_case *c;
    uint32_t lengths[64];
    for (uint32_t b = 0; b < s->batch; b++) lengths[b] = length;
    must(adm_gpu_case_create(gpu, s, lengths, 1, true, &c, &err), &err);
    return c;
}

static adm_gpu_shape shape_of(uint32_t kv_heads, uint32_t batch, uint32_t length, uint32_t page_size, uint32_t budget) {
    adm_gpu_shape s = {.heads = {32, kv_heads, 128}, .dtype = ADM_F16, .batch = batch, .capacity = length,
                       .page_size = page_size, .max_pages = page_size ? (length + page_size - 1) / page_size : 0,
                       .rule = {.budget = budget, .n_recent = 1}, .threshold = {-10, 0, 10}, .scale = 0.08838835f};
    return s;
}

static void bench_attention(adm_gpu *gpu, uint32_t kv_heads, uint32_t batch, uint32_t length, uint32_t page_size, bool tune) {
    static const uint32_t budgets[] = {64, 256, 1024, 4096};
    adm_gpu_impl impl = adm_gpu_attention_impl;
    impl.launch = launch_attention;
    for (size_t i = 0; i < 4; i++) {
        adm_gpu_shape s = shape_of(kv_heads, batch, length, page_size, budgets[i]);
        adm_gpu_case *c = case_of(gpu, &s, length);
        adm_rng rng;
        adm_rng_seed(&rng, 7);
        select_tokens(c, &s, length, &rng);
        /* Every query head has its own tokens, so nothing is shared in a group. */
        double bytes = batch * 32.0 * budgets[i] * (2 * 256 + 4);
        char what[128];
        for (splits = 0; splits <= (tune ? 8 : 0); splits = splits ? splits * 2 : 1)
            for (n_warps = 0; n_warps <= (splits ? 16 : 0); n_warps = n_warps ? n_warps * 2 : splits ? 2 : 1) {
                if (splits != 0 && n_warps == 0) continue;
                snprintf(what, sizeof what, "attention budget %u, %u tokens, %u KV heads, batch %u, page %u (%u,%u)", budgets[i],
                         length, kv_heads, batch, page_size, splits, n_warps);
                time_one(c, &impl, what, bytes);
            }
        splits = n_warps = 0;
        adm_gpu_case_free(&c);
    }
}

static void bench_dense(adm_gpu *gpu, uint32_t kv_heads, uint32_t batch, uint32_t length, uint32_t page_size, bool tune) {
    adm_gpu_impl impl = adm_gpu_dense_impl;
    impl.launch = launch_dense;
    adm_gpu_shape s = shape_of(kv_heads, batch, length, page_size, 1);
    adm_gpu_case *c = case_of(gpu, &s, length);
    double bytes = batch * (2.0 * kv_heads * length * 256 + 2 * 32 * 256);
    for (unsigned a_sm = 0; a_sm <= (tune ? 4u : 0u); a_sm = a_sm ? a_sm * 2 : 2) {
        char what[128];
        n_blocks = a_sm * (unsigned)adm_gpu_device(gpu)->n_sms;
        snprintf(what, sizeof what, "dense %u tokens, %u KV heads, batch %u, page %u (%u)", length, kv_heads, batch, page_size, n_blocks);
        time_one(c, &impl, what, bytes);
    }
    n_blocks = 0;
    adm_gpu_case_free(&c);
}

int main(int argc, char **argv) {
    bool tune = argc > 1 && strcmp(argv[1], "tune") == 0;
    adm_error err = {0};
    adm_gpu *gpu;
    must(adm_gpu_open(0, &gpu, &err), &err);
    must(adm_bandwidth_read(0, &limit_bytes_per_s, &err), &err);
    printf("%s: read limit %.1f GB/s\n", adm_gpu_device(gpu)->name, limit_bytes_per_s / 1e9);
    bench_attention(gpu, 32, 1, 32768, 0, tune);
    bench_attention(gpu, 8, 1, 32768, 0, false);
    bench_attention(gpu, 32, 8, 32768, 0, tune);
    static const uint32_t kv_heads[] = {32, 8}, lengths[] = {8192, 32768, 131072};
    for (int h = 0; h < 2; h++)
        for (int l = 0; l < 3; l++) bench_dense(gpu, kv_heads[h], 1, lengths[l], 0, tune);
    bench_dense(gpu, 1, 1, 131072, 0, false);
    bench_dense(gpu, 32, 8, 32768, 0, tune);
    bench_dense(gpu, 8, 8, 32768, 16, false);
    bench_dense(gpu, 32, 1, 32768, 16, false);
    bench_dense(gpu, 32, 1, 32768, 1, false);
    adm_gpu_close(&gpu);
    return 0;
}
