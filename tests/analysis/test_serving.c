/* test_serving.c: the simulated engine against a plain one that looks at every sequence in every step, and small traffic worked
 * out by hand. */
#include "tests/support/stage_check.h"

#include "analysis/serving/cache.h"
#include "analysis/serving/heap.h"
#include "analysis/serving/simulate.h"
#include "core/base/mem.h"

/* A cost model in which dense attention takes 1 ns per cached token and 10 ns per sequence, and matrix products 1000 ns per
 * step. */
static adm_cost_point points[] = {{{1000, 0, 1}, 1010}, {{2000, 0, 1}, 2010}, {{1000, 0, 8}, 8080}, {{2000, 0, 8}, 16080}};
static adm_cost_grid grid = {.stage = ADM_STAGE_DENSE,
                             .variant = "x",
                             .shape = {1, 1, 64},
                             .element_bytes = 2,
                             .point = points,
                             .n = 4,
                             .read_bytes_per_s = 1e15};
static adm_cost_whole whole[] = {{"m", ADM_COST_LINEAR, 1, 1, 1000, 0, 0}, {"m", ADM_COST_LINEAR, 2, 1, 1000, 0, 0}};
static const adm_model model = {"m", {1, 1, 64}, 1, 64, 64, 64, 1, 2, 2, true};

static adm_cost cost_model(void) {
    adm_cost c = {.grid = &grid, .n_grids = 1, .whole = whole, .n_whole = 2};
    c.measured = c.device = (adm_cost_device){"GPU", 1e15, 1e18, 1e9, 1e9};
    return c;
}

static adm_step_time *step_time(const adm_cost *cost) {
    static adm_plan plan;
    adm_step_time *time;
    adm_error err;
    adm_plan_uniform(&model, 0, 0, &plan);
    const adm_step_options options = {.model = &model, .plan = &plan, .compute_share = 1};
    if (adm_step_time_create(cost, &options, &time, &err) != ADM_OK) fail_msg("%s", err.text);
    return time;
}

static adm_engine engine_of(uint64_t cache_tokens) {
    return (adm_engine){.max_batch = 4,
                        .max_tokens = 64,
                        .chunk_tokens = 32,
                        .page_tokens = 16,
                        .share_prefixes = true,
                        .arrival_scale = 1,
                        .cache_bytes = (double)cache_tokens,
                        .token_bytes = 1};
}

static adm_simulation simulate(const adm_requests *in, const adm_engine *engine) {
    const adm_cost cost = cost_model();
    adm_step_time *time = step_time(&cost);
    adm_simulation out;
    adm_error err;
    if (adm_simulate(in, engine, time, NULL, &out, &err) != ADM_OK) fail_msg("%s", err.text);
    adm_step_time_free(&time);
    return out;
}

static adm_request request(uint64_t arrival_ns, uint32_t input, uint32_t output) {
    return (adm_request){.arrival_ns = arrival_ns, .parent = -1, .input_tokens = input, .output_tokens = output, .line = 1};
}

/* --- The plain engine ----------------------------------------------------------------------------------------------- */

enum { N = 400 };

typedef struct plain {
    int state; /* 0 to come, 1 waiting, 2 prompt, 3 decoding, 4 ended */
    uint32_t prompt, computed, generated;
    uint64_t length, pages, order;
} plain;

static uint64_t pages(uint64_t tokens, const adm_engine *e) { return (tokens + e->page_tokens - 1) / e->page_tokens; }

