/* shard_plan.c: dividing a replay. */
#include "core/replay/shard_plan.h"

#include <jansson.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/minmax.h"
#include "core/base/print.h"
#include "core/base/printable.h"
#include "core/cli/command.h"
#include "core/replay/session/segment.h"

/* A timed step does its work under the probes, to warm up, and for the time itself, one head after the other, where a step of
 * the quality pass reads K and V once for several. */
enum { RUNS_PER_TIMED_STEP = 4 };

/* K and V of every token that each step attends to, densely and at every budget by every policy. Layers and heads are the same
 * for all lengths of a trace. */
static double bytes_of(const adm_trace *trace, const adm_segment *segment, const adm_replay_options *o) {
    const size_t n_layers = o->n_layers > 0 ? o->n_layers : trace->n_layers;
    const bool takes_quality = o->n_counters == 0 && o->n_only == 0;
    double rows = 0;
    for (size_t s = 0; s < segment->n_steps; s++) {
        const double tokens = (double)trace->positions[segment->first_step + s] + 1;
        double selected = 0;
        for (size_t b = 0; b < o->n_budgets; b++) selected += o->budgets[b] < tokens ? o->budgets[b] : tokens;
        if (takes_quality) rows += tokens + selected * (double)o->n_variants;
        if (s < o->n_timed_steps) rows += RUNS_PER_TIMED_STEP * (tokens + selected);
    }
    return rows * (double)n_layers * trace->shape.n_q_heads * trace->shape.head_dim * 2 *
           (double)adm_dtype_bytes(trace->layers[0].k_dtype);
}

static adm_status add_trace(const adm_trace *trace, size_t i, const adm_replay_options *o, adm_replay_shards *shards,
                            adm_error *err) {
    adm_segment *segment = NULL;
    adm_replay_item *larger = NULL;
    size_t n = 0;
    adm_status status = adm_replay_segments(trace, o->seq_lens, o->n_seq_lens, &segment, &n, err);
    if (status == ADM_OK) status = adm_alloc(&larger, shards->n_items + n, sizeof *larger, "lengths of a sweep", err);
    if (status == ADM_OK) {
        adm_copy(larger, shards->item, shards->n_items * sizeof *larger);
        adm_free(&shards->item);
        shards->item = larger;
        for (size_t s = 0; s < n; s++)
            shards->item[shards->n_items++] = (adm_replay_item){i, segment[s].seq_len, segment[s].n_steps,
                                                                bytes_of(trace, &segment[s], o)};
    }
    adm_free(&segment);
    return status;
}

adm_status adm_replay_shards_make(const adm_trace *const *traces, size_t n_traces, const adm_replay_options *options,
                                  adm_shard shard, adm_replay_shards *shards, adm_error *err) {
    adm_shard_item *item = NULL;
    const uint32_t n_shards = shard.count > 0 ? shard.count : 1, index = shard.count > 0 ? shard.index : 1;
    adm_status status = ADM_OK;
    *shards = (adm_replay_shards){.shard = shard};
    for (size_t i = 0; status == ADM_OK && i < n_traces; i++) status = add_trace(traces[i], i, options, shards, err);
    const size_t n = shards->n_items;
    if (status == ADM_OK) status = adm_alloc(&item, n, sizeof *item, "lengths of a sweep", err);
    if (status == ADM_OK) status = adm_alloc(&shards->part, n, sizeof *shards->part, "lengths of a sweep", err);
    if (status == ADM_OK) status = adm_alloc(&shards->load, n_shards, sizeof *shards->load, "shards of a sweep", err);
    if (status == ADM_OK) status = adm_alloc(&shards->is_elsewhere, n, 1, "lengths of a sweep", err);
    for (size_t i = 0; status == ADM_OK && i < n; i++) item[i].cost = shards->item[i].bytes;
    if (status == ADM_OK) status = adm_shard_split(item, n, NULL, n_shards, shards->part, shards->load, err);
    for (size_t i = 0; status == ADM_OK && i < n; i++) shards->is_elsewhere[i] = shards->part[i] != index;
    adm_free(&item);
    return status;
}

void adm_replay_shards_free(adm_replay_shards *shards) {
    adm_free(&shards->item);
    adm_free(&shards->part);
    adm_free(&shards->load);
    adm_free(&shards->is_elsewhere);
}

bool adm_replay_shards_has(const adm_replay_shards *shards, size_t i) {
    for (size_t k = 0; k < shards->n_items; k++)
        if (shards->item[k].trace == i && !shards->is_elsewhere[k]) return true;
    return false;
}

const bool *adm_replay_shards_elsewhere(const adm_replay_shards *shards, size_t i) {
    size_t first = 0;
    if (shards->shard.count == 0) return NULL;
    while (shards->item[first].trace != i) first++;
    return &shards->is_elsewhere[first];
}

static json_t *as_json(const adm_replay_shards *s, const adm_trace *const *traces) {
    json_t *items = json_array();
    char name[256];
    for (size_t i = 0; i < s->n_items; i++)
        json_array_append_new(items,
                              json_pack("{s:s, s:I, s:I, s:f, s:I, s:b}", "trace",
                                        adm_printable(traces[s->item[i].trace]->name, name, sizeof name), "seq_len",
                                        (json_int_t)s->item[i].seq_len, "n_steps", (json_int_t)s->item[i].n_steps, "bytes",
                                        s->item[i].bytes, "shard", (json_int_t)s->part[i], "is_ours", !s->is_elsewhere[i]));
    const uint32_t n_shards = s->shard.count > 0 ? s->shard.count : 1;
    return json_pack("{s:I, s:I, s:f, s:o}", "shard", (json_int_t)s->shard.index, "n_shards", (json_int_t)s->shard.count,
                     "largest_over_mean", adm_shard_imbalance(s->load, n_shards), "items", items);
}

adm_status adm_replay_shards_print(const adm_replay_shards *s, const adm_trace *const *traces, bool json, adm_error *err) {
    char name[256];
    size_t n_ours = 0;
    if (json) return adm_print_json(as_json(s, traces), err);
    const bool is_sweep = s->shard.count > 0;
    adm_print("%*s  %9s %6s %10s  trace\n", is_sweep ? 6 : 0, is_sweep ? "shard" : "", "tokens", "steps", "GB read");
    for (size_t i = 0; i < s->n_items; i++) {
        n_ours += !s->is_elsewhere[i];
        if (is_sweep) adm_print("%c%5u", s->is_elsewhere[i] ? ' ' : '*', s->part[i]);
        adm_print("  %9u %6zu %10.2f  %s\n", s->item[i].seq_len, s->item[i].n_steps, s->item[i].bytes * 1e-9,
                  adm_printable(traces[s->item[i].trace]->name, name, sizeof name));
    }
    if (is_sweep)
        adm_print("shard %u of %u has %zu of %zu lengths (*); the largest shard reads %.2f times the mean\n", s->shard.index,
                  s->shard.count, n_ours, s->n_items, adm_shard_imbalance(s->load, s->shard.count));
    return adm_finish_output(err);
}
