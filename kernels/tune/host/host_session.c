/* host_session.c: judges host implementations; see host_session.h. */
#include "kernels/tune/host/host_session.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "core/system/clock.h"
#include "core/system/contention.h"
#include "core/system/cpu.h"
#include "core/base/mem.h"
#include "core/stats/stats.h"
#include "kernels/registry.h"
#include "kernels/tune/candidate/child.h"
#include "kernels/tune/candidate/plugin.h"

/* Of our own rows see the registry; somebody's own may sum in float32: 64 terms of rounding error 2^-24 a step, and as much
 * again for the exponential, stay below 2^-14 of the norm with room to spare, while one wrong token does not. */
static const double own_tolerance = 0x1p-14;
enum { CHECK_ROUNDS = 3, MIN_SAMPLES = 20, MAX_SAMPLES = 4000 };
static const uint64_t child_memory_bytes = 2ull << 30;
static const unsigned char poison[] = {0xff, 0xa5, 0x00};

/* --- The candidate's process ---------------------------------------------------------------------------------------- */

enum { CASE_CHECK, CASE_TIMED };
enum { DO_RUN, DO_TIME };

typedef struct request {
    uint32_t what, which; /* DO_, CASE_ */
    uint32_t first, n; /* calls */
} request;

typedef struct reply {
    adm_status status;
    double ns, loop_ns;
    double wait_cpu_ns; /* what our own thread used before and after the calls: it may wait for the core to be free */
    bool alone;
    char text[768];
} reply;

/* One candidate under judgement. */
typedef struct defendant {
    const adm_candidate *c;
    adm_tune_result *result;
    adm_host_case *kase[2];
    adm_arena out[2]; /* of this candidate */
    adm_child child;
    double tolerance;
    bool is_done; /* sampled enough */
    double idle_cpu_ns; /* median processor time of a request that runs no call */
    double *cpu_ns; /* [n + n_disturbed] of the samples, in the order taken; of which */
    size_t n_cpu;
    uint64_t spent_ns;
} defendant;

/* So that the timed run finds its inputs in the caches, whoever wrote them. */
static void touch(const adm_arena *arena) {
    volatile unsigned char sum = 0;
    for (size_t i = 0; i < arena->n; i++) {
        const unsigned char *bytes = adm_arena_at(arena, i);
        for (size_t at = 0; at < arena->buffer[i].bytes; at += 64) sum = (unsigned char)(sum + bytes[at]);
    }
}

static double thread_cpu_ns(void) {
    struct timespec t;
    return clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) == 0 ? (double)t.tv_sec * 1e9 + (double)t.tv_nsec : 0;
}

static reply time_calls(defendant *d, adm_contention *contention, adm_any_fn fn, const request *r) {
    reply answer = {.status = ADM_OK};
    const adm_host_case *kase = d->kase[r->which];
    const double cpu_before = thread_cpu_ns();
    touch(&kase->in);
    touch(&d->out[r->which]);
    contention->may_wait_ns = 2000000;
    adm_contention_wait(contention);
    answer.alone = adm_contention_none(contention);
    answer.loop_ns = (double)contention->last_ns;
    const double cpu_start = thread_cpu_ns();
    const uint64_t start_ns = adm_clock_ns();
    for (uint32_t i = r->first; i < r->first + r->n; i++) adm_host_call_run(kase, &d->out[r->which], i, fn);
    answer.ns = (double)(adm_clock_ns() - start_ns);
    const double cpu_end = thread_cpu_ns();
    answer.alone &= adm_contention_none(contention);
    if ((double)contention->last_ns > answer.loop_ns) answer.loop_ns = (double)contention->last_ns;
    answer.wait_cpu_ns = cpu_start - cpu_before + (thread_cpu_ns() - cpu_end);
    return answer;
}

static bool takes(const defendant *d, const adm_host_call *call) {
    return adm_tune_takes(&d->c->limits, call->head_dim, call->dtype) || call->stage == ADM_STAGE_BUCKET;
}

