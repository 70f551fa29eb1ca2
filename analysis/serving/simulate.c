/* simulate.c: the engine's loop. Work per step does not grow with the batch: the sum of lengths grows by the batch's size, the
 * pages that are due are counted by phase, and the sequences that end are the least of a heap. */
#include "analysis/serving/simulate.h"

#include <string.h>

#include "analysis/serving/cache.h"
#include "analysis/serving/heap.h"
#include "core/base/mem.h"

enum { NONE = ADM_CACHE_NONE, MAX_PAGE = 1024 };

typedef enum state { IDLE, WAITING, PROMPT, DECODING, ENDED, REFUSED } state;

/* A request in the engine. */
typedef struct sequence {
    state state;
    uint32_t prompt;     /* tokens to compute before the next answer token: more than the request's own after a preemption */
    uint32_t computed;   /* of them, those shared from the cache included */
    uint32_t generated;  /* answer tokens so far, as of the last change of state */
    uint32_t n_held;     /* blocks held, from its first on */
    uint32_t phase;      /* which steps add a page to it */
    uint64_t n_pages;    /* held besides blocks */
    uint64_t begin_step; /* decoding: its length is `length` after this step */
    uint64_t end_step, length;
    uint32_t older, younger; /* among those that decode, in the order in which they began */
    uint32_t next;           /* in a queue */
    uint32_t first_child, sibling;
} sequence;

typedef struct queue {
    uint32_t first, last;
} queue;

typedef struct engine {
    const adm_requests *in;
    const adm_engine *options;
    adm_step_time *time;
    adm_simulation *out;
    adm_cache cache;
    sequence *seq;
    adm_heap arrivals, ends;
    queue waiting, prompts;
    size_t next_arrival;       /* of requests without a parent */
    uint32_t oldest, youngest; /* of those that decode */
    uint32_t n_decode, n_prompts;
    uint64_t decode_tokens;    /* in their caches */
    uint64_t longest_base;     /* of length - begin_step over them, at least that of the longest, biased by BIAS */
    bool longest_is_stale;
    uint64_t step, now_ns;
    uint32_t due[MAX_PAGE];    /* sequences whose next page is due, by step modulo page_tokens */
    uint64_t n_pages_in_total;
} engine;

/* Lets length - begin_step be unsigned. */
static const uint64_t BIAS = 1ull << 62;

/* --- Queues and lists ----------------------------------------------------------------------------------------------- */

static void push_back(engine *e, queue *q, uint32_t i) {
    e->seq[i].next = NONE;
    if (q->last != NONE) e->seq[q->last].next = i;
    else q->first = i;
    q->last = i;
}

static void push_front(engine *e, queue *q, uint32_t i) {
    e->seq[i].next = q->first;
    if (q->first == NONE) q->last = i;
    q->first = i;
}

static uint32_t pop_front(engine *e, queue *q) {
    const uint32_t i = q->first;
    q->first = e->seq[i].next;
    if (q->first == NONE) q->last = NONE;
    return i;
}

static uint64_t scaled(const engine *e, uint64_t ns) {
    return e->options->arrival_scale == 1 ? ns : (uint64_t)((double)ns / e->options->arrival_scale);
}

static uint64_t pages_of(const engine *e, uint64_t tokens) {
    return (tokens + e->options->page_tokens - 1) / e->options->page_tokens;
}

static const uint32_t *blocks_of(const engine *e, uint32_t i) { return e->in->block + e->in->request[i].first_block; }

/* Blocks of a request that may be shared; at least one token of a prompt is always computed. */
static uint32_t shareable(const engine *e, uint32_t i) {
    const adm_request *r = &e->in->request[i];
    return e->options->contiguous || !e->options->share_prefixes ? 0 : r->n_blocks;
}

/* --- Arrivals ------------------------------------------------------------------------------------------------------- */

static uint32_t own_tokens(const adm_request *r) { return r->input_tokens > 0 ? r->input_tokens : 1; }

static bool waits_for_parent(const engine *e, const adm_request *r) { return r->parent >= 0 && !e->options->open_loop; }

