/* profile_candidates.c: candidates over the grid of a profile; see profile_candidates.h. */
#include "kernels/tune/profile_candidates.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/mem.h"
#include "core/base/print.h"
#include "core/base/printable.h"
#include "kernels/tune/record.h"

/* What the candidates of one session came to in one configuration. */
typedef struct verdict {
    size_t session;
    adm_profile_case present; /* options.length is in it */
    adm_tune_options options;
    adm_tune_result *result; /* [n] of the session's GPU candidates */
    size_t n;
} verdict;

struct adm_profile_candidates {
    adm_tune_session *session; /* [n_sessions] */
    size_t n_sessions;
    verdict *verdict; /* [n_verdicts] */
    size_t n_verdicts, capacity;
    const adm_profile_options *o;
    adm_profile_candidates_ask ask;
};

enum { MAX_SESSIONS = 64 };
static const uint64_t limit_ns = 10000000000u; /* as tune's default */

void adm_profile_candidates_free(adm_profile_candidates **candidates) {
    adm_profile_candidates *p = *candidates;
    if (p == NULL) return;
    for (size_t i = 0; i < p->n_verdicts; i++) {
        for (size_t k = 0; k < p->verdict[i].n; k++) adm_tune_result_clear(&p->verdict[i].result[k]);
        adm_free(&p->verdict[i].result);
    }
    for (size_t i = 0; p->session != NULL && i < p->n_sessions; i++) adm_tune_session_close(&p->session[i]);
    adm_free(&p->session);
    adm_free(&p->verdict);
    adm_free(candidates);
}

/* --- Judging -------------------------------------------------------------------------------------------------------- */

static adm_tune_options options_of(const adm_profile_options *o, const adm_profile_case *c, uint32_t budget, bool stream,
                                   uint64_t seed) {
    return (adm_tune_options){.shape = {o->n_q_heads, c->n_kv_heads, o->head_dim},
                              .dtype = c->dtype,
                              .n_tokens = c->seq_len,
                              .rule = {budget, o->n_sinks, o->n_recent},
                              .seed = seed,
                              .limit_ns = limit_ns,
                              .cap_ns = o->cap_ns,
                              .target = o->target,
                              .check_only = o->check_only,
                              .should_stop = o->should_stop,
                              .batch = c->batch,
                              .length = c->length,
                              .batch_lens = o->n_batch_lens > 0 ? o->batch_lens_text : NULL,
                              .page_size = c->page_size,
                              .selection = o->selection,
                              .warm = !o->cold,
                              .stream = stream};
}

static adm_status grow(adm_profile_candidates *p, adm_error *err) {
    adm_status status = adm_grow(&p->verdict, p->n_verdicts, &p->capacity, sizeof *p->verdict, "verdicts", err);
    for (size_t i = 0; status == ADM_OK && i < p->n_verdicts; i++) /* they may have moved */
        p->verdict[i].options.length = p->verdict[i].present.length;
    return status;
}

/* One session in one configuration, in every launch mode. The small shapes are checked the first time. */
static adm_status judge_at(adm_profile_candidates *p, size_t session, size_t at, uint32_t budget, adm_error *err) {
    adm_tune_session *s = &p->session[session];
    adm_status status = ADM_OK;
    if (adm_profile_case_at(p->o, at).metric != ADM_METRIC_L1) return ADM_OK; /* the contract of a candidate */
    for (int mode = 0; mode < 2 && status == ADM_OK; mode++) {
        if (!p->o->launch[mode]) continue;
        status = grow(p, err);
        if (status != ADM_OK) return status;
        verdict *v = &p->verdict[p->n_verdicts];
        *v = (verdict){.session = session, .present = adm_profile_case_at(p->o, at), .n = s->list[1].n};
        v->options = options_of(p->o, &v->present, budget, mode == ADM_LAUNCH_STREAM, p->ask.seed);
        const bool has_checked = s->options.skips_small;
        s->options = v->options;
        s->options.skips_small = has_checked;
        status = adm_tune_session_judge(s, err);
        v->result = s->result[1];
        s->result[1] = NULL;
        p->n_verdicts++;
        s->options.skips_small = status == ADM_OK; /* one that was wrong, or was not looked at, is checked again */
        for (size_t i = 0; i < v->n && status == ADM_OK; i++) s->options.skips_small &= v->result[i].status == ADM_OK;
        if (status == ADM_OK && p->o->should_stop != NULL && p->o->should_stop())
            status = adm_fail(err, ADM_EINTERRUPTED, "interrupted while the candidates were judged");
    }
    return status;
}