static int serve(void *user, int socket, adm_child_page *page) {
    defendant *d = user;
    adm_contention contention = {0};
    adm_error err = {0};
    adm_plugin_loaded loaded = {0};
    reply answer = {.status = ADM_OK};
    request r;
    for (int k = 0; k < 2 && answer.status == ADM_OK; k++) {
        answer.status = adm_arena_remap(&d->kase[k]->in, false, &err);
        if (answer.status == ADM_OK) answer.status = adm_arena_remap(&d->out[k], true, &err);
        page->arena[k] = (uintptr_t)d->kase[k]->in.base;
    }
    adm_child_close_others(socket);
    adm_any_fn fn = d->c->host_row != NULL ? (adm_any_fn)d->c->host_row->fn.hadamard : NULL;
    if (answer.status == ADM_OK && fn == NULL) {
        answer.status = adm_plugin_load(d->c, &loaded, &err);
        fn = loaded.run;
    }
    snprintf(answer.text, sizeof answer.text, "%s", err.text);
    if (!adm_child_answer(socket, &answer, sizeof answer) || answer.status != ADM_OK) return 1;
    while (adm_child_receive(socket, &r, sizeof r)) {
        answer = (reply){.status = ADM_OK};
        page->at_case = r.which;
        page->arena[2] = (uintptr_t)d->out[r.which].base;
        if (r.what == DO_TIME) {
            page->at_call = r.first;
            if (contention.fastest_ns == 0) adm_contention_start(&contention);
            answer = time_calls(d, &contention, fn, &r);
        }
        for (uint32_t i = r.first; r.what == DO_RUN && i < r.first + r.n; i++) {
            page->at_call = i;
            if (takes(d, &d->kase[r.which]->call[i])) adm_host_call_run(d->kase[r.which], &d->out[r.which], i, fn);
        }
        if (!adm_child_answer(socket, &answer, sizeof answer)) return 1;
    }
    return 0;
}

/* --- The judge's side ----------------------------------------------------------------------------------------------- */

static void refuse(defendant *d, adm_status status, const char *format, ...) ADM_PRINTF(3, 4);
static void refuse(defendant *d, adm_status status, const char *format, ...) {
    va_list list;
    if (d->result->status != ADM_OK) return;
    va_start(list, format);
    vsnprintf(d->result->reason, sizeof d->result->reason, format, list);
    va_end(list);
    d->result->status = status;
    adm_child_end(&d->child);
}

static bool is_live(const defendant *d) { return d->result->status == ADM_OK; }

/* Where a fault lies, if it is near a buffer of the call that ran. */
static bool fault_words(const defendant *d, char *out, size_t bytes) {
    const adm_child_page *page = d->child.page;
    const uint32_t which = page->at_case;
    size_t buffer;
    long long distance;
    if (page->signal == 0 || which > 1) return false;
    for (int is_output = 0; is_output < 2; is_output++) {
        const adm_arena *arena = is_output ? &d->out[which] : &d->kase[which]->in;
        const uintptr_t base = is_output ? page->arena[2] : page->arena[which];
        if (base == 0 || page->address < base || !adm_arena_locate(arena, page->address - base, &buffer, &distance)) continue;
        const char *name = adm_host_buffer_name(d->kase[which], is_output, buffer);
        if (distance == 0 && !is_output) snprintf(out, bytes, "wrote into its input `%s`", name);
        else if (distance == 0) snprintf(out, bytes, "touched `%s` in a way that the processor refuses: misaligned?", name);
        else if (distance > 0) snprintf(out, bytes, "touched byte %lld behind the end of `%s`", distance, name);
        else snprintf(out, bytes, "touched byte %lld in front of `%s`", -distance, name);
        return true;
    }
    return false;
}

/* Asks; a defendant that does not answer is out. */
static bool ask(defendant *d, const request *r, reply *answer) {
    adm_error why = {0};
    char words[200], at[128] = "";
    const adm_status status = adm_child_ask(&d->child, r, r != NULL ? sizeof *r : 0, answer, sizeof *answer, &why);
    if (status == ADM_OK && answer->status == ADM_OK) return true;
    if (status == ADM_OK) {
        refuse(d, answer->status, "%s", answer->text);
        return false;
    }
    if (r != NULL && d->child.page->at_case < 2)
        adm_host_call_words(d->kase[d->child.page->at_case], d->child.page->at_call, at, sizeof at);
    if (r == NULL) refuse(d, ADM_EINPUT, "while it was loaded it %s", why.text);
    else if (fault_words(d, words, sizeof words)) refuse(d, ADM_EINTERNAL, "%s: %s", at, words);
    else refuse(d, ADM_EINTERNAL, "%s: %s", at, why.text);
    return false;
}

