/* test_cost.c: the rules of the cost model, each on figures worked out by hand. */
#include "tests/support/stage_check.h"

#include "analysis/cost/cost.h"
#include "analysis/cost/curve.h"
#include "analysis/cost/linear.h"
#include "analysis/cost/validate.h"
#include "core/base/mem.h"
#include "core/stats/rng.h"

/* Dense attention of 1 KV head of 64: in and out 256 bytes and 256 bytes a token, so a read limit of 2.56e11 bytes/s makes 1 ns
 * a token, and 1 ns more. */
static const adm_shape shape = {1, 1, 64};
static const double limit = 2.56e11;

static adm_cost_grid grid_of(adm_cost_point *points, size_t n, int stage) {
    adm_sort(points, n, sizeof *points, adm_cost_point_order);
    return (adm_cost_grid){
        .stage = stage, .variant = "x", .shape = shape, .element_bytes = 2, .point = points, .n = n, .read_bytes_per_s = limit};
}

static void check(const adm_cost_grid *g, double len, double budget, double batch, double ns, adm_cost_rule rule,
                  double reach) {
    const adm_cost_time t = adm_cost_grid_at(g, (adm_cost_at){len, budget, batch});
    if (t.rule != rule || t.ns < ns * (1 - 1e-12) || t.ns > ns * (1 + 1e-12) || t.reach < reach - 1e-9 ||
        t.reach > reach + 1e-9)
        fail_msg("len %g budget %g batch %g: %.17g ns, %s, %g; wanted %.17g ns, %s, %g", len, budget, batch, t.ns,
                 adm_cost_rule_name(t.rule), t.reach, ns, adm_cost_rule_name(rule), reach);
}

static void a_line_between_points_and_its_slope_beyond(void **state) {
    (void)state;
    adm_cost_point p[] = {{{1000, 0, 1}, 3000}, {{4000, 0, 1}, 9000}, {{2000, 0, 1}, 5000}};
    const adm_cost_grid g = grid_of(p, 3, ADM_STAGE_DENSE);
    check(&g, 2000, 0, 1, 5000, ADM_COST_MEASURED, 1);
    check(&g, 3000, 0, 1, 7000, ADM_COST_INTERPOLATED, 4.0 / 3);
    check(&g, 8000, 0, 1, 17000, ADM_COST_HELD, 2); /* 2 ns a token goes on */
    check(&g, 500, 0, 1, 2000, ADM_COST_HELD, 2);
}

/* A slope below the read limit's 1 ns a token, or one that falls, would be faster than the memory. */
static void nothing_beyond_the_grid_is_faster_than_the_read_limit(void **state) {
    (void)state;
    adm_cost_point p[] = {{{1000, 0, 1}, 4000}, {{2000, 0, 1}, 4100}};
    const adm_cost_grid g = grid_of(p, 2, ADM_STAGE_DENSE);
    check(&g, 10000, 0, 1, 4100 + 8000, ADM_COST_HELD, 5);
    adm_cost_point falling[] = {{{1000, 0, 1}, 5000}, {{2000, 0, 1}, 4000}};
    const adm_cost_grid f = grid_of(falling, 2, ADM_STAGE_DENSE);
    check(&f, 3000, 0, 1, 5000, ADM_COST_HELD, 1.5);
    check(&f, 500, 0, 1, 5000, ADM_COST_HELD, 2); /* and a smaller one is not slower than its neighbour */
}

/* Below the grid the share of the limit gets no better: 1001 of 4004 ns at 1000 tokens, so 11 of 44 at 10. */
static void below_the_grid_the_share_gets_no_better(void **state) {
    (void)state;
    adm_cost_point p[] = {{{1000, 0, 1}, 4004}, {{2000, 0, 1}, 9000}};
    const adm_cost_grid g = grid_of(p, 2, ADM_STAGE_DENSE);
    check(&g, 10, 0, 1, 44, ADM_COST_HELD, 100);
}

/* A sequence of 999 tokens moves 1000 ns of bytes; the second to fourth add 3000, at the rate that added tokens show: 2 ns
 * each. */