/* Without shared prefixes; the queue is an array of numbers. */
static void plain_engine(const adm_requests *in, const adm_engine *e, adm_step_time *time, adm_served *served,
                         uint64_t *n_preempted) {
    static plain s[N];
    static uint32_t queue[4 * N], prompts[N];
    size_t head = 2 * N, tail = 2 * N, n_prompts = 0, next = 0, n_ended = 0;
    uint64_t free_pages = (uint64_t)(e->cache_bytes / e->page_tokens), now = 0, order = 0;
    memset(s, 0, sizeof s);
    memset(served, 0, in->n * sizeof *served);
    while (n_ended < in->n) {
        uint32_t n_decode = 0;
        for (; next < in->n && in->request[next].arrival_ns <= now; next++) {
            s[next] = (plain){.state = 1, .prompt = in->request[next].input_tokens};
            served[next].arrival_ns = in->request[next].arrival_ns;
            queue[tail++] = (uint32_t)next;
        }
        for (size_t i = 0; i < in->n; i++) n_decode += s[i].state == 3;
        if (n_decode == 0 && n_prompts == 0 && head == tail) {
            now = in->request[next].arrival_ns;
            continue;
        }
        for (;;) { /* pages for the tokens to come; the youngest goes where there are none */
            uint64_t due = 0;
            size_t youngest = N;
            for (size_t i = 0; i < in->n; i++)
                if (s[i].state == 3) {
                    due += pages(s[i].length + 1, e) - s[i].pages;
                    if (youngest == N || s[i].order > s[youngest].order) youngest = i;
                }
            if (due <= free_pages) break;
            free_pages += s[youngest].pages;
            s[youngest].state = 1;
            s[youngest].prompt = (uint32_t)s[youngest].length + 1;
            s[youngest].pages = s[youngest].computed = 0;
            queue[--head] = (uint32_t)youngest;
            n_decode--;
            ++*n_preempted;
        }
        adm_step step = {.n_decode = n_decode, .n_sampled = n_decode};
        for (size_t i = 0; i < in->n; i++)
            if (s[i].state == 3) {
                step.decode_tokens += s[i].length;
                if (s[i].length > step.longest) step.longest = s[i].length;
                free_pages -= pages(s[i].length + 1, e) - s[i].pages;
                s[i].pages = pages(s[i].length + 1, e);
            }
        uint32_t room = e->max_tokens > n_decode ? e->max_tokens - n_decode : 0;
        for (size_t p = 0; room > 0; p++) {
            if (p == n_prompts) {
                if (head == tail || n_decode + n_prompts == e->max_batch || pages(s[queue[head]].prompt, e) > free_pages) break;
                s[queue[head]].pages = pages(s[queue[head]].prompt, e);
                free_pages -= s[queue[head]].pages;
                s[queue[head]].state = 2;
                prompts[n_prompts++] = queue[head++];
            }
            plain *q = &s[prompts[p]];
            uint32_t chunk = q->prompt - q->computed;
            if (chunk > room) chunk = room;
            if (chunk > e->chunk_tokens) chunk = e->chunk_tokens;
            step.prompt_pairs += (double)chunk * ((double)q->computed + ((double)chunk + 1) / 2);
            step.prompt_keys += (double)q->computed + chunk;
            step.n_prompt_tokens += chunk;
            q->computed += chunk;
            room -= chunk;
            step.n_sampled += q->computed == q->prompt;
        }
        now += adm_step_time_of(time, &step);
        for (size_t i = 0; i < in->n; i++)
            if (s[i].state == 3) {
                s[i].length++;
                if (++s[i].generated == in->request[i].output_tokens) {
                    s[i].state = 4;
                    served[i].end_ns = now;
                    free_pages += s[i].pages;
                    n_ended++;
                }
            }
        size_t kept = 0;
        for (size_t p = 0; p < n_prompts; p++) {
            plain *q = &s[prompts[p]];
            if (q->computed < q->prompt) {
                prompts[kept++] = prompts[p];
                continue;
            }
            if (served[prompts[p]].first_ns == 0) served[prompts[p]].first_ns = now;
            q->length = q->prompt;
            q->order = ++order;
            q->state = ++q->generated < in->request[prompts[p]].output_tokens ? 3 : 4;
            if (q->state == 3) continue;
            served[prompts[p]].end_ns = now;
            free_pages += q->pages;
            n_ended++;
        }
        n_prompts = kept;
    }
}

