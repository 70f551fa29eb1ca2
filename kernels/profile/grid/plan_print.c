/* plan_print.c: the plan of a GPU profile, as text or JSON; see plan_print.h. */
#include "kernels/profile/grid/plan_print.h"

#include <inttypes.h>
#include <jansson.h>

#include "core/base/mem.h"
#include "core/base/print.h"
#include "core/policy/coding.h"

/* As it is unless the user says otherwise. */
static bool compares_by_l1(const adm_profile_options *o) { return o->n_metrics == 1 && o->metrics[0] == ADM_METRIC_L1; }

void adm_profile_print_setting(const adm_profile_options *o, const adm_trace *trace) {
    adm_print("%u query heads, d = %u, %s L2, selection per %s; ", o->n_q_heads, o->head_dim, o->cold ? "cold" : "warm",
              adm_selection_name(o->selection));
    for (size_t i = 0; i < o->n_metrics && !compares_by_l1(o); i++)
        adm_print("%s %s%s", i > 0 ? "," : "codes compared by", adm_code_metric_name(o->metrics[i]),
                  i + 1 == o->n_metrics ? "; " : "");
    if (trace != NULL) adm_print("inputs: %s trace %s, %s\n", trace->kind, trace->path, trace->xxh128);
    else adm_print("inputs: random, seed %" PRIu64 "\n", o->seed);
    if (o->n_batch_lens > 0) adm_print("lengths in the batch: %s\n", o->batch_lens_text);
}

json_t *adm_profile_setting_as_json(const adm_profile_options *o, const adm_trace *trace) {
    json_t *inputs = trace == NULL
                         ? json_pack("{s:s, s:I}", "kind", "random", "seed", (json_int_t)o->seed)
                         : json_pack("{s:s, s:s, s:s}", "kind", trace->kind, "trace", trace->name, "xxh128", trace->xxh128);
    json_t *metrics = json_array();
    for (size_t i = 0; i < o->n_metrics; i++) json_array_append_new(metrics, json_string(adm_code_metric_name(o->metrics[i])));
    return json_pack("{s:I, s:I, s:s, s:s, s:o, s:o}", "q_heads", (json_int_t)o->n_q_heads, "head_dim", (json_int_t)o->head_dim,
                     "cache", o->cold ? "cold" : "warm", "selection", adm_selection_name(o->selection), "metrics", metrics,
                     "inputs", inputs);
}

/* --- Memory ------------------------------------------------------------------------------------------------------- */

/* What one configuration takes at least, and what it is given so that the L2 stays cold. */
typedef struct case_plans {
    adm_gpu_plan min, given;
} case_plans;

static case_plans plans_of(const adm_profile_options *o, const adm_profile_case *c, const adm_device_info *device) {
    const adm_gpu_shape shape = adm_profile_shape(o, c);
    const adm_gpu_inputs inputs = adm_profile_inputs(o, c);
    const uint64_t l2_bytes = device != NULL ? device->l2_bytes : 60u << 20;
    const uint64_t available = device != NULL ? device->memory_bytes / 10 * 6 : UINT64_MAX;
    case_plans plans;
    adm_gpu_plan_make(&shape, &inputs, false, l2_bytes, available, &plans.min);
    adm_gpu_plan_make(&shape, &inputs, o->cold, l2_bytes, available, &plans.given);
    return plans;
}

static void print_case(const adm_profile_options *o, const adm_profile_case *c, const adm_device_info *device) {
    const case_plans p = plans_of(o, c, device);
    adm_print("  %s, ", adm_dtype_name(c->dtype));
    if (c->page_size > 0) adm_print("pages of %u, ", c->page_size);
    adm_print("%u tokens, %u KV heads, batch %u: K and V %.2f GiB, codes %.3f GiB; needs %.2f GiB", c->seq_len, c->n_kv_heads,
              c->batch, (double)(2 * p.min.kv_bytes) / 0x1p30, (double)p.min.planes_bytes / 0x1p30,
              (double)p.min.bytes / 0x1p30);
    if (o->cold)
        adm_print(", takes %.2f GiB (%u copies, %u sets) for a cold L2", (double)p.given.bytes / 0x1p30, p.given.n_kv,
                  p.given.n_sets);
    adm_print("\n");
}

static json_t *case_as_json(const adm_profile_options *o, const adm_profile_case *c, const adm_device_info *device) {
    const case_plans p = plans_of(o, c, device);
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "dtype", adm_dtype_name(c->dtype), "page_size",
                     (json_int_t)c->page_size, "seq_len", (json_int_t)c->seq_len, "kv_heads", (json_int_t)c->n_kv_heads,
                     "batch", (json_int_t)c->batch, "kv_bytes", (json_int_t)(2 * p.min.kv_bytes), "code_bytes",
                     (json_int_t)p.min.planes_bytes, "least_bytes", (json_int_t)p.min.bytes, "bytes", (json_int_t)p.given.bytes,
                     "n_copies", (json_int_t)p.given.n_kv, "n_sets", (json_int_t)p.given.n_sets);
}

/* --- The plan ----------------------------------------------------------------------------------------------------- */

static void print_units(const adm_profile_options *o, adm_code_metric metric, const adm_profile_unit *units, size_t n) {
    if (compares_by_l1(o)) adm_print("units of each:\n");
    else adm_print("units of each by %s:\n", adm_code_metric_name(metric));
    for (size_t i = 0; i < n; i++) {
        adm_print("  %-10s %-14s", adm_stage_name(units[i].stage), units[i].variant);
        if (units[i].budget > 0) adm_print(" budget %u", units[i].budget);
        adm_print("\n");
    }
    if (n == 0) adm_print("  none: this build has no CUDA, configure it with a toolkit\n");
}