/* Compares calls of one case, and looks for what was written beside buffers. */
static void verify(defendant *d, uint32_t which, size_t first, size_t n) {
    adm_error why = {0};
    size_t buffer;
    bool behind;
    for (size_t i = first; i < first + n && is_live(d); i++) {
        if (!takes(d, &d->kase[which]->call[i])) continue;
        const adm_status status = adm_host_call_verify(d->kase[which], &d->out[which], i, d->tolerance, &why);
        if (status != ADM_OK) refuse(d, status, "%s", why.text);
    }
    if (is_live(d) && adm_arena_find_damage(&d->out[which], &buffer, &behind))
        refuse(d, ADM_EINTERNAL, "wrote %s `%s`", behind ? "behind the end of" : "in front of",
               adm_host_buffer_name(d->kase[which], true, buffer));
    if (is_live(d) && adm_child_n_tasks(&d->child) > 1)
        refuse(d, ADM_EINTERNAL,
               "left a thread or process running after it returned; a host stage runs in its caller's thread");
}

static void run_and_verify(defendant *d, uint32_t which, int round) {
    const request r = {DO_RUN, which, 0, (uint32_t)d->kase[which]->n_calls};
    reply answer;
    if (!is_live(d)) return;
    adm_arena_poison(&d->out[which], poison[round % 3]);
    if (ask(d, &r, &answer)) verify(d, which, 0, d->kase[which]->n_calls);
}