/* The children of a request that ended, or was refused, come after their delays. */
static void release_children(engine *e, uint32_t i) {
    for (uint32_t c = e->seq[i].first_child; c != NONE; c = e->seq[c].sibling)
        adm_heap_push(&e->arrivals, e->now_ns + scaled(e, e->in->request[c].delay_ns), c);
}

static void arrive(engine *e, uint32_t i, uint64_t when_ns) {
    const adm_request *r = &e->in->request[i];
    const uint64_t tokens = (uint64_t)own_tokens(r) + r->output_tokens;
    e->out->served[i].arrival_ns = when_ns;
    if (pages_of(e, tokens) + (e->in->block_tokens > 0 ? e->cache.block_pages : 0) > e->n_pages_in_total) {
        e->seq[i].state = REFUSED;
        if (e->out->n_refused++ == 0) e->out->first_refused = r->line;
        if (tokens > e->out->refused_tokens) e->out->refused_tokens = tokens;
        release_children(e, i);
        return;
    }
    e->seq[i].state = WAITING;
    e->seq[i].prompt = own_tokens(r);
    push_back(e, &e->waiting, i);
}

/* When the next request comes; UINT64_MAX: none does. */
static uint64_t next_arrival_ns(engine *e) {
    while (e->next_arrival < e->in->n && waits_for_parent(e, &e->in->request[e->next_arrival])) e->next_arrival++;
    const uint64_t first = e->next_arrival < e->in->n ? scaled(e, e->in->request[e->next_arrival].arrival_ns) : UINT64_MAX;
    return e->arrivals.n > 0 && e->arrivals.item[0].key < first ? e->arrivals.item[0].key : first;
}

static void take_arrivals(engine *e) {
    for (uint64_t when; (when = next_arrival_ns(e)) <= e->now_ns;) {
        if (e->arrivals.n > 0 && e->arrivals.item[0].key == when) arrive(e, adm_heap_pop(&e->arrivals).request, when);
        else arrive(e, (uint32_t)e->next_arrival++, when);
    }
}

/* --- Beginning and ending ------------------------------------------------------------------------------------------- */

/* Takes memory for a waiting request's prompt; false if there is none now. */
static bool admit(engine *e, uint32_t i) {
    const adm_request *r = &e->in->request[i];
    sequence *s = &e->seq[i];
    const uint32_t n_shareable = shareable(e, i), block_tokens = e->in->block_tokens;
    uint32_t n_match = adm_cache_match(&e->cache, blocks_of(e, i), n_shareable);
    if (n_match > 0 && (uint64_t)n_match * block_tokens >= s->prompt) n_match--;
    const uint64_t shared = (uint64_t)n_match * block_tokens;
    const uint64_t rest = (uint64_t)(n_shareable - n_match) * e->cache.block_pages;
    const uint64_t behind = s->prompt - (uint64_t)n_shareable * block_tokens; /* tokens behind the last whole block */
    const uint64_t pages = e->options->contiguous ? pages_of(e, (uint64_t)own_tokens(r) + r->output_tokens)
                                                  : rest + pages_of(e, behind);
    adm_cache_hold(&e->cache, blocks_of(e, i), n_match);
    if (!adm_cache_take(&e->cache, pages)) {
        adm_cache_release(&e->cache, blocks_of(e, i), n_match);
        return false;
    }
    s->n_held = n_match;
    s->n_pages = pages;
    s->computed = (uint32_t)shared;
    s->state = PROMPT;
    e->out->n_cached_tokens += shared;
    e->out->n_prompt_tokens += s->prompt;
    return true;
}

static void leave_memory(engine *e, uint32_t i) {
    sequence *s = &e->seq[i];
    adm_cache_give(&e->cache, s->n_pages);
    adm_cache_release(&e->cache, blocks_of(e, i), s->n_held);
    s->n_pages = s->n_held = 0;
}

static void end(engine *e, uint32_t i) {
    e->seq[i].state = ENDED;
    e->out->served[i].end_ns = e->now_ns;
    e->out->n_output_tokens += e->in->request[i].output_tokens;
    leave_memory(e, i);
    release_children(e, i);
}