static adm_status refuse_host(const adm_tune_session *s, adm_error *err) {
    if (s->list[0].n == 0) return ADM_OK;
    return adm_fail(err, ADM_EINPUT,
                    "--candidate: %s is for the host, and profile runs the GPU's stages; `adamas replay` and `adamas tune` "
                    "take it",
                    s->list[0].c[0].path);
}

static adm_status prepare(adm_profile_candidates *p, size_t session, adm_error *err) {
    adm_tune_session *s = &p->session[session];
    s->device = p->ask.device;
    s->quiet = p->ask.quiet;
    if (session > 0) { /* asked once */
        s->gpu = p->session[0].gpu;
        s->no_gpu = p->session[0].no_gpu;
        s->has_looked = p->session[0].has_looked;
    }
    const adm_status status = refuse_host(s, err);
    if (status != ADM_OK) return status;
    adm_tune_session_find_gpu(s);
    if (s->no_gpu.status != ADM_OK) return adm_fail(err, s->no_gpu.status, "%s", s->no_gpu.text);
    return adm_tune_session_prepare(s, err);
}

/* The budgets of a stage: one where it does not depend on it. */
static size_t n_budgets(const adm_profile_options *o, adm_stage stage) {
    return adm_profile_by_budget(stage) ? o->n_budgets : 1;
}

static uint32_t budget_at(const adm_profile_options *o, adm_stage stage, size_t i) {
    return adm_profile_by_budget(stage) ? o->budgets[i] : o->budgets[o->n_budgets - 1];
}

/* Whether no other shard judges it there: that is for the one with the first unit of this stage and budget. */
static adm_status is_ours(const adm_profile_options *o, size_t at, adm_stage stage, size_t budget, bool *ours, adm_error *err) {
    adm_profile_unit *units = NULL;
    size_t n = 0, u = 0;
    *ours = true;
    if (o->is_ours == NULL) return ADM_OK;
    adm_status status = adm_profile_units(o, adm_profile_case_at(o, at).metric, &units, &n, err);
    while (u < n &&
           (units[u].stage != stage || (adm_profile_by_budget(stage) && units[u].budget != budget_at(o, stage, budget))))
        u++;
    if (status == ADM_OK) *ours = o->is_ours[o->first_of_case[at] + (u < n ? u : 0)]; /* no unit: that with the first of all */
    adm_free(&units);
    return status;
}

static adm_status judge_brought(adm_profile_candidates *p, adm_error *err) {
    adm_status status = ADM_OK;
    const size_t n = p->n_sessions;
    for (size_t i = 0; i < n && status == ADM_OK; i++) status = prepare(p, i, err);
    for (size_t i = 0; i < n && status == ADM_OK; i++)
        for (size_t at = 0; at < adm_profile_n_cases(p->o) && status == ADM_OK; at++)
            for (size_t b = 0; b < n_budgets(p->o, p->session[i].stage) && status == ADM_OK; b++) {
                const adm_stage stage = p->session[i].stage;
                bool ours;
                status = is_ours(p->o, at, stage, b, &ours, err);
                if (status == ADM_OK && ours) status = judge_at(p, i, at, budget_at(p->o, stage, b), err);
            }
    return status;
}

/* --- Choices of tuning sessions ------------------------------------------------------------------------------------- */

/* What tune chose for a device, stage and shape. */
typedef struct choice {
    char path[PATH_MAX], hash[33], parameters[512], variant[640];
    int64_t run_id;
} choice;

static const char choice_sql[] =
    "SELECT ifnull(t.path, ''), ifnull(t.xxh128, ''), ifnull(t.parameters, ''), c.variant, t.run_id"
    " FROM tuned t JOIN config c USING (config_id) WHERE t.device = ? AND t.stage = ? AND c.n_q_heads = ? AND c.n_kv_heads = ?"
    " AND c.head_dim = ? AND c.dtype = ? AND c.batch = ? AND c.seq_len = ? AND ifnull(c.budget, 0) = ?"
    " AND ifnull(c.page_size, 0) = ? ORDER BY t.tuned_id DESC LIMIT 1";