static void every_request_is_served_when_a_plain_engine_serves_it(void **state) {
    (void)state;
    static adm_request r[N];
    static adm_served served[N];
    uint64_t n_preempted_in_all = 0;
    adm_rng rng;
    adm_rng_seed(&rng, check_seed());
    for (int round = 0; round < 60; round++) {
        adm_engine e = engine_of(200 + adm_rng_below(&rng, round % 3 == 0 ? 200 : 3000)); /* at times too little for two */
        adm_requests in = {.n = 1 + adm_rng_below(&rng, N), .request = r};
        uint64_t at = 0, n_preempted = 0;
        const uint64_t gap = 1 + adm_rng_below(&rng, 20000);
        e.max_batch = 1 + (uint32_t)adm_rng_below(&rng, 20);
        e.max_tokens = 1 + (uint32_t)adm_rng_below(&rng, 200);
        e.chunk_tokens = 1 + (uint32_t)adm_rng_below(&rng, 100);
        e.page_tokens = 1 + (uint32_t)adm_rng_below(&rng, 20);
        for (size_t i = 0; i < in.n; i++) {
            r[i] = request(at, 1 + (uint32_t)adm_rng_below(&rng, 90), 1 + (uint32_t)adm_rng_below(&rng, 70));
            at += adm_rng_below(&rng, gap);
        }
        const adm_cost cost = cost_model();
        adm_step_time *time = step_time(&cost);
        plain_engine(&in, &e, time, served, &n_preempted);
        adm_step_time_free(&time);
        adm_simulation out = simulate(&in, &e);
        assert_int_equal(out.n_refused, 0);
        assert_int_equal(out.n_preempted, n_preempted);
        for (size_t i = 0; i < in.n; i++)
            if (memcmp(&out.served[i], &served[i], sizeof served[i]) != 0)
                fail_msg("round %d, request %zu of %zu: first %llu, end %llu; the plain engine: %llu, %llu", round, i, in.n,
                         (unsigned long long)out.served[i].first_ns, (unsigned long long)out.served[i].end_ns,
                         (unsigned long long)served[i].first_ns, (unsigned long long)served[i].end_ns);
        n_preempted_in_all += n_preempted;
        adm_simulation_free(&out);
    }
    assert_true(n_preempted_in_all > 10); /* else the test looked at nothing */
}

/* --- By hand -------------------------------------------------------------------------------------------------------- */

/* 1000 tokens in chunks of 32: 32 steps of 1000 ns for the products, then one token: 1000 + 1010 ns. */
static void one_request_by_hand(void **state) {
    (void)state;
    adm_request r[] = {request(0, 1000, 2)};
    const adm_requests in = {.n = 1, .request = r};
    const adm_engine e = engine_of(2000);
    adm_simulation out = simulate(&in, &e);
    assert_int_equal(out.n_steps, 33);
    assert_int_equal(out.served[0].end_ns - out.served[0].first_ns, 2010);
    assert_true(out.served[0].first_ns >= 32000 &&
                out.served[0].first_ns < 32100); /* and a little for the prompt's attention */
    assert_true(out.peak_bytes == 1008);
    adm_simulation_free(&out);
}

static void what_can_never_fit_is_refused_and_its_follower_served(void **state) {
    (void)state;
    adm_request r[] = {request(0, 10000000, 5), request(5, 20, 2), request(7, 10, 1)};
    r[0].line = 2;
    r[2].parent = 0;
    r[2].delay_ns = 50;
    const adm_requests in = {.n = 3, .request = r, .n_chained = 1};
    const adm_engine e = engine_of(2000);
    adm_simulation out = simulate(&in, &e);
    assert_int_equal(out.n_refused, 1);
    assert_int_equal(out.first_refused, 2);
    assert_int_equal(out.refused_tokens, 10000005);
    assert_int_equal(out.served[0].end_ns, ADM_NEVER);
    assert_true(out.served[1].end_ns > 0 && out.served[2].end_ns > 0);
    assert_int_equal(out.served[2].arrival_ns, 50);
    adm_simulation_free(&out);
}