/* Tokens of a decoding sequence's cache after the present step. */
static uint64_t length_of(const engine *e, const sequence *s) { return s->length + (e->step - s->begin_step); }

static void begin_decoding(engine *e, uint32_t i) {
    sequence *s = &e->seq[i];
    const uint32_t page = e->options->page_tokens;
    s->state = DECODING;
    s->begin_step = e->step;
    s->length = s->prompt;
    s->end_step = e->step + (e->in->request[i].output_tokens - s->generated);
    adm_heap_push(&e->ends, s->end_step, i);
    s->older = e->youngest;
    s->younger = NONE;
    if (e->youngest != NONE) e->seq[e->youngest].younger = i;
    else e->oldest = i;
    e->youngest = i;
    e->n_decode++;
    e->decode_tokens += s->length;
    const uint64_t base = BIAS + s->length - s->begin_step;
    if (e->n_decode == 1 || base > e->longest_base) e->longest_base = base;
    /* Step t adds token `length + t - begin_step`; a page is due where the tokens before it fill whole pages. */
    const uint64_t behind = s->length - (uint64_t)shareable(e, i) * e->in->block_tokens;
    s->phase = (uint32_t)((e->step + 1 + page - behind % page) % page);
    if (!e->options->contiguous) e->due[s->phase]++;
}

static void stop_decoding(engine *e, uint32_t i) {
    sequence *s = &e->seq[i];
    if (s->older != NONE) e->seq[s->older].younger = s->younger;
    else e->oldest = s->younger;
    if (s->younger != NONE) e->seq[s->younger].older = s->older;
    else e->youngest = s->older;
    e->n_decode--;
    e->decode_tokens -= length_of(e, s);
    if (BIAS + s->length - s->begin_step == e->longest_base) e->longest_is_stale = true;
    if (!e->options->contiguous) {
        e->due[s->phase]--;
        const uint64_t behind = length_of(e, s) - (uint64_t)shareable(e, i) * e->in->block_tokens;
        s->n_pages = pages_of(e, behind);
    }
}

static uint64_t longest(engine *e) {
    if (e->longest_is_stale) {
        e->longest_base = 0;
        for (uint32_t i = e->oldest; i != NONE; i = e->seq[i].younger) {
            const uint64_t base = BIAS + e->seq[i].length - e->seq[i].begin_step;
            if (base > e->longest_base) e->longest_base = base;
        }
        e->longest_is_stale = false;
    }
    return e->longest_base + e->step - BIAS;
}

static void preempt_youngest(engine *e) {
    const uint32_t i = e->youngest;
    sequence *s = &e->seq[i];
    stop_decoding(e, i);
    s->generated += (uint32_t)(e->step - s->begin_step);
    s->prompt = (uint32_t)length_of(e, s) + 1; /* its newest token is in no cache yet */
    s->end_step = 0;
    leave_memory(e, i);
    s->state = WAITING;
    push_front(e, &e->waiting, i);
    e->out->n_preempted++;
}

/* --- One step ------------------------------------------------------------------------------------------------------- */

/* Pages for the tokens that the coming step adds. */
static void grow(engine *e) {
    while (!e->options->contiguous && e->n_decode > 0) {
        const uint32_t due = e->due[(e->step + 1) % e->options->page_tokens];
        if (adm_cache_take(&e->cache, due)) return;
        preempt_youngest(e);
    }
}

/* A prompt's next chunk, within `room` tokens. */
static void compute_chunk(engine *e, uint32_t i, uint32_t *room, adm_step *step) {
    sequence *s = &e->seq[i];
    uint32_t chunk = s->prompt - s->computed;
    if (chunk > *room) chunk = *room;
    if (chunk > e->options->chunk_tokens) chunk = e->options->chunk_tokens;
    step->prompt_pairs += (double)chunk * ((double)s->computed + ((double)chunk + 1) / 2);
    step->prompt_keys += (double)s->computed + chunk;
    step->n_prompt_tokens += chunk;
    s->computed += chunk;
    *room -= chunk;
    if (s->computed == s->prompt) step->n_sampled++;
}