static adm_status find_choice(const adm_profile_candidates *p, adm_store *store, const char *device, adm_stage stage,
                              const adm_profile_case *c, uint32_t budget, choice *out, bool *found, adm_error *err) {
    adm_query *q = NULL;
    adm_status status = adm_query_open(store, choice_sql, &q, err, "ssiiisiiii", device, adm_stage_name(stage),
                                       (int64_t)p->o->n_q_heads, (int64_t)c->n_kv_heads, (int64_t)p->o->head_dim,
                                       adm_dtype_name(c->dtype), (int64_t)c->batch, (int64_t)c->seq_len, (int64_t)budget,
                                       (int64_t)c->page_size);
    if (status == ADM_OK) status = adm_query_next(q, found, err);
    if (status == ADM_OK && *found) {
        snprintf(out->path, sizeof out->path, "%s", adm_query_text(q, 0));
        snprintf(out->hash, sizeof out->hash, "%s", adm_query_text(q, 1));
        snprintf(out->parameters, sizeof out->parameters, "%s", adm_query_text(q, 2));
        snprintf(out->variant, sizeof out->variant, "%s", adm_query_text(q, 3));
        out->run_id = adm_query_int(q, 4);
    }
    adm_query_close(&q);
    return status;
}

static void say(const adm_profile_candidates *p, adm_stage stage, const adm_profile_case *c, uint32_t budget,
                const char *what) {
    char shown[PATH_MAX];
    if (p->ask.quiet) return;
    adm_print_to(stderr, "tuned: %s, %u/%u heads, %u tokens", adm_stage_name(stage), p->o->n_q_heads, c->n_kv_heads,
                 c->seq_len);
    if (adm_profile_by_budget(stage)) adm_print_to(stderr, ", budget %u", budget);
    adm_print_to(stderr, ": %s\n", adm_printable(what, shown, sizeof shown));
}

/* Each "NAME=N" of "A=1,B=2". */
static adm_status set_parameters(adm_tune_session *s, const char *parameters, adm_error *err) {
    adm_status status = ADM_OK;
    for (const char *at = parameters; *at != '\0' && status == ADM_OK;) {
        char one[128];
        const size_t length = strcspn(at, ",");
        snprintf(one, sizeof one, "%.*s", (int)length, at);
        status = adm_tune_session_set(s, one, err);
        at += length + (at[length] == ',');
    }
    return status;
}

/* Of a shared object's implementations the one that was chosen. */
static void keep_one(adm_tune_list *list, const char *variant) {
    size_t kept = 0;
    for (size_t i = 0; i < list->n; i++) {
        const size_t length = strlen(list->c[i].name);
        if (strncmp(list->c[i].name, variant, length) != 0 || (variant[length] != ' ' && variant[length] != '\0')) continue;
        list->c[kept++] = list->c[i];
    }
    list->n = kept;
}

/* The session of a choice: made the first time that it is met. */
static adm_status session_of(adm_profile_candidates *p, adm_stage stage, const choice *ch, size_t *session, adm_error *err) {
    char parameters[512];
    for (*session = 0; *session < p->n_sessions; (*session)++) {
        const adm_tune_session *s = &p->session[*session];
        if (s->stage != stage || s->list[1].n != 1 || strcmp(s->list[1].c[0].path, ch->path) != 0) continue;
        adm_tune_list same = s->list[1];
        keep_one(&same, ch->variant);
        adm_candidate_parameters(&s->list[1].c[0], parameters, sizeof parameters);
        if (same.n == 1 && strcmp(parameters, ch->parameters) == 0) return ADM_OK;
    }
    if (p->n_sessions == MAX_SESSIONS) return adm_fail(err, ADM_EINPUT, "--tuned: more than %d candidates", MAX_SESSIONS);
    adm_tune_session *s = &p->session[p->n_sessions];
    *s = (adm_tune_session){.stage = stage, .no_search = true, .options.limit_ns = limit_ns};
    adm_status status = ch->path[0] != '\0' ? adm_tune_session_add(s, ch->path, err)
                                            : adm_tune_add_ways(&s->list[1], stage, NULL, err);
    if (status == ADM_OK) keep_one(&s->list[1], ch->variant);
    if (status == ADM_OK && s->list[0].n + s->list[1].n == 0)
        status = adm_fail(err, ADM_EINPUT, "it no longer has '%s'", ch->variant);
    if (status == ADM_OK) status = set_parameters(s, ch->parameters, err);
    if (status == ADM_OK && s->list[1].n == 1 && strcmp(s->list[1].c[0].hash, ch->hash) != 0)
        adm_candidate_refuse(&s->list[1].c[0], ADM_EUNSUPPORTED, "%s has changed since it was tuned: tune it again", ch->path);
    if (status == ADM_OK) status = prepare(p, p->n_sessions, err);
    p->n_sessions++; /* closed with the others, whatever became of it */
    return status;
}