static void a_request_waits_for_its_parent_unless_the_loop_is_open(void **state) {
    (void)state;
    adm_request r[] = {request(0, 32, 3), request(100, 32, 1)};
    r[1].parent = 0;
    r[1].delay_ns = 777;
    const adm_requests in = {.n = 2, .request = r, .n_chained = 1};
    adm_engine e = engine_of(2000);
    adm_simulation out = simulate(&in, &e);
    assert_int_equal(out.served[1].arrival_ns, out.served[0].end_ns + 777);
    adm_simulation_free(&out);
    e.open_loop = true;
    out = simulate(&in, &e);
    assert_int_equal(out.served[1].arrival_ns, 100);
    adm_simulation_free(&out);
    e.open_loop = false;
    e.arrival_scale = 7;
    out = simulate(&in, &e);
    assert_int_equal(out.served[1].arrival_ns, out.served[0].end_ns + 111);
    adm_simulation_free(&out);
}

/* Two prompts of 4 blocks, 3 of them the same; the second computes one block and the rest. */
static void equal_blocks_are_computed_once(void **state) {
    (void)state;
    uint32_t blocks[] = {0, 1, 2, 3, 0, 1, 2, 4};
    adm_request r[] = {request(0, 70, 1), request(1000000, 70, 1), request(2000000, 64, 1)};
    for (int i = 0; i < 3; i++) {
        r[i].first_block = i == 1 ? 4 : 0;
        r[i].n_blocks = 4;
    }
    const adm_requests in = {.n = 3, .request = r, .block = blocks, .n_blocks = 8, .n_distinct_blocks = 5, .block_tokens = 16};
    adm_engine e = engine_of(2000);
    adm_simulation out = simulate(&in, &e);
    assert_int_equal(out.n_cached_tokens, 48 + 48); /* the third is there as a whole, but for one block that must be computed */
    assert_int_equal(out.n_prompt_tokens, 204);
    adm_simulation_free(&out);
    e.contiguous = true;
    out = simulate(&in, &e);
    assert_int_equal(out.n_cached_tokens, 0);
    adm_simulation_free(&out);
}

static void options_out_of_range_are_refused(void **state) {
    (void)state;
    adm_request r[] = {request(0, 1, 1)};
    const adm_requests in = {.n = 1, .request = r};
    const adm_cost cost = cost_model();
    adm_step_time *time = step_time(&cost);
    adm_simulation out;
    adm_error err;
    adm_engine bad[] = {engine_of(2000), engine_of(2000), engine_of(2000), engine_of(8)};
    bad[0].max_batch = 0;
    bad[1].page_tokens = 2000;
    bad[2].arrival_scale = 0;
    for (size_t i = 0; i < 4; i++) assert_int_equal(adm_simulate(&in, &bad[i], time, NULL, &out, &err), ADM_EINPUT);
    assert_non_null(strstr(err.text, "less than one page"));
    adm_step_time_free(&time);
}

/* --- The cache ------------------------------------------------------------------------------------------------------ */

