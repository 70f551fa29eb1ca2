/* cases.c: a pool of simulations. */
#include "analysis/serving/cases.h"

#include "core/system/threads.h"

typedef struct work {
    const adm_setup *setup;
    adm_case *cases;
    bool (*should_stop)(void);
} work;

static adm_status run_case(const adm_setup *s, adm_case *c, bool (*should_stop)(void), adm_error *err) {
    const double kv = adm_model_kv_bytes(s->model), codes = adm_model_code_bytes(s->model, c->plan.n_sparse);
    c->token_bytes = kv + codes;
    c->kv_share = kv / c->token_bytes;
    c->cache_bytes = s->cost->device.memory_bytes * s->memory_share - adm_model_weight_bytes(s->model) - s->workspace_bytes;
    adm_engine engine = s->engine;
    engine.contiguous = c->contiguous;
    engine.cache_bytes = c->cache_bytes;
    engine.token_bytes = c->token_bytes;
    const adm_step_options options = {.model = s->model,
                                      .plan = &c->plan,
                                      .variant = s->variant,
                                      .page_size = c->contiguous ? 0 : engine.page_tokens,
                                      .compute_share = s->compute_share,
                                      .overhead_ns = s->overhead_ns};
    adm_status status = adm_step_time_create(s->cost, &options, &c->time, err);
    if (status == ADM_OK) status = adm_simulate(s->requests, &engine, c->time, should_stop, &c->simulation, err);
    if (status == ADM_OK) status = adm_outcome_of(s->requests, &c->simulation, &s->target, c->kv_share, &c->outcome, err);
    return status;
}

static void run_task(void *user, size_t task, size_t worker) {
    const work *w = user;
    adm_case *c = &w->cases[task];
    (void)worker;
    c->status = run_case(w->setup, c, w->should_stop, &c->err);
    if (w->setup->on_case != NULL) w->setup->on_case(w->setup->user);
}

adm_status adm_cases_run(const adm_setup *setup, adm_case *cases, size_t n, size_t n_threads, bool (*should_stop)(void),
                         adm_error *err) {
    adm_pool *pool = NULL;
    work w = {setup, cases, should_stop};
    if (!(setup->cost->device.memory_bytes > 0))
        return adm_fail(err, ADM_EINPUT, "the memory of '%s' is not known; give it with --gpu memory=X",
                        setup->cost->device.name);
    adm_status status = adm_pool_create(n_threads < n ? n_threads : n, &pool, err);
    if (status == ADM_OK && !adm_pool_run(pool, n, run_task, &w, should_stop))
        status = adm_fail(err, ADM_EINTERRUPTED, "the simulation was interrupted");
    adm_pool_free(&pool);
    for (size_t i = 0; i < n && status == ADM_OK; i++)
        if (cases[i].status != ADM_OK) status = adm_fail(err, cases[i].status, "%s", cases[i].err.text);
    return status;
}

void adm_cases_free(adm_case *cases, size_t n) {
    for (size_t i = 0; i < n; i++) {
        adm_step_time_free(&cases[i].time);
        adm_simulation_free(&cases[i].simulation);
    }
}