static void begin(defendant *d, const adm_tune_options *o) {
    adm_error why = {0};
    reply answer;
    for (int k = 0; k < 2; k++) {
        adm_status status = adm_arena_clone(&d->kase[k]->out, &d->out[k], &why);
        if (status != ADM_OK) refuse(d, status, "%s", why.text);
    }
    if (!is_live(d)) return;
    adm_status status = adm_child_start(serve, d, o->limit_ns, child_memory_bytes, &d->child, &why);
    if (status != ADM_OK) refuse(d, status, "%s", why.text);
    else ask(d, NULL, &answer);
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts in place. */
static double median(double *values, size_t n) {
    adm_sort(values, n, sizeof *values, ascending);
    return n > 0 ? adm_quantile_sorted(values, n, 0.5) : 0;
}

/* --- Timing --------------------------------------------------------------------------------------------------------- */

/* Processor time of a request, without what our own part of the child says it used while no call ran. It cannot claim more
 * than the time that was left for that. */
static double cpu_of_calls(uint64_t used_ns, uint64_t took_ns, const reply *answer) {
    const double max_ns = fmax(0, (double)took_ns - answer->ns);
    return fmax(0, (double)used_ns - fmin(fmax(0, answer->wait_cpu_ns), max_ns));
}

static void summarise(defendant *d) {
    adm_error why;
    const adm_status status = adm_tune_result_summarise(d->result, &why);
    if (status != ADM_OK) refuse(d, status, "%s", why.text);
}

static void keep_sample(defendant *d, const reply *answer, const adm_tune_options *o) {
    adm_tune_result *r = d->result;
    d->spent_ns += (uint64_t)answer->ns;
    const double ns = answer->ns / d->kase[CASE_TIMED]->n_sets;
    if (!answer->alone && r->n_disturbed < MAX_SAMPLES) r->sample_ns[2 * MAX_SAMPLES - ++r->n_disturbed] = ns;
    else if (answer->alone && r->n < MAX_SAMPLES) r->sample_ns[r->n++] = ns;
    const size_t enough = o->max_samples > 0 ? o->max_samples : MIN_SAMPLES;
    if (r->n >= enough) {
        summarise(d);
        d->is_done = o->max_samples > 0 || r->ci_ratio <= o->target || r->n == MAX_SAMPLES;
    }
}

/* One step of one candidate on the present inputs. */
static void sample(defendant *d, const adm_tune_options *o) {
    const request r = {DO_TIME, CASE_TIMED, 0, (uint32_t)d->kase[CASE_TIMED]->n_calls};
    reply answer;
    adm_arena_poison(&d->out[CASE_TIMED], poison[d->result->n % 3]);
    const uint64_t before = adm_child_cpu_ns(&d->child), start = adm_clock_ns();
    if (!ask(d, &r, &answer)) return;
    const uint64_t took = adm_clock_ns() - start, used = adm_child_cpu_ns(&d->child) - before;
    verify(d, CASE_TIMED, 0, d->kase[CASE_TIMED]->n_calls);
    if (!is_live(d)) return;
    if (!(answer.ns > 0) || answer.ns > (double)took) {
        refuse(d, ADM_EINTERNAL, "reports %.3g us for a step that took %.3g us by the judge's clock", answer.ns * 1e-3,
               (double)took * 1e-3);
        return;
    }
    if (d->n_cpu < 2 * MAX_SAMPLES) d->cpu_ns[d->n_cpu++] = cpu_of_calls(used, took, &answer);
    keep_sample(d, &answer, o);
}

/* What a sample costs beside its calls: waking up, touching the buffers, the loop that finds a shared core. */
static void measure_idle(defendant *d) {
    const request r = {DO_TIME, CASE_TIMED, 0, 0};
    double cpu[5];
    reply answer;
    for (int i = -1; i < 5; i++) { /* the first finds out how fast the loop is */
        const uint64_t before = adm_child_cpu_ns(&d->child), start = adm_clock_ns();
        if (!is_live(d) || !ask(d, &r, &answer)) return;
        const uint64_t took = adm_clock_ns() - start;
        if (i >= 0) cpu[i] = cpu_of_calls(adm_child_cpu_ns(&d->child) - before, took, &answer);
    }
    d->idle_cpu_ns = median(cpu, 5);
}

static bool someone_samples(const defendant *d, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (is_live(&d[i]) && !d[i].is_done) return true;
    return false;
}

static void time_all(defendant *d, size_t n, adm_host_case *kase, uint64_t seed, const adm_tune_options *o) {
    const uint64_t start = adm_clock_ns();
    for (uint64_t round = 1; someone_samples(d, n); round++) {
        const uint64_t now = adm_clock_ns() - start;
        if (o->should_stop != NULL && o->should_stop()) return;
        if (now > o->cap_ns * (n + 1) / 2) return;
        if (o->progress != NULL) o->progress(o->progress_user, now, o->cap_ns * (n + 1) / 2);
        adm_host_case_fill(kase, seed + round, true);
        for (size_t i = 0; i < n; i++) {
            defendant *next = &d[(i + round) % n];
            if (is_live(next) && !next->is_done) sample(next, o);
            if (is_live(next) && next->spent_ns > o->cap_ns && next->result->n > 2) next->is_done = true;
        }
    }
}

/* --- The verdict on times ------------------------------------------------------------------------------------------- */

static inline __attribute__((always_inline)) uint64_t sum_of(const uint64_t *words, size_t n) {
    uint64_t sum[32] = {0}, all = 0;
    for (size_t i = 0; i + 32 <= n; i += 32)
        for (size_t k = 0; k < 32; k++) sum[k] += words[i + k];
    for (size_t k = 0; k < 32; k++) all += sum[k];
    return all;
}

static uint64_t sum_plain(const uint64_t *words, size_t n) { return sum_of(words, n); }
#if defined(__x86_64__)
ADM_AVX2 static uint64_t sum_wide(const uint64_t *words, size_t n) { return sum_of(words, n); }
#endif

/* Bytes per second at which this core reads a buffer of that size that it has just read: no stage can be faster than that over
 * its compulsory bytes. */
static double read_limit(size_t bytes) {
    uint64_t *buffer = NULL;
    const size_t n = bytes / sizeof *buffer < 4096 ? 4096 : bytes / sizeof *buffer;
    double best = 0;
    volatile uint64_t sink = 0;
    uint64_t (*sum)(const uint64_t *, size_t) = sum_plain;
#if defined(__x86_64__)
    if (adm_cpu_has_avx2()) sum = sum_wide;
#endif
    if (adm_alloc(&buffer, n, sizeof *buffer, "a bandwidth buffer", NULL) != ADM_OK) return 0;
    for (int pass = 0; pass < 12; pass++) {
        const uint64_t start = adm_clock_ns();
        sink += sum(buffer, n);
        const double took = (double)(adm_clock_ns() - start);
        if (took > 0 && (double)(n * sizeof *buffer) / took * 1e9 > best) best = (double)(n * sizeof *buffer) / took * 1e9;
    }
    adm_free(&buffer);
    return best;
}

static double floor_of(const adm_tune_options *o, adm_stage stage) {
    const double n_selected = fmin(o->rule.budget, o->n_tokens);
    const adm_work_case work = {.shape = o->shape,
                                .dtype = o->dtype,
                                .n_tokens = o->n_tokens,
                                .n_selected = n_selected,
                                .n_distinct = n_selected}; /* at least */
    const double bytes = adm_stage_work(stage, &work).bytes, limit = read_limit((size_t)bytes);
    return limit > 0 ? bytes / limit * 1e9 : 0;
}

/* On a machine that is hardly ever quiet the disturbed samples count too, and the result says so. */
static void keep_disturbed(adm_tune_result *r) {
    r->is_disturbed = r->n < MIN_SAMPLES && r->n_disturbed > r->n;
    for (size_t i = 0; r->is_disturbed && i < r->n_disturbed && r->n < MAX_SAMPLES; i++)
        r->sample_ns[r->n++] = r->sample_ns[2 * MAX_SAMPLES - 1 - i];
}

static void judge_time(defendant *d, double floor_ns) {
    adm_tune_result *r = d->result;
    keep_disturbed(r);
    if (r->n == 0) {
        refuse(d, ADM_EINTERRUPTED, "not timed: the session was stopped");
        return;
    }
    summarise(d);
    r->floor_ns = floor_ns;
    if (r->median_ns < 0.5 * floor_ns)
        refuse(d, ADM_EINTERNAL,
               "takes %.3g us where reading its inputs once takes %.3g: impossible, it cannot have done the work",
               r->median_ns * 1e-3, floor_ns * 1e-3);
    const double cpu_ns = median(d->cpu_ns, d->n_cpu), claimed_ns = r->median_ns * d->kase[CASE_TIMED]->n_sets;
    if (cpu_ns > 1.6 * claimed_ns + 2 * d->idle_cpu_ns + 100e3)
        refuse(d, ADM_EINTERNAL,
               "used %.3g us of processor time for steps that took %.3g: work in another thread, or a false clock",
               cpu_ns * 1e-3, claimed_ns * 1e-3);
}

void adm_tune_result_clear(adm_tune_result *r) {
    adm_free(&r->sample_ns);
    adm_free(&r->counted);
}

adm_status adm_tune_result_summarise(adm_tune_result *r, adm_error *err) {
    double *sorted = NULL;
    if (r->n == 0) return ADM_OK;
    adm_status status = adm_alloc(&sorted, r->n, sizeof *sorted, "samples", err);
    if (status != ADM_OK) return status;
    memcpy(sorted, r->sample_ns, r->n * sizeof *sorted);
    adm_sort(sorted, r->n, sizeof *sorted, ascending);
    const double half = 0.98 * sqrt((double)r->n), middle = (double)r->n / 2; /* 95% by order statistics */
    const size_t low = (size_t)fmax(0, floor(middle - half)), high = (size_t)fmin((double)r->n - 1, ceil(middle + half));
    r->median_ns = adm_quantile_sorted(sorted, r->n, 0.5);
    r->p10_ns = adm_quantile_sorted(sorted, r->n, 0.1);
    r->p90_ns = adm_quantile_sorted(sorted, r->n, 0.9);
    r->ci_ratio = (sorted[high] - sorted[low]) / 2 / r->median_ns;
    adm_free(&sorted);
    return ADM_OK;
}

/* --- The session ---------------------------------------------------------------------------------------------------- */

uint64_t adm_tune_draw_seed(void) {
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed) seed = adm_clock_ns() * 0x9e3779b97f4a7c15u;
    return (seed >> 1) | 1; /* fits the database, and is not 0 */
}