static void a_single_batch_grows_as_its_lengths_do(void **state) {
    (void)state;
    adm_cost_point p[] = {{{999, 0, 1}, 2500}, {{1999, 0, 1}, 4500}};
    const adm_cost_grid g = grid_of(p, 2, ADM_STAGE_DENSE), single = grid_of(p, 1, ADM_STAGE_DENSE);
    check(&g, 999, 0, 4, 2500 + 2 * 3000, ADM_COST_HELD, 4);
    check(&single, 999, 0, 4, 2500 + 3000, ADM_COST_HELD, 4); /* at the read limit */
    check(&single, 1999, 0, 1, 3500, ADM_COST_HELD, 1999.0 / 999);
}

/* A hole of the grid is filled along the axis whose neighbours are nearest: here the budget's, a factor of 2 against 4. */
static void a_hole_is_filled_from_its_nearest_neighbours(void **state) {
    (void)state;
    adm_cost_point p[] = {{{1000, 100, 1}, 10}, {{1000, 150, 1}, 15}, {{1000, 200, 1}, 20}, {{2000, 100, 1}, 25},
                          {{2000, 200, 1}, 45}, {{4000, 100, 1}, 55}, {{4000, 150, 1}, 70}, {{4000, 200, 1}, 95}};
    const adm_cost_grid g = grid_of(p, 8, ADM_STAGE_STEP);
    check(&g, 2000, 150, 1, 35, ADM_COST_INTERPOLATED, 4.0 / 3);
    /* Off the grid on two axes: at 3000 tokens the budgets 100, 150 and 200 take 40, 155/3 and 70, which are slopes of 7/30 and
     * 11/30. Their harmonic mean is 154/540; the parabola leaves with 13/30. */
    check(&g, 3000, 175, 1, (155.0 / 3 + 70) / 2 + 50 / 4.0 * (154.0 / 540 - 13.0 / 30) / 2, ADM_COST_INTERPOLATED, 4.0 / 3);
}

/* Times whose growth slackens lie above the straight line; a curve through them never leaves the range of its neighbours. */
static void times_that_bend_are_followed_between_their_neighbours(void **state) {
    (void)state;
    adm_cost_curve c = {{0, 1, 2, 3}, {0, 7, 10, 11}, true, true};
    assert_true(adm_cost_curve_at(&c, 1) == 7 && adm_cost_curve_at(&c, 2) == 10);
    /* Slopes 7, 3, 1: harmonic means 4.2 and 1.5. */
    const double middle = adm_cost_curve_at(&c, 1.5), wanted = 8.5 + (4.2 - 1.5) / 8;
    assert_true(middle > wanted - 1e-12 && middle < wanted + 1e-12);
    c.has_before = c.has_after = false;
    assert_true(adm_cost_curve_at(&c, 1.5) == 8.5);
    adm_rng rng;
    adm_rng_seed(&rng, check_seed());
    for (int i = 0; i < 2000; i++) {
        double at = 0;
        for (int k = 0; k < 4; k++) {
            c.x[k] = at += 1 + (double)adm_rng_below(&rng, 1000);
            c.y[k] = (double)adm_rng_below(&rng, 1000);
        }
        c.has_before = adm_rng_below(&rng, 2) == 0;
        c.has_after = adm_rng_below(&rng, 2) == 0;
        const double low = c.y[1] < c.y[2] ? c.y[1] : c.y[2], high = c.y[1] < c.y[2] ? c.y[2] : c.y[1];
        for (int k = 0; k <= 16; k++) {
            const double y = adm_cost_curve_at(&c, c.x[1] + (c.x[2] - c.x[1]) * k / 16);
            assert_true(y >= low - 1e-9 && y <= high + 1e-9);
        }
    }
}

static adm_cost model_of(adm_cost_grid *grids, size_t n) {
    adm_cost c = {.run_id = 1, .grid = grids, .n_grids = n};
    c.measured = (adm_cost_device){"GPU", limit, 1e14, 80e9, 1e11};
    c.device = c.measured;
    return c;
}

static adm_cost_question ask(adm_shape s, double len, double batch) {
    return (adm_cost_question){.stage = ADM_STAGE_DENSE, .shape = s, .element_bytes = 2, .at = {len, 0, batch}};
}

