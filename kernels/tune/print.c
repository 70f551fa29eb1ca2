/* print.c: the tables of `adamas tune`. */
#include "kernels/tune/print.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "core/base/minmax.h"
#include "core/base/print.h"
#include "core/base/printable.h"
#include "kernels/tune/record.h"

static const char *verdict_word(const adm_tune_result *r) {
    switch (r->status) {
    case ADM_OK: return "right";
    case ADM_EINTERNAL: return "WRONG";
    case ADM_EUNSUPPORTED:
    case ADM_EINTERRUPTED: return "skipped";
    default: return "invalid";
    }
}

static bool is_timed(const adm_tune_result *r) { return r->status == ADM_OK && r->n > 0; }

/* The candidate with the parameters it was run with. */
static void full_name(const adm_candidate *c, char *out, size_t bytes) {
    char parameters[256];
    adm_candidate_parameters(c, parameters, sizeof parameters);
    snprintf(out, bytes, "%s%s%s", c->name, parameters[0] != '\0' ? " " : "", parameters);
}

static const adm_tune_resources *resources_of(const adm_candidate *c, const adm_tune_result *r) {
    return r->resources.registers >= 0 ? &r->resources : &c->resources;
}

static void print_resources(const adm_tune_resources *s) {
    if (s->registers < 0) return;
    adm_print("  %d registers", s->registers);
    if (s->static_shared_bytes >= 0)
        adm_print(", %d bytes of shared memory",
                  s->static_shared_bytes + (s->dynamic_shared_bytes > 0 ? s->dynamic_shared_bytes : 0));
    if (s->spill_bytes > 0) adm_print(", %d bytes of local memory", s->spill_bytes);
    if (s->threads > 0) adm_print(", %d x %d threads", s->blocks, s->threads);
    if (s->n_launches > 1) adm_print(" in %d launches", s->n_launches);
    if (s->occupancy > 0)
        adm_print(", occupancy %.0f%%%s%s", s->occupancy * 100, s->limiter[0] != '\0' ? ", limited by " : "", s->limiter);
}

static void print_setting(const adm_tune_options *o, adm_stage stage, const char *device) {
    adm_print("%s on %s: %u query heads, %u KV heads, d = %u, %s, %u tokens", adm_stage_name(stage), device, o->shape.n_q_heads,
              o->shape.n_kv_heads, o->shape.head_dim, adm_dtype_name(o->dtype), o->n_tokens);
    if (o->batch > 1) adm_print(", batch %u", o->batch);
    if (stage == ADM_STAGE_TOPK || stage == ADM_STAGE_ATTENTION || stage == ADM_STAGE_STEP)
        adm_print(", budget %u", o->rule.budget);
    adm_print("; one layer of one decode step\n");
}

static const adm_tune_counter *counter(const adm_tune_counted *counted, const char *name) {
    for (size_t i = 0; i < counted->n; i++)
        if (strcmp(counted->counter[i].name, name) == 0 && counted->counter[i].reason[0] == '\0') return &counted->counter[i];
    return NULL;
}

void adm_tune_print_counters(const adm_tune_counted *counted) {
    static const struct {
        const char *name, *words;
        double factor;
        const char *unit;
    } shown[] = {
        {"achieved_occupancy_ratio", "warps", 100, "%"},
        {"smsp__issue_active.avg.pct_of_peak_sustained_active", "issue", 1, "%"},
        {"dram_read_model_ratio", "DRAM reads", 1, "x the model"},
        {"l2_read_model_ratio", "L2 reads", 1, "x the model"},
        {"stall_long_scoreboard_share", "waits: memory", 100, "%"},
        {"stall_short_scoreboard_share", "shared memory", 100, "%"},
        {"stall_barrier_share", "barriers", 100, "%"},
        {"stall_wait_share", "fixed latency", 100, "%"},
        {"stall_math_pipe_throttle_share", "arithmetic", 100, "%"},
    };
    bool any = false;
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
        const adm_tune_counter *c = counter(counted, shown[i].name);
        if (c == NULL) continue;
        adm_print(shown[i].factor > 1 || shown[i].unit[0] == '%' ? "%s%s %.0f%s" : "%s%s %.2f%s",
                  any ? ", " : "    counters: ", shown[i].words, c->value * shown[i].factor, shown[i].unit);
        any = true;
    }
    if (any) adm_print("\n");
    else
        adm_print("    not counted: %s\n",
                  counted->reason[0] != '\0' ? counted->reason : "the set has none that is shown here");
}