static adm_host_config config_of(const adm_tune_options *o, const adm_candidate *c, size_t n) {
    adm_host_config config = {.stage = c[0].stage,
                              .shape = o->shape,
                              .dtype = o->dtype,
                              .n_tokens = o->n_tokens,
                              .rule = o->rule,
                              .source = o->source,
                              .scale = o->scale};
    for (size_t i = 0; i < n; i++) {
        config.head_dims |= c[i].limits.head_dims;
        config.dtypes |= c[i].limits.dtypes;
    }
    return config;
}

/* A row or candidate that does not take the timed configuration is skipped. */
static void check_limits(defendant *d, const adm_tune_options *o) {
    const adm_tune_limits *limits = &d->c->limits;
    if (!(limits->head_dims & o->shape.head_dim)) refuse(d, ADM_EUNSUPPORTED, "does not take head_dim %u", o->shape.head_dim);
    if (!(limits->dtypes >> o->dtype & 1)) refuse(d, ADM_EUNSUPPORTED, "does not take %s", adm_dtype_name(o->dtype));
    if (limits->max_tokens > 0 && o->n_tokens > limits->max_tokens)
        refuse(d, ADM_EUNSUPPORTED, "takes up to %u tokens", limits->max_tokens);
    if (d->c->host_row != NULL && !adm_host_impl_available(d->c->host_row))
        refuse(d, ADM_EUNSUPPORTED, "needs instructions that this processor lacks");
}