static adm_status use_choice(adm_profile_candidates *p, adm_store *store, const char *device, adm_stage stage, size_t at,
                             uint32_t budget, adm_error *err) {
    char words[PATH_MAX + 1200];
    choice ch;
    bool found = false;
    size_t session;
    adm_error why = {0};
    const adm_profile_case c = adm_profile_case_at(p->o, at);
    if (c.metric != ADM_METRIC_L1) return ADM_OK;
    adm_status status = find_choice(p, store, device, stage, &c, adm_profile_by_budget(stage) ? budget : 0, &ch, &found, err);
    if (status != ADM_OK) return status;
    if (!found) {
        say(p, stage, &c, budget, "nothing is stored for this device and shape");
        return ADM_OK;
    }
    if (ch.path[0] == '\0' && ch.parameters[0] == '\0') {
        snprintf(words, sizeof words, "the registry's '%s' is the fastest", ch.variant);
        say(p, stage, &c, budget, words);
        return ADM_OK;
    }
    status = session_of(p, stage, &ch, &session, &why);
    if (status == ADM_EINPUT) { /* the file is gone, or is no longer a candidate */
        snprintf(words, sizeof words, "%s of run %lld cannot be used: %s", ch.path[0] != '\0' ? ch.path : ch.variant,
                 (long long)ch.run_id, why.text);
        say(p, stage, &c, budget, words);
        return ADM_OK;
    }
    if (status != ADM_OK) return adm_fail(err, status, "%s", why.text);
    const bool is_file = ch.path[0] != '\0'; /* a row's variant has the parameters in it */
    snprintf(words, sizeof words, "%s%s%s, run %lld", is_file ? ch.path : ch.variant,
             is_file && ch.parameters[0] != '\0' ? " " : "", is_file ? ch.parameters : "", (long long)ch.run_id);
    say(p, stage, &c, budget, words);
    return judge_at(p, session, at, budget, err);
}

static adm_status judge_tuned(adm_profile_candidates *p, adm_error *err) {
    adm_store *store = NULL;
    adm_device_info gpu;
    adm_status status = adm_tune_find_device(p->ask.device, &gpu, err);
    if (status == ADM_OK && access(p->ask.tuned_db, F_OK) != 0)
        status = adm_fail(err, ADM_EINPUT, "--tuned: the database %s is not there; `adamas tune` makes one", p->ask.tuned_db);
    if (status == ADM_OK) status = adm_store_open(p->ask.tuned_db, ADM_STORE_READ, &store, err);
    for (int stage = 0; stage < ADM_N_STAGES; stage++)
        for (size_t at = 0; p->o->stage[stage] && at < adm_profile_n_cases(p->o); at++)
            for (size_t b = 0; b < n_budgets(p->o, (adm_stage)stage) && status == ADM_OK; b++)
                status = use_choice(p, store, gpu.name, (adm_stage)stage, at, budget_at(p->o, (adm_stage)stage, b), err);
    adm_store_close(&store);
    return status;
}

static bool asks_for_none(const adm_profile_candidates_ask *ask) {
    return ask->bring->n_files == 0 && ask->bring->n_set == 0 && ask->tuned_db == NULL;
}

/* What candidates cannot be judged beside. */
static adm_status check_setting(const adm_profile_options *o, adm_error *err) {
    bool has_l1 = false;
    if (o->n_sessions > 0)
        return adm_fail(err, ADM_EINPUT, "--candidate and --tuned judge on random inputs: leave out --trace");
    for (size_t i = 0; i < o->n_metrics; i++) has_l1 |= o->metrics[i] == ADM_METRIC_L1;
    if (!has_l1) return adm_fail(err, ADM_EINPUT, "--candidate and --tuned judge by the metric l1: name it in --metric, too");
    if (o->n_metrics != 1 || o->metrics[0] != ADM_METRIC_L1)
        return adm_fail(err, ADM_EINPUT, "--candidate and --tuned compare codes by l1: leave out --metric");
    return ADM_OK;
}