static void another_shape_counts_at_equal_bytes(void **state) {
    (void)state;
    adm_cost_point p[] = {{{1000, 0, 1}, 3000}, {{1000, 0, 4}, 9000}};
    adm_cost_grid g = grid_of(p, 2, ADM_STAGE_DENSE);
    const adm_cost c = model_of(&g, 1);
    adm_cost_answer a;
    adm_cost_question q = ask((adm_shape){2, 2, 64}, 1000, 1); /* twice the bytes: batch 2 */
    assert_int_equal(adm_cost_ask(&c, &q, &a, NULL), ADM_OK);
    assert_int_equal(a.time.rule, ADM_COST_OTHER_SHAPE);
    assert_true(a.time.ns == 5000 && a.time.reach == 2);
    q = ask(shape, 1000, 1);
    assert_int_equal(adm_cost_ask(&c, &q, &a, NULL), ADM_OK);
    assert_int_equal(a.time.rule, ADM_COST_MEASURED);
}

static void the_fastest_variant_unless_one_is_named(void **state) {
    (void)state;
    adm_cost_point slow[] = {{{1000, 0, 1}, 3000}}, fast[] = {{{1000, 0, 1}, 2000}};
    adm_cost_grid g[] = {grid_of(slow, 1, ADM_STAGE_DENSE), grid_of(fast, 1, ADM_STAGE_DENSE)};
    snprintf(g[1].variant, sizeof g[1].variant, "y");
    const adm_cost c = model_of(g, 2);
    adm_cost_answer a;
    adm_error err;
    adm_cost_question q = ask(shape, 1000, 1);
    assert_int_equal(adm_cost_ask(&c, &q, &a, NULL), ADM_OK);
    assert_ptr_equal(a.grid, &g[1]);
    q.variant = "x";
    assert_int_equal(adm_cost_ask(&c, &q, &a, NULL), ADM_OK);
    assert_ptr_equal(a.grid, &g[0]);
    q.variant = "z";
    assert_int_equal(adm_cost_ask(&c, &q, &a, &err), ADM_EINPUT);
    assert_non_null(strstr(err.text, "no anchor for stage dense, variant z"));
    q = (adm_cost_question){.stage = ADM_STAGE_TOPK, .shape = shape, .element_bytes = 2, .at = {1, 1, 1}};
    assert_int_equal(adm_cost_ask(&c, &q, &a, &err), ADM_EINPUT);
    assert_non_null(strstr(err.text, "no anchor for stage topk"));
}

/* 3000 ns, of them 1001 for bytes; at half the bandwidth those take twice as long. */
static void another_gpu_moves_the_bytes_at_its_own_rate(void **state) {
    (void)state;
    adm_cost_point p[] = {{{1000, 0, 1}, 3000}};
    adm_cost_grid g = grid_of(p, 1, ADM_STAGE_DENSE);
    adm_cost c = model_of(&g, 1);
    adm_cost_answer a;
    c.device.read_bytes_per_s /= 2;
    const adm_cost_question q = ask(shape, 1000, 1);
    assert_int_equal(adm_cost_ask(&c, &q, &a, NULL), ADM_OK);
    assert_true(a.time.ns > 4000.999 && a.time.ns < 4001.001);
}

static void mixed_lengths_take_the_longest_and_the_skew(void **state) {
    (void)state;
    adm_cost c = model_of(NULL, 0);
    assert_true(adm_cost_mixed_ns(&c, 100, 80, 300, 100) == 100);
    assert_true(adm_cost_mixed_ns(&c, 100, 180, 300, 100) == 180);
    c.skew = 0.1;
    assert_true(adm_cost_mixed_ns(&c, 100, 80, 300, 100) == 100 * (1 + 0.1 * 2));
    assert_true(adm_cost_mixed_ns(&c, 100, 80, 100, 100) == 100);
}