void adm_tune_print_table(const adm_tune_options *o, adm_stage stage, const char *device, const adm_candidate *c,
                          const adm_tune_result *r, size_t n, size_t default_index) {
    size_t width = 9;
    char name[512];
    for (size_t i = 0; i < n; i++) {
        full_name(&c[i], name, sizeof name);
        width = strlen(name) > width ? strlen(name) : width;
    }
    width = adm_min(width, 60);
    print_setting(o, stage, device);
    adm_print("\n%-*s  %-7s %10s %7s %8s %9s\n", (int)width, "candidate", "verdict", "median us", "+- %", "of floor", "gain");
    for (size_t i = 0; i < n; i++) {
        full_name(&c[i], name, sizeof name);
        adm_print("%-*s  %-7s", (int)width, name, verdict_word(&r[i]));
        if (is_timed(&r[i])) {
            adm_print(" %10.2f %7.1f", r[i].median_ns * 1e-3, r[i].ci_ratio * 100);
            if (r[i].floor_ns > 0) adm_print(" %7.0f%%", r[i].floor_ns / r[i].median_ns * 100);
            else adm_print("        -");
            if (i == default_index) adm_print("   default");
            else if (default_index < n && is_timed(&r[default_index]))
                adm_print(" %+8.1f%%", (r[default_index].median_ns / r[i].median_ns - 1) * 100);
        }
        print_resources(resources_of(&c[i], &r[i]));
        if (r[i].is_disturbed) adm_print("  core was shared");
        adm_print("\n");
        const bool is_same = i > 0 && r[i - 1].status == r[i].status && strcmp(r[i - 1].reason, r[i].reason) == 0;
        if (r[i].status != ADM_OK) adm_print("    %s\n", is_same ? "the same" : r[i].reason);
        else if (r[i].counted != NULL) adm_tune_print_counters(r[i].counted);
    }
}

/* --- JSON ----------------------------------------------------------------------------------------------------------- */

static json_t *figure(double value, bool known) { return known ? json_real(value) : json_null(); }
static json_t *count(int value) { return value >= 0 ? json_integer(value) : json_null(); }

/* Every counter's value, null where it has a reason; null where nothing was asked for. */
static json_t *counters_as_json(const adm_tune_counted *counted) {
    json_t *values = counted != NULL ? json_object() : json_null();
    for (size_t i = 0; counted != NULL && i < counted->n; i++)
        json_object_set_new(values, counted->counter[i].name,
                            figure(counted->counter[i].value, counted->counter[i].reason[0] == '\0'));
    return values;
}

void adm_tune_json_rows(json_t *rows, const adm_candidate *c, const adm_tune_result *r, size_t n, size_t default_index) {
    static const char *const kinds[] = {"row", "source", "shared", "module"};
    for (size_t i = 0; i < n; i++) {
        const bool timed = is_timed(&r[i]), has_gain = timed && default_index < n && is_timed(&r[default_index]);
        const adm_tune_resources *s = resources_of(&c[i], &r[i]);
        char parameters[512], path[PATH_MAX];
        adm_candidate_parameters(&c[i], parameters, sizeof parameters);
        json_array_append_new(
            rows,
            json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:s, s:o}",
                      "name", c[i].name, "kind", kinds[c[i].kind], "source", c[i].on_gpu ? "gpu" : "host", "path",
                      adm_printable(c[i].path, path, sizeof path), "parameters", parameters, "verdict",
                      r[i].status == ADM_EINTERNAL ? "wrong" : verdict_word(&r[i]), "reason",
                      r[i].status == ADM_OK ? "" : r[i].reason, "median_ns", figure(r[i].median_ns, timed), "median_ci_ratio",
                      figure(r[i].ci_ratio, timed), "floor_ns", figure(r[i].floor_ns, timed && r[i].floor_ns > 0), "gain_ratio",
                      figure(has_gain ? r[default_index].median_ns / r[i].median_ns - 1 : 0, has_gain), "n", (json_int_t)r[i].n,
                      "n_disturbed", (json_int_t)r[i].n_disturbed, "registers", count(s->registers), "static_shared_bytes",
                      count(s->static_shared_bytes), "dynamic_shared_bytes", count(s->dynamic_shared_bytes), "spill_bytes",
                      count(s->spill_bytes), "occupancy_ratio", figure(s->occupancy, s->occupancy > 0), "limiter", s->limiter,
                      "counters", counters_as_json(r[i].counted)));
    }
}