static void print_session(const adm_tune_session *s, json_t *rows) {
    char shown[PATH_MAX];
    for (size_t i = 0; i < s->list[1].n; i++) {
        const adm_candidate *c = &s->list[1].c[i];
        const char *path = adm_printable(c->path, shown, sizeof shown);
        if (rows == NULL) adm_print("  %-10s %-14s %s\n", adm_stage_name(s->stage), c->name, path);
        else
            json_array_append_new(
                rows, json_pack("{s:s, s:s, s:s}", "stage", adm_stage_name(s->stage), "variant", c->name, "file", path));
    }
}

adm_status adm_profile_candidates_plan(const adm_profile_candidates_ask *ask, const adm_profile_options *o, json_t *document,
                                       adm_error *err) {
    const adm_tune_options options = {.limit_ns = limit_ns};
    adm_tune_session *sessions = NULL;
    size_t n = 0;
    if (asks_for_none(ask)) return ADM_OK;
    json_t *rows = document != NULL ? json_array() : NULL;
    adm_status status = check_setting(o, err);
    if (status == ADM_OK) status = adm_bring_sessions(ask->bring, &options, &sessions, &n, err);
    for (size_t i = 0; i < n && status == ADM_OK; i++) status = refuse_host(&sessions[i], err);
    if (status == ADM_OK && rows == NULL && n > 0) adm_print("candidates, judged in each configuration:\n");
    for (size_t i = 0; i < n && status == ADM_OK; i++) print_session(&sessions[i], rows);
    for (size_t i = 0; i < n; i++) adm_tune_session_close(&sessions[i]);
    adm_free(&sessions);
    if (document != NULL) json_object_set_new(document, "candidates", rows);
    return status;
}

adm_status adm_profile_candidates_judge(const adm_profile_candidates_ask *ask, const adm_profile_options *o,
                                        adm_profile_candidates **out, adm_error *err) {
    adm_tune_session *brought = NULL;
    size_t n = 0;
    *out = NULL;
    if (asks_for_none(ask)) return ADM_OK;
    const adm_tune_options options = {.limit_ns = limit_ns};
    adm_status status = check_setting(o, err);
    if (status == ADM_OK) status = adm_alloc(out, 1, sizeof **out, "candidates of a profile", err);
    if (status != ADM_OK) return status;
    adm_profile_candidates *p = *out;
    p->o = o;
    p->ask = *ask;
    status = adm_alloc(&p->session, MAX_SESSIONS, sizeof *p->session, "sessions of candidates", err);
    if (status == ADM_OK) status = adm_bring_sessions(ask->bring, &options, &brought, &n, err);
    for (size_t i = 0; i < n; i++) p->session[p->n_sessions++] = brought[i];
    adm_free(&brought);
    if (status == ADM_OK) status = judge_brought(p, err);
    return status == ADM_OK && ask->tuned_db != NULL ? judge_tuned(p, err) : status;
}

/* --- Recording ------------------------------------------------------------------------------------------------------ */

adm_status adm_profile_candidates_record(adm_profile_candidates *p, adm_store *store, int64_t run_id, adm_profile_tally *units,
                                         adm_tune_tally *tally, adm_error *err) {
    adm_status status = ADM_OK;
    adm_tune_record record = {.store = store, .run_id = run_id};
    for (size_t i = 0; p != NULL && i < p->n_verdicts; i++) {
        const verdict *v = &p->verdict[i];
        const adm_tune_session *s = &p->session[v->session];
        record.options = &v->options;
        record.device = s->gpu.name;
        for (size_t k = 0; k < v->n && v->result != NULL && status == ADM_OK; k++) {
            const adm_status own = v->result[k].status;
            status = adm_tune_record_put(&record, &s->list[1].c[k], &v->result[k], err);
            adm_tune_tally_add(tally, &s->list[1].c[k], &v->result[k]);
            if (own == ADM_OK) units->n_right++;
            else if (own == ADM_EUNSUPPORTED) units->n_skipped++;
            else units->n_failed++;
        }
    }
    return status;
}