static adm_status hold(const adm_tune_options *o, defendant *d, size_t n, adm_host_case kase[2], uint64_t *seed) {
    for (size_t i = 0; i < n; i++)
        if (is_live(&d[i])) begin(&d[i], o);
    *seed = o->seed != 0 ? o->seed : adm_tune_draw_seed();
    for (int round = 0; round < CHECK_ROUNDS && !o->skips_small; round++) {
        adm_host_case_fill(&kase[CASE_CHECK], *seed + (uint64_t)round, false);
        for (size_t i = 0; i < n; i++) run_and_verify(&d[i], CASE_CHECK, round);
    }
    adm_host_case_fill(&kase[CASE_TIMED], *seed + CHECK_ROUNDS, false);
    for (size_t i = 0; i < n; i++) run_and_verify(&d[i], CASE_TIMED, 0);
    if (o->check_only) return ADM_OK;
    for (size_t i = 0; i < n; i++) measure_idle(&d[i]);
    time_all(d, n, &kase[CASE_TIMED], *seed + CHECK_ROUNDS, o);
    const double floor_ns = floor_of(o, d[0].c->stage);
    for (size_t i = 0; i < n; i++)
        if (is_live(&d[i])) judge_time(&d[i], floor_ns);
    return ADM_OK;
}

adm_status adm_host_session_run(const adm_tune_options *o, const adm_candidate *c, size_t n, adm_tune_result *results,
                                uint64_t *seed, adm_error *err) {
    adm_host_case kase[2] = {{.in.fd = -1, .out.fd = -1}, {.in.fd = -1, .out.fd = -1}};
    defendant *d = NULL;
    const adm_host_config config = config_of(o, c, n);
    adm_status status = adm_alloc(&d, n, sizeof *d, "candidates", err);
    for (int k = 0; k < 2 && status == ADM_OK; k++) status = adm_host_case_create(&config, k == CASE_TIMED, &kase[k], err);
    for (size_t i = 0; i < n && status == ADM_OK; i++) {
        results[i] = (adm_tune_result){.status = c[i].status, .resources = ADM_TUNE_NO_RESOURCES};
        memcpy(results[i].reason, c[i].reason, sizeof results[i].reason);
        d[i] = (defendant){.c = &c[i],
                           .result = &results[i],
                           .kase = {&kase[0], &kase[1]},
                           .child = {.pid = -1, .socket = -1, .log = -1},
                           .tolerance = c[i].host_row != NULL ? c[i].host_row->tolerance : own_tolerance};
        status = adm_alloc(&results[i].sample_ns, 2 * MAX_SAMPLES, sizeof(double), "samples", err);
        if (status == ADM_OK) status = adm_alloc(&d[i].cpu_ns, 2 * MAX_SAMPLES, sizeof(double), "samples", err);
        if (status == ADM_OK) check_limits(&d[i], o);
    }
    if (status == ADM_OK) status = hold(o, d, n, kase, seed);
    for (size_t i = 0; d != NULL && i < n; i++) {
        adm_child_end(&d[i].child);
        adm_free(&d[i].cpu_ns);
        for (int k = 0; k < 2; k++) adm_arena_close(&d[i].out[k]);
    }
    for (int k = 0; k < 2; k++) adm_host_case_close(&kase[k]);
    adm_free(&d);
    return status;
}

adm_status adm_host_row_check(const adm_host_impl *row, const adm_host_config *config, uint64_t seed, adm_error *err) {
    adm_host_case c;
    adm_status status = adm_host_case_create(config, false, &c, err);
    if (status == ADM_OK) {
        adm_host_case_fill(&c, seed, false);
        adm_arena_poison(&c.out, 0xff);
        for (size_t i = 0; i < c.n_calls; i++) adm_host_call_run(&c, &c.out, i, (adm_any_fn)row->fn.hadamard);
        for (size_t i = 0; i < c.n_calls && status == ADM_OK; i++)
            status = adm_host_call_verify(&c, &c.out, i, row->tolerance, err);
    }
    adm_host_case_close(&c);
    return status;
}