static void units_as_json(adm_code_metric metric, const adm_profile_unit *units, size_t n, json_t *rows) {
    for (size_t i = 0; i < n; i++)
        json_array_append_new(rows, json_pack("{s:s, s:s, s:s, s:o}", "stage", adm_stage_name(units[i].stage), "variant",
                                              units[i].variant, "metric", adm_code_metric_name(metric), "budget",
                                              units[i].budget > 0 ? json_integer(units[i].budget) : json_null()));
}

/* --- Shards ------------------------------------------------------------------------------------------------------- */

/* Which shards run a configuration by any metric: "shards 3 to 5" of 16. Metrics are outermost: n_cases apart. */
static void print_parts(const adm_profile_options *o, const adm_profile_shards *s, size_t c, size_t n_cases) {
    size_t n_ours = 0, n = 0;
    for (size_t m = 0; m < o->n_metrics; m++) {
        const size_t at = m * n_cases + c;
        n_ours += adm_profile_shards_of_case(s, at);
        n += s->first[at + 1] - s->first[at];
    }
    if (n == 0) return;
    adm_print(" %c shards", n_ours > 0 ? '*' : ' ');
    for (size_t m = 0; m < o->n_metrics; m++) {
        const size_t at = m * n_cases + c;
        if (s->first[at] == s->first[at + 1]) continue;
        const uint32_t first = s->part[s->first[at]], last = s->part[s->first[at + 1] - 1];
        adm_print("%s %u", m > 0 ? "," : "", first);
        if (last != first) adm_print("-%u", last);
    }
    if (n_ours > 0) adm_print(", %zu of %zu units ours", n_ours, n);
    adm_print(":");
}

static size_t count_ours(const adm_profile_shards *s) {
    size_t n = 0;
    for (size_t c = 0; c < s->n_cases; c++) n += adm_profile_shards_of_case(s, c);
    return n;
}

static void print_balance(const adm_profile_shards *s) {
    adm_print("shard %u of %u has %zu of %zu units (*), about %.1f s; the largest shard takes %.2f times the mean\n",
              s->shard.index, s->shard.count, count_ours(s), s->n_items, s->load[s->shard.index - 1],
              adm_shard_imbalance(s->load, s->shard.count));
}

static json_t *balance_as_json(const adm_profile_shards *s) {
    json_t *loads = json_array(), *parts = json_array();
    for (uint32_t i = 0; i < s->shard.count; i++) json_array_append_new(loads, json_real(s->load[i]));
    for (size_t i = 0; i < s->n_items; i++) json_array_append_new(parts, json_integer(s->part[i]));
    return json_pack("{s:I, s:I, s:I, s:I, s:f, s:o, s:o}", "shard", (json_int_t)s->shard.index, "n_shards",
                     (json_int_t)s->shard.count, "n_ours", (json_int_t)count_ours(s), "n_units", (json_int_t)s->n_items,
                     "largest_over_mean", adm_shard_imbalance(s->load, s->shard.count), "estimated_s", loads, "shard_of_unit",
                     parts);
}

/* The configurations, which are the same with every metric. */
static void print_cases(const adm_profile_options *o, const adm_trace *trace, const adm_profile_shards *shards,
                        const adm_device_info *device, size_t n_units, json_t *document) {
    const size_t n = adm_profile_n_cases(o) / o->n_metrics;
    json_t *configurations = document != NULL ? json_array() : NULL;
    if (document == NULL) {
        adm_print("%zu configurations of %zu units\n", n, n_units);
        adm_profile_print_setting(o, trace);
        if (device != NULL) adm_print("memory on the %s:\n", device->name);
        else adm_print("memory on a GPU with 60 MiB of L2, as an H200 has:\n");
    }
    for (size_t i = 0; i < n; i++) {
        const adm_profile_case c = adm_profile_case_at(o, i);
        if (document == NULL && shards->shard.count > 0) print_parts(o, shards, i, n);
        if (document == NULL) print_case(o, &c, device);
        else json_array_append_new(configurations, case_as_json(o, &c, device));
    }
    if (document == NULL) return;
    json_object_set_new(document, "setting", adm_profile_setting_as_json(o, trace));
    json_object_set_new(document, "device", device != NULL ? json_string(device->name) : json_null());
    json_object_set_new(document, "configurations", configurations);
}

adm_status adm_profile_print_plan(const adm_profile_options *o, const adm_trace *trace, const adm_profile_shards *shards,
                                  const adm_device_info *device, json_t *document, adm_error *err) {
    json_t *rows = document != NULL ? json_array() : NULL;
    size_t n_units;
    adm_status status = adm_profile_n_units(o, &n_units, err);
    if (status == ADM_OK) print_cases(o, trace, shards, device, n_units, document);
    for (size_t m = 0; status == ADM_OK && m < o->n_metrics; m++) {
        adm_profile_unit *units = NULL;
        size_t n;
        status = adm_profile_units(o, o->metrics[m], &units, &n, err);
        if (status == ADM_OK && document == NULL) print_units(o, o->metrics[m], units, n);
        if (status == ADM_OK && document != NULL) units_as_json(o->metrics[m], units, n, rows);
        adm_free(&units);
    }
    if (document != NULL) json_object_set_new(document, "units", rows);
    if (status == ADM_OK && shards->shard.count > 0) {
        if (document == NULL) print_balance(shards);
        else json_object_set_new(document, "shards", balance_as_json(shards));
    }
    return status;
}