static void matrix_products_are_bound_by_bytes_then_arithmetic_then_measured(void **state) {
    (void)state;
    adm_cost c = model_of(NULL, 0);
    const adm_model m = {"m", {1, 1, 64}, 2, 64, 100, 1000, 1, 2, 2, true};
    const double layers = 2 * (64 * (4 * 64 + 3 * 100.0)), head = 64 * 1000.0;
    adm_cost_time t = adm_cost_linear(&c, &m, 0.5, 1, 1);
    assert_int_equal(t.rule, ADM_COST_BYTES);
    assert_true(t.ns == (layers + head) * 2 / limit * 1e9);
    t = adm_cost_linear(&c, &m, 0.5, 4000, 1);
    assert_int_equal(t.rule, ADM_COST_FLOPS);
    assert_true(t.ns == 2 * (layers * 4000 + head) / (1e14 * 0.5) * 1e9);
    adm_cost_whole whole[] = {{"m", ADM_COST_LINEAR, 1, 100, 5000, 0, 0},
                              {"m", ADM_COST_LINEAR, 4, 100, 8000, 0, 0},
                              {"other", ADM_COST_LINEAR, 1, 1, 1, 0, 0}};
    c.whole = whole;
    c.n_whole = 3;
    t = adm_cost_linear(&c, &m, 0.5, 1, 1);
    assert_true(t.rule == ADM_COST_MEASURED && t.ns == 5000);
    t = adm_cost_linear(&c, &m, 0.5, 2, 2);
    assert_true(t.rule == ADM_COST_INTERPOLATED && t.ns == 6000);
    t = adm_cost_linear(&c, &m, 0.5, 7, 7);
    assert_true(t.rule == ADM_COST_HELD && t.ns == 11000 && t.reach == 7.0 / 4);
    assert_true(adm_cost_rest(&c, &m, 1, false).ns == 0);
}

/* Times that lie on a plane are predicted wherever they are held out; with noise on one point, not there. */
static void a_validation_finds_what_is_wrong(void **state) {
    (void)state;
    adm_cost_point p[4 * 4 * 2];
    size_t n = 0;
    for (int b = 1; b <= 2; b++)
        for (int budget = 1; budget <= 4; budget++)
            for (int len = 1; len <= 4; len++, n++)
                p[n] = (adm_cost_point){{1000.0 * len, 100.0 * budget, b}, 1000 + 5000.0 * len + 3000.0 * budget + 70000.0 * b};
    adm_cost_grid g = grid_of(p, n, ADM_STAGE_STEP);
    adm_cost c = model_of(&g, 1);
    adm_validation v;
    c.point = p;
    c.n_points = n;
    assert_int_equal(adm_validate(&c, NULL, check_seed(), &v, NULL), ADM_OK);
    size_t n_rows = 0;
    for (size_t i = 0; i < v.n; i++) {
        if (v.row[i].what == ADM_HELD_BATCH) continue; /* of two batches one is left */
        assert_true(v.row[i].mape < 1e-9 && v.row[i].max < 1e-9);
        n_rows += v.row[i].n;
    }
    assert_true(n_rows >= 2 * 2 * 32); /* each of 32 points once per axis, over all and per stage; inner ones now and then */
    adm_validation_free(&v);
    for (size_t i = 0; i < n; i++)
        if (p[i].at.len == 2000 && p[i].at.budget == 200 && p[i].at.batch == 1) p[i].ns *= 2;
    assert_int_equal(adm_validate(&c, NULL, check_seed(), &v, NULL), ADM_OK);
    bool found = false;
    for (size_t i = 0; i < v.n; i++)
        if (v.row[i].what == ADM_HELD_ROW && v.row[i].stage == ADM_STAGE_STEP)
            found = v.row[i].max > 0.45 && v.row[i].max < 0.65; /* 0.5 of itself, more where it bends a neighbour */
    assert_true(found);
    adm_validation_free(&v);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_between_points_and_its_slope_beyond),
        cmocka_unit_test(nothing_beyond_the_grid_is_faster_than_the_read_limit),
        cmocka_unit_test(below_the_grid_the_share_gets_no_better),
        cmocka_unit_test(a_single_batch_grows_as_its_lengths_do),
        cmocka_unit_test(a_hole_is_filled_from_its_nearest_neighbours),
        cmocka_unit_test(times_that_bend_are_followed_between_their_neighbours),
        cmocka_unit_test(another_shape_counts_at_equal_bytes),
        cmocka_unit_test(the_fastest_variant_unless_one_is_named),
        cmocka_unit_test(another_gpu_moves_the_bytes_at_its_own_rate),
        cmocka_unit_test(mixed_lengths_take_the_longest_and_the_skew),
        cmocka_unit_test(a_validation_finds_what_is_wrong),
        cmocka_unit_test(matrix_products_are_bound_by_bytes_then_arithmetic_then_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