/* Fills a step with prompts: first those begun, then waiting ones. */
static void schedule_prompts(engine *e, adm_step *step) {
    uint32_t room = e->options->max_tokens > e->n_decode ? e->options->max_tokens - e->n_decode : 0;
    for (uint32_t i = e->prompts.first; i != NONE && room > 0; i = e->seq[i].next) compute_chunk(e, i, &room, step);
    while (room > 0 && e->waiting.first != NONE && e->n_decode + e->n_prompts < e->options->max_batch) {
        const uint32_t i = e->waiting.first;
        if (!admit(e, i)) return;
        pop_front(e, &e->waiting);
        push_back(e, &e->prompts, i);
        e->n_prompts++;
        compute_chunk(e, i, &room, step);
    }
}

/* Prompts that are computed give their first token. */
static void finish_prompts(engine *e) {
    queue rest = {NONE, NONE};
    while (e->prompts.first != NONE) {
        const uint32_t i = pop_front(e, &e->prompts);
        sequence *s = &e->seq[i];
        if (s->computed < s->prompt) {
            push_back(e, &rest, i);
            continue;
        }
        e->n_prompts--;
        const uint32_t n_shareable = shareable(e, i);
        adm_cache_publish(&e->cache, blocks_of(e, i) + s->n_held, n_shareable - s->n_held);
        s->n_pages -= (uint64_t)(n_shareable - s->n_held) * e->cache.block_pages;
        s->n_held = n_shareable;
        if (e->out->served[i].first_ns == ADM_NEVER) e->out->served[i].first_ns = e->now_ns;
        s->generated++;
        if (s->generated < e->in->request[i].output_tokens) begin_decoding(e, i);
        else end(e, i);
    }
    e->prompts = rest;
}

static void finish_decoding(engine *e) {
    while (e->ends.n > 0 && e->ends.item[0].key <= e->step) {
        const adm_heap_item item = adm_heap_pop(&e->ends);
        const sequence *s = &e->seq[item.request];
        if (s->state != DECODING || s->end_step != item.key) continue; /* it was preempted since */
        stop_decoding(e, item.request);
        end(e, item.request);
    }
}

static adm_status run_step(engine *e, adm_error *err) {
    grow(e);
    adm_step step = {.n_decode = e->n_decode, .decode_tokens = e->decode_tokens, .n_sampled = e->n_decode};
    if (e->n_decode > 0) step.longest = longest(e);
    schedule_prompts(e, &step);
    if (step.n_decode == 0 && step.n_prompt_tokens == 0)
        return adm_fail(err, ADM_EINTERNAL, "a simulated engine has requests that wait and nothing that it can do");
    const uint64_t ns = adm_step_time_of(e->time, &step);
    e->now_ns += ns;
    e->out->busy_ns += ns;
    e->out->batch_tokens += e->n_decode;
    e->out->n_steps++;
    e->step++;
    e->decode_tokens += e->n_decode;
    finish_decoding(e);
    finish_prompts(e);
    return ADM_OK;
}

/* --- Life ----------------------------------------------------------------------------------------------------------- */

