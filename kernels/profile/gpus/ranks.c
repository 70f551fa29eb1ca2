/* ranks.c: a thread per GPU, all in step. */
#include "kernels/profile/gpus/ranks.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/stats/stats.h"
#include "core/system/clock.h"
#include "kernels/gpu_work.h"
#include "kernels/profile/check.h"
#include "kernels/profile/grid/metrics.h"
#include "kernels/profile/gpus/ranks_record.h"
#include "kernels/step/sharded/rank.h"

enum { MIN_SAMPLES = 20, MAX_SAMPLES = 1000, MAX_CALLS = 2000, LINK_BYTES = 64 << 20 };
static const double sample_ns_wanted = 2e6; /* ranks that begin a microsecond apart do not show in it */

/* What the threads of one number of ranks share. */
typedef struct team {
    const adm_profile_options *o;
    int n;
    pthread_barrier_t barrier;
    adm_nccl nccl;
    adm_nccl_id id;
    adm_status status[ADM_MAX_RANKS];
    adm_error err[ADM_MAX_RANKS];
    double sample[ADM_MAX_RANKS];
    uint32_t n_calls;
    bool goes_on;
    adm_status fatal;        /* what ended it, with fatal_err; by rank 0 */
    adm_error fatal_err;
    adm_ranks_record record; /* rank 0 writes */
    adm_profile_tally *tally;
} team;

typedef struct member {
    team *team;
    int rank;
    adm_gpu *gpu;
    adm_rank *link;
    adm_profile_options o; /* with this rank's heads and seed */
    uint32_t kv_heads[64];
    double *samples;       /* [MAX_SAMPLES] of the slowest rank; and of this one behind them */
    adm_status worst;      /* the first failure of the last agree(), with its words */
    adm_error worst_err;
} member;

/* Waits for all, and tells whether every one of them succeeded. */
static bool agree(member *m, adm_status status) {
    team *t = m->team;
    t->status[m->rank] = status;
    pthread_barrier_wait(&t->barrier);
    m->worst = ADM_OK;
    for (int r = t->n; r-- > 0;)
        if (t->status[r] != ADM_OK) {
            m->worst = t->status[r];
            m->worst_err = t->err[r];
        }
    pthread_barrier_wait(&t->barrier);
    return m->worst == ADM_OK;
}

/* --- Timing ------------------------------------------------------------------------------------------------------- */