/* Against a plain array: which blocks are there, in which order they go, and how many pages are free. */
static void a_cache_keeps_count(void **state) {
    (void)state;
    enum { BLOCKS = 12, PAGES = 40, PER_BLOCK = 3 };
    adm_cache c;
    adm_rng rng;
    uint32_t users[BLOCKS] = {0};
    uint64_t held = 0, last[BLOCKS] = {0}, clock = 0;
    bool there[BLOCKS] = {false};
    adm_rng_seed(&rng, check_seed());
    assert_int_equal(adm_cache_open(PAGES, BLOCKS, PER_BLOCK, &c, NULL), ADM_OK);
    for (int i = 0; i < 20000; i++) {
        const uint32_t b = (uint32_t)adm_rng_below(&rng, BLOCKS);
        switch (adm_rng_below(&rng, 4)) {
        case 0: { /* a sequence takes pages, least recently released blocks going first */
            const uint64_t n = adm_rng_below(&rng, 12);
            uint64_t kept = 0, used = held;
            for (int k = 0; k < BLOCKS; k++) {
                kept += there[k] && users[k] == 0 ? PER_BLOCK : 0;
                used += there[k] ? PER_BLOCK : 0;
            }
            const bool fits = n <= PAGES - used + kept;
            assert_int_equal(adm_cache_take(&c, n), fits);
            while (fits && PAGES - used < n) {
                int oldest = -1;
                for (int k = 0; k < BLOCKS; k++)
                    if (there[k] && users[k] == 0 && (oldest < 0 || last[k] < last[oldest])) oldest = k;
                there[oldest] = false;
                used -= PER_BLOCK;
            }
            if (fits) held += n;
            break;
        }
        case 1:
            if (held < PER_BLOCK) break; /* pages become a block */
            adm_cache_publish(&c, &b, 1);
            held -= PER_BLOCK;
            there[b] = true;
            users[b]++;
            break;
        case 2:
            if (users[b] == 0) break;
            adm_cache_release(&c, &b, 1);
            users[b]--;
            last[b] = ++clock;
            break;
        default: {
            const uint64_t n = adm_rng_below(&rng, held + 1);
            adm_cache_give(&c, n);
            held -= n;
            if (there[b]) {
                adm_cache_hold(&c, &b, 1);
                users[b]++;
            }
        }
        }
        for (uint32_t k = 0; k < BLOCKS; k++) assert_int_equal(adm_cache_match(&c, &k, 1), there[k]);
        uint64_t used = held;
        for (int k = 0; k < BLOCKS; k++) used += there[k] ? PER_BLOCK : 0;
        assert_int_equal(c.n_free, PAGES - used);
    }
    adm_cache_close(&c);
}

static void a_heap_gives_the_least_first(void **state) {
    (void)state;
    adm_heap_item room[500], last = {0, 0};
    adm_heap heap = {.item = room};
    adm_rng rng;
    adm_rng_seed(&rng, check_seed());
    for (uint32_t i = 0; i < 500; i++) adm_heap_push(&heap, adm_rng_below(&rng, 50), i);
    for (int i = 0; i < 500; i++) {
        const adm_heap_item item = adm_heap_pop(&heap);
        assert_true(i == 0 || item.key > last.key || (item.key == last.key && item.request > last.request));
        last = item;
    }
}

static void budgets_per_layer_are_read(void **state) {
    (void)state;
    const adm_model *m = adm_model_find("llama-3.1-8b");
    adm_plan plan;
    adm_error err;
    assert_int_equal(adm_plan_parse(m, "0-1:dense,2-15:1024,16:256,17-31:1024", &plan, &err), ADM_OK);
    assert_int_equal(plan.n_groups, 3);
    assert_int_equal(plan.n_sparse, 30);
    assert_int_equal(plan.group[1].n_layers, 29);
    const char *const bad[] = {"",     "0-30:5", "0-31:0",      "1-31:5", "0-32:5", "0-5:5,5-31:6",
                               "0-31", "x",      "0-31:dense,", "0-31:5;"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (adm_plan_parse(m, bad[i], &plan, &err) != ADM_EINPUT && strcmp(bad[i], "0-31:dense,") != 0)
            fail_msg("'%s' was read", bad[i]);
    adm_plan_uniform(m, 256, 2, &plan);
    assert_true(plan.n_groups == 2 && plan.n_sparse == 30 && plan.budget == 256);
    adm_plan_uniform(m, 256, 99, &plan);
    assert_int_equal(plan.n_sparse, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_request_is_served_when_a_plain_engine_serves_it),
        cmocka_unit_test(one_request_by_hand),
        cmocka_unit_test(what_can_never_fit_is_refused_and_its_follower_served),
        cmocka_unit_test(a_request_waits_for_its_parent_unless_the_loop_is_open),
        cmocka_unit_test(equal_blocks_are_computed_once),
        cmocka_unit_test(options_out_of_range_are_refused),
        cmocka_unit_test(a_cache_keeps_count),
        cmocka_unit_test(a_heap_gives_the_least_first),
        cmocka_unit_test(budgets_per_layer_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