static adm_status open_engine(engine *e, adm_error *err) {
    const size_t n = e->in->n;
    const adm_engine *o = e->options;
    if (o->max_batch < 1 || o->max_batch > 2048 || o->max_tokens < 1 || o->chunk_tokens < 1 || o->page_tokens < 1 ||
        o->page_tokens > MAX_PAGE || !(o->arrival_scale > 0))
        return adm_fail(err, ADM_EINPUT,
                        "an engine runs 1 to 2048 sequences, at least 1 token per step and pages of 1 to %d tokens", MAX_PAGE);
    const double pages = o->cache_bytes / (o->token_bytes * o->page_tokens);
    if (!(pages >= 1))
        return adm_fail(err, ADM_EINPUT, "the weights leave %.3g GB of the GPU's memory for the cache, less than one page",
                        o->cache_bytes / 1e9);
    e->n_pages_in_total = pages < 1e15 ? (uint64_t)pages : (uint64_t)1e15;
    const uint32_t block_pages = (e->in->block_tokens + o->page_tokens - 1) / o->page_tokens;
    adm_status status = adm_cache_open(e->n_pages_in_total, e->in->n_distinct_blocks, block_pages, &e->cache, err);
    if (status == ADM_OK) status = adm_alloc(&e->seq, n, sizeof *e->seq, "simulated sequences", err);
    if (status == ADM_OK) status = adm_alloc(&e->out->served, n, sizeof *e->out->served, "served requests", err);
    if (status == ADM_OK) status = adm_alloc(&e->arrivals.item, n, sizeof *e->arrivals.item, "arrivals", err);
    return status;
}

static void link_children(engine *e) {
    for (size_t i = 0; i < e->in->n; i++) e->seq[i].first_child = NONE;
    for (size_t i = e->in->n; i-- > 0;) {
        if (!waits_for_parent(e, &e->in->request[i])) continue;
        sequence *parent = &e->seq[e->in->request[i].parent];
        e->seq[i].sibling = parent->first_child;
        parent->first_child = (uint32_t)i;
    }
}

/* Room for the ends of every sequence and of those preempted and begun again. */
static adm_status reserve_ends(engine *e, size_t *capacity, adm_error *err) {
    if (e->ends.n + e->options->max_batch + e->n_prompts + 1 <= *capacity) return ADM_OK;
    adm_heap_item *larger;
    const size_t more = 2 * (*capacity + e->options->max_batch);
    adm_status status = adm_alloc(&larger, more, sizeof *larger, "ends of sequences", err);
    if (status != ADM_OK) return status;
    adm_copy(larger, e->ends.item, e->ends.n * sizeof *larger);
    adm_free(&e->ends.item);
    e->ends.item = larger;
    *capacity = more;
    return ADM_OK;
}

static adm_status loop(engine *e, bool (*should_stop)(void), adm_error *err) {
    adm_status status = ADM_OK;
    size_t capacity = 0;
    while (status == ADM_OK) {
        take_arrivals(e);
        if (e->n_decode == 0 && e->n_prompts == 0 && e->waiting.first == NONE) {
            const uint64_t next = next_arrival_ns(e);
            if (next == UINT64_MAX) return ADM_OK;
            e->now_ns = next;
            continue;
        }
        if ((e->step & 1023) == 0 && should_stop != NULL && should_stop())
            return adm_fail(err, ADM_EINTERRUPTED, "the simulation was interrupted");
        status = reserve_ends(e, &capacity, err);
        if (status == ADM_OK) status = run_step(e, err);
    }
    return status;
}

adm_status adm_simulate(const adm_requests *requests, const adm_engine *options, adm_step_time *time, bool (*should_stop)(void),
                        adm_simulation *out, adm_error *err) {
    engine *e = NULL;
    *out = (adm_simulation){0};
    adm_status status = adm_alloc(&e, 1, sizeof *e, "a simulated engine", err);
    if (status != ADM_OK) return status;
    *e = (engine){.in = requests,
                  .options = options,
                  .time = time,
                  .out = out,
                  .waiting = {NONE, NONE},
                  .prompts = {NONE, NONE},
                  .oldest = NONE,
                  .youngest = NONE};
    status = open_engine(e, err);
    if (status == ADM_OK) {
        link_children(e);
        status = loop(e, should_stop, err);
    }
    out->end_ns = e->now_ns;
    out->n_evicted = e->cache.n_evicted;
    out->peak_bytes = (double)e->cache.peak_used * options->page_tokens * options->token_bytes;
    adm_cache_close(&e->cache);
    adm_free(&e->seq);
    adm_free(&e->arrivals.item);
    adm_free(&e->ends.item);
    adm_free(&e);
    if (status != ADM_OK) adm_simulation_free(out);
    return status;
}

void adm_simulation_free(adm_simulation *simulation) { adm_free(&simulation->served); }