/* --- Choices -------------------------------------------------------------------------------------------------------- */

static const char tuned_sql[] =
    "SELECT t.device, t.stage, c.n_q_heads, c.n_kv_heads, c.head_dim, c.dtype, c.batch, c.seq_len, ifnull(c.budget, 0), "
    "c.variant, ifnull(t.path, ''), ifnull(t.parameters, ''), t.median_ns, t.default_ns, t.run_id, max(t.tuned_id)"
    " FROM tuned t JOIN config c USING (config_id)"
    " GROUP BY t.device, t.stage, c.n_q_heads, c.n_kv_heads, c.head_dim, c.dtype, c.batch, c.seq_len, c.budget, c.page_size"
    " ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9";

static void print_choice(const adm_query *q) {
    char path[PATH_MAX], parameters[512];
    adm_print("%-24.24s %-10s %3" PRId64 "/%-3" PRId64 " %3" PRId64 " %-4s %5" PRId64 " %8" PRId64 " %7" PRId64 " %10.2f",
              adm_query_text(q, 0), adm_query_text(q, 1), adm_query_int(q, 2), adm_query_int(q, 3), adm_query_int(q, 4),
              adm_query_text(q, 5), adm_query_int(q, 6), adm_query_int(q, 7), adm_query_int(q, 8),
              adm_query_double(q, 12) * 1e-3);
    if (adm_query_is_null(q, 13)) adm_print("         -");
    else adm_print(" %+8.1f%%", (adm_query_double(q, 13) / adm_query_double(q, 12) - 1) * 100);
    const bool is_row = adm_query_text(q, 10)[0] == '\0'; /* its variant has the parameters in it */
    snprintf(parameters, sizeof parameters, "%s", is_row ? "" : adm_query_text(q, 11));
    adm_print("  %s%s%s", is_row ? adm_query_text(q, 9) : adm_printable(adm_query_text(q, 10), path, sizeof path),
              parameters[0] != '\0' ? " " : "", parameters);
    adm_print("\n");
}

static json_t *choice_as_json(const adm_query *q) {
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:s, s:I, s:I, s:I, s:s, s:s, s:s, s:f, s:o, s:I}", "device",
                     adm_query_text(q, 0), "stage", adm_query_text(q, 1), "q_heads", (json_int_t)adm_query_int(q, 2),
                     "kv_heads", (json_int_t)adm_query_int(q, 3), "head_dim", (json_int_t)adm_query_int(q, 4), "dtype",
                     adm_query_text(q, 5), "batch", (json_int_t)adm_query_int(q, 6), "seq_len", (json_int_t)adm_query_int(q, 7),
                     "budget", (json_int_t)adm_query_int(q, 8), "variant", adm_query_text(q, 9), "path", adm_query_text(q, 10),
                     "parameters", adm_query_text(q, 11), "median_ns", adm_query_double(q, 12), "default_ns",
                     figure(adm_query_double(q, 13), !adm_query_is_null(q, 13)), "run_id", (json_int_t)adm_query_int(q, 14));
}

adm_status adm_tune_print_tuned(adm_store *store, const adm_common *common, adm_error *err) {
    adm_query *query = NULL;
    bool row = false, any = false;
    json_t *rows = json_array();
    adm_status status = adm_query_open(store, tuned_sql, &query, err, "");
    for (; status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row; any = true) {
        if (common->json) json_array_append_new(rows, choice_as_json(query));
        else if (!any)
            adm_print("%-24s %-10s %7s %3s %-4s %5s %8s %7s %10s %9s  choice\n", "device", "stage", "heads", "d", "type",
                      "batch", "tokens", "budget", "median us", "gain");
        if (!common->json) print_choice(query);
    }
    adm_query_close(&query);
    if (status == ADM_OK && common->json) return adm_print_json(json_pack("{s:o}", "tuned", rows), err);
    json_decref(rows);
    if (status == ADM_OK && !any) adm_print("nothing is tuned yet: adamas tune --stage STAGE CANDIDATE...\n");
    return status == ADM_OK ? adm_finish_output(err) : status;
}