/* Half the 95% interval of the median over the median, of sorted values. */
static double uncertainty(const double *sorted, size_t n) {
    const double half = 0.98 * sqrt((double)n);
    const size_t low = (size_t)fmax(0, floor((double)n / 2 - half)),
                 high = (size_t)fmin((double)n - 1, ceil((double)n / 2 + half));
    return (sorted[high] - sorted[low]) / 2 / sorted[n / 2];
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static bool is_sure(const adm_profile_options *o, const double *samples, size_t n, uint64_t start_ns) {
    double sorted[MAX_SAMPLES];
    if (n < MIN_SAMPLES) return false;
    if (n == MAX_SAMPLES || adm_clock_ns() - start_ns > o->cap_ns) return true;
    memcpy(sorted, samples, n * sizeof *sorted);
    adm_sort(sorted, n, sizeof *sorted, ascending);
    return uncertainty(sorted, n) <= o->target;
}

/* Samples of the graph at hand by all ranks at once; of each the slowest rank counts. out: rank 0's, with every rank's median.
 * */
static adm_status sample_all(member *m, adm_rank_times *out) {
    team *t = m->team;
    double *own = m->samples + MAX_SAMPLES;
    const uint64_t start_ns = adm_clock_ns();
    size_t n = 0;
    adm_status status = ADM_OK;
    double warm_up;
    for (int i = 0; i < 3; i++) { /* every rank launches as often as the others, whatever happens: NCCL waits for all */
        const adm_status one = adm_rank_sample(m->link, &warm_up, &t->err[m->rank]);
        if (status == ADM_OK) status = one;
    }
    if (!agree(m, status)) return ADM_EENVIRONMENT;
    for (bool goes_on = true; goes_on;) {
        status = adm_rank_sample(m->link, &t->sample[m->rank], &t->err[m->rank]);
        own[n] = t->sample[m->rank];
        if (!agree(m, status)) return ADM_EENVIRONMENT;
        if (m->rank == 0) {
            double slowest = 0;
            for (int r = 0; r < t->n; r++) slowest = fmax(slowest, t->sample[r]);
            m->samples[n] = slowest;
            t->goes_on = !is_sure(t->o, m->samples, n + 1, start_ns);
        }
        n++;
        pthread_barrier_wait(&t->barrier);
        goes_on = t->goes_on;
    }
    t->sample[m->rank] = adm_distribution_of(own, n).median;
    pthread_barrier_wait(&t->barrier);
    if (m->rank == 0) {
        *out = (adm_rank_times){.sample_ns = m->samples, .n = n, .fastest_ns = t->sample[0], .slowest_ns = t->sample[0]};
        for (int r = 1; r < t->n; r++) {
            out->fastest_ns = fmin(out->fastest_ns, t->sample[r]);
            out->slowest_ns = fmax(out->slowest_ns, t->sample[r]);
        }
    }
    pthread_barrier_wait(&t->barrier);
    return ADM_OK;
}

/* A graph of as many calls as make a sample of the wanted length, the same number on every rank. */
static adm_status capture(member *m, adm_gpu_case *c, const adm_profile_unit *unit, adm_rank_work work, size_t n_elements) {
    team *t = m->team;
    const adm_gpu_impl *const *impls = unit != NULL ? unit->impl : NULL;
    const size_t n_impls = unit != NULL ? unit->n_impls : 0;
    const uint32_t n_sets = c != NULL ? adm_gpu_case_plan(c)->n_sets : 1, first = n_sets > 8 ? n_sets : 8;
    double ns = 1;
    adm_status status = adm_rank_capture(m->link, c, impls, n_impls, work, n_elements, first < MAX_CALLS ? first : MAX_CALLS,
                                         &t->err[m->rank]);
    if (!agree(m, status)) return ADM_EENVIRONMENT;
    for (int i = 0; i < 2; i++) {
        const adm_status one = adm_rank_sample(m->link, &ns, &t->err[m->rank]);
        if (status == ADM_OK) status = one;
    }
    if (!agree(m, status)) return ADM_EENVIRONMENT;
    if (m->rank == 0) {
        const double calls = fmin(fmax(sample_ns_wanted / ns, 1), MAX_CALLS / (n_impls > 0 ? (double)n_impls : 1));
        t->n_calls = (uint32_t)fmax(1, floor(calls / n_sets)) * n_sets;
    }
    pthread_barrier_wait(&t->barrier);
    status = adm_rank_capture(m->link, c, impls, n_impls, work, n_elements, t->n_calls, &t->err[m->rank]);
    return agree(m, status) ? ADM_OK : ADM_EENVIRONMENT;
}

static adm_status time_work(member *m, adm_gpu_case *c, const adm_profile_unit *unit, adm_rank_work work, size_t n_elements,
                            adm_rank_times *out) {
    adm_status status = capture(m, c, unit, work, n_elements);
    return status == ADM_OK ? sample_all(m, out) : status;
}

/* --- The grid ----------------------------------------------------------------------------------------------------- */

/* Elements of the message: the output projection's partial sums, as wide as all heads together. */
static size_t message(const team *t, const adm_profile_case *c) { return (size_t)c->batch * t->o->n_q_heads * t->o->head_dim; }

/* Rank 0 writes; the others wait for how it went. */
static bool put(member *m, adm_status status, adm_error *err) {
    if (m->rank == 0 && status != ADM_OK) m->team->err[0] = *err;
    return agree(m, m->rank == 0 ? status : ADM_OK);
}

/* Checks a unit on every rank; then step, and step with all-reduce. What cannot run is a row that says why. False: the store
 * failed, or a context is gone. */
static bool run_unit(member *m, adm_gpu_case *c, adm_profile_reference *reference, const adm_profile_case *whole,
                     const adm_profile_unit *unit) {
    team *t = m->team;
    adm_rank_times times;
    adm_error err = {0};
    adm_select_rule rule = adm_gpu_case_shape(c, 0).rule;
    if (unit->budget > 0) rule.budget = unit->budget;
    adm_gpu_case_set_rule(c, &rule);
    adm_status status = adm_profile_check(m->gpu, c, reference, unit, &t->err[m->rank]);
    if (!agree(m, status)) {
        if (m->rank == 0) {
            if (m->worst == ADM_EUNSUPPORTED) t->tally->n_skipped++;
            else t->tally->n_failed++;
            status = adm_ranks_put_reason(&t->record, whole, unit, t->n, m->worst, m->worst_err.text, &err);
        }
        return put(m, status, &err) && agree(m, adm_gpu_alive(m->gpu) ? ADM_OK : ADM_EENVIRONMENT);
    }
    if (time_work(m, c, unit, ADM_RANK_STEP, 0, &times) != ADM_OK) return false;
    status = m->rank == 0 ? adm_ranks_put_step(&t->record, whole, unit, t->n, &times, &err) : ADM_OK;
    if (!put(m, status, &err)) return false;
    if (t->n > 1 && time_work(m, c, unit, ADM_RANK_BOTH, message(t, whole), &times) != ADM_OK) return false;
    status = m->rank == 0 ? adm_ranks_put_total(&t->record, whole, unit, t->n, &times, &err) : ADM_OK;
    if (m->rank == 0) t->tally->n_right++;
    return put(m, status, &err);
}

static bool run_case(member *m, const adm_profile_case *whole, size_t i) {
    team *t = m->team;
    const adm_profile_case own = adm_profile_case_at(&m->o, i);
    const adm_gpu_shape shape = adm_profile_shape(&m->o, &own);
    adm_gpu_inputs inputs = adm_profile_inputs(&m->o, &own);
    adm_profile_unit *units = NULL;
    size_t n_units = 0;
    float *channels = NULL;
    adm_gpu_case *c = NULL;
    adm_profile_reference *reference = NULL;
    adm_rank_times times;
    adm_error err = {0};
    adm_error *own_err = &t->err[m->rank];
    adm_status status = adm_profile_units(&m->o, own.metric, &units, &n_units, own_err);
    if (status == ADM_OK && own.metric == ADM_METRIC_ASYM4)
        status = adm_profile_channels_random(&shape, &inputs, &channels, own_err);
    if (channels != NULL) inputs.channels = channels;
    if (status == ADM_OK) status = adm_gpu_case_create(m->gpu, &shape, &inputs, m->o.cold, &c, own_err);
    if (status == ADM_OK) status = adm_profile_reference_create(&shape, &inputs, 0, NULL, &reference, &t->err[m->rank]);
    bool goes_on = agree(m, status);
    /* What no metric changes comes with the first. */
    if (goes_on && t->n > 1 && own.metric == m->o.metrics[0]) {
        goes_on = time_work(m, NULL, NULL, ADM_RANK_REDUCE, message(t, whole), &times) == ADM_OK;
        if (goes_on) {
            status = m->rank == 0 ? adm_ranks_put_reduce(&t->record, whole, t->n, message(t, whole), &times, &err) : ADM_OK;
            goes_on = put(m, status, &err);
        }
    }
    for (size_t u = 0; goes_on && u < n_units; u++) goes_on = run_unit(m, c, reference, whole, &units[u]);
    adm_profile_reference_free(&reference);
    adm_gpu_case_free(&c);
    adm_free(&channels);
    adm_free(&units);
    return goes_on;
}

/* The all-reduce is right, and how fast the link is. */
static bool look_at_link(member *m) {
    team *t = m->team;
    adm_rank_times times;
    adm_error err = {0};
    const size_t n = LINK_BYTES / 2;
    if (t->n == 1) return true;
    if (!agree(m, adm_rank_check(m->link, n, &t->err[m->rank]))) return false;
    if (time_work(m, NULL, NULL, ADM_RANK_REDUCE, n, &times) != ADM_OK) return false;
    return put(m, m->rank == 0 ? adm_ranks_put_link(&t->record, t->n, n, &times, &err) : ADM_OK, &err);
}

/* This rank's heads. False where they cannot be shared so. */
static bool take_heads(member *m) {
    const adm_profile_options *o = m->team->o;
    const uint32_t n = (uint32_t)m->team->n;
    m->o = *o;
    m->o.n_q_heads = o->n_q_heads / n;
    m->o.seed = o->seed + (uint64_t)m->rank;
    m->o.kv_heads = m->kv_heads;
    bool fits = o->n_q_heads % n == 0 && o->n_kv_heads <= 64;
    for (size_t i = 0; fits && i < o->n_kv_heads; i++) {
        fits = o->kv_heads[i] % n == 0;
        m->kv_heads[i] = o->kv_heads[i] / n;
    }
    for (int s = 0; s < ADM_N_STAGES; s++) m->o.stage[s] &= s == ADM_STAGE_STEP || s == ADM_STAGE_DENSE;
    return fits;
}

static void *run_rank(void *user) {
    member *m = user;
    team *t = m->team;
    adm_status status = adm_gpu_open(m->rank, &m->gpu, &t->err[m->rank]);
    if (status == ADM_OK && !take_heads(m))
        status = adm_fail(&t->err[m->rank], ADM_EINPUT, "--ranks %d: query and KV heads must be multiples of it", t->n);
    if (status == ADM_OK) status = adm_alloc(&m->samples, 2 * MAX_SAMPLES, sizeof *m->samples, "samples", &t->err[m->rank]);
    bool goes_on = agree(m, status);
    if (goes_on) {
        size_t max_bytes = LINK_BYTES / 2;
        for (size_t i = 0; i < adm_profile_n_cases(t->o); i++) {
            const adm_profile_case c = adm_profile_case_at(t->o, i);
            if (message(t, &c) > max_bytes) max_bytes = message(t, &c);
        }
        status = adm_rank_open(m->gpu, &t->nccl, &t->id, m->rank, t->n, max_bytes, &m->link, &t->err[m->rank]);
        goes_on = agree(m, status);
    }
    goes_on = goes_on && look_at_link(m);
    for (size_t i = 0; goes_on && i < adm_profile_n_cases(t->o); i++) {
        const adm_profile_case whole = adm_profile_case_at(t->o, i);
        const bool stops = m->rank == 0 && t->o->should_stop != NULL && t->o->should_stop();
        if (stops) adm_fail(&t->err[0], ADM_EINTERRUPTED, "interrupted at %u tokens, %d ranks", whole.seq_len, t->n);
        goes_on = agree(m, stops ? ADM_EINTERRUPTED : ADM_OK) && run_case(m, &whole, i);
    }
    if (!goes_on && m->rank == 0) {
        t->fatal = m->worst;
        t->fatal_err = m->worst_err;
    }
    adm_rank_close(&m->link);
    adm_free(&m->samples);
    adm_gpu_close(&m->gpu);
    return NULL;
}

/* One number of ranks. A thread that cannot begin would leave the others waiting, so that threads are made before any runs. */
static adm_status run_team(team *t, adm_error *err) {
    member members[ADM_MAX_RANKS] = {0};
    pthread_t thread[ADM_MAX_RANKS];
    adm_status status = ADM_OK;
    if (t->n > 1) status = adm_nccl_open(&t->nccl, err);
    if (status == ADM_OK && t->n > 1)
        status = adm_nccl_status(&t->nccl, t->nccl.get_unique_id(&t->id), "naming the group of ranks", err);
    if (status != ADM_OK) return status;
    pthread_barrier_init(&t->barrier, NULL, (unsigned)t->n);
    for (int r = 0; r < t->n; r++) members[r] = (member){.team = t, .rank = r};
    for (int r = 1; r < t->n; r++)
        if (pthread_create(&thread[r], NULL, run_rank, &members[r]) != 0) abort(); /* those before it wait for ever */
    run_rank(&members[0]);
    for (int r = 1; r < t->n; r++) pthread_join(thread[r], NULL);
    pthread_barrier_destroy(&t->barrier);
    adm_nccl_close(&t->nccl);
    if (t->fatal != ADM_OK && err != NULL) *err = t->fatal_err;
    return t->fatal;
}

adm_status adm_profile_ranks_run(const adm_profile_options *o, const uint32_t *ranks, size_t n_ranks, adm_store *store,
                                 int64_t run_id, adm_profile_tally *tally, adm_error *err) {
    adm_device_info list[ADM_MAX_RANKS];
    int n_devices = 0;
    adm_status status = adm_device_list(list, ADM_MAX_RANKS, &n_devices, err);
    if (status == ADM_OK && (int)ranks[n_ranks - 1] > n_devices)
        status = adm_fail(err, ADM_EUNSUPPORTED, "--ranks %u: this host shows %d GPUs", ranks[n_ranks - 1], n_devices);
    for (size_t i = 0; status == ADM_OK && i < n_ranks; i++) {
        team *t = NULL;
        status = adm_alloc(&t, 1, sizeof *t, "ranks", err);
        if (status != ADM_OK) break;
        t->o = o;
        t->n = (int)ranks[i];
        t->tally = tally;
        t->record = (adm_ranks_record){.o = o, .store = store, .run_id = run_id};
        status = run_team(t, err);
        adm_free(&t);
    }
    return status;
}
