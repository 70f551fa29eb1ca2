/* test_step_choice.c: which step of one launch is the one for a shape. */
#include "kernels/step/choice.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static adm_gpu_shape shape_of(uint32_t n_q, uint32_t n_kv, uint32_t batch, uint32_t capacity, uint32_t budget) {
    return (adm_gpu_shape){
        .heads = {n_q, n_kv, 128}, .dtype = ADM_F16, .batch = batch, .capacity = capacity, .rule = {budget, 4, 64}};
}

/* What was measured on an H200, point by point: kernels/LOG.md. */
static void measured_points(void **state) {
    (void)state;
    static const struct {
        uint32_t n_q, n_kv, batch, capacity, budget;
        bool grouped, fused;
    } points[] = {
        {32, 8, 1, 8192, 256, true, true},      {32, 8, 1, 4096, 256, false, true},     {64, 8, 1, 16384, 256, false, true},
        {64, 8, 1, 32768, 256, true, true},     {28, 4, 1, 16384, 256, true, true},     {28, 4, 1, 8192, 256, false, true},
        {32, 32, 1, 131072, 256, true, true},   {32, 8, 1, 32768, 4096, false, false},  {32, 8, 4, 32768, 256, false, true},
        {32, 8, 8, 131072, 512, true, false},   {32, 8, 8, 131072, 1024, true, false},  {32, 8, 8, 131072, 2048, false, true},
        {32, 8, 8, 131072, 4096, false, false}, {32, 32, 8, 131072, 4096, false, true}, {32, 8, 1, 8192, 1024, false, true},
        {64, 8, 1, 32768, 4096, false, true},   {32, 8, 8, 16384, 1024, true, true},    {32, 8, 8, 8192, 512, true, true},
        {32, 8, 8, 32768, 2048, false, false},  {32, 8, 1, 32768, 2048, true, true},    {32, 8, 1, 16384, 4096, false, false},
        {64, 8, 1, 524288, 256, true, false},   {64, 8, 1, 524288, 1024, false, false}, {32, 8, 1, 524288, 1024, true, false},
        {32, 8, 1, 131072, 128, true, false},   {28, 4, 1, 131072, 256, true, false},   {32, 8, 2, 131072, 256, false, true},
        {32, 8, 8, 32768, 4096, false, false},  {32, 8, 8, 32768, 1024, true, true},    {32, 8, 8, 16384, 4096, false, true},
        {32, 32, 1, 16384, 4096, false, false}, {32, 32, 1, 8192, 4096, false, true},   {32, 32, 1, 131072, 2048, true, true},
        {32, 32, 1, 32768, 256, true, true},    {32, 32, 1, 32768, 2048, false, true},  {32, 32, 1, 16384, 256, false, true},
        {16, 16, 1, 131072, 256, true, true},   {40, 40, 1, 32768, 256, true, true},    {32, 32, 2, 32768, 256, false, true},
        {8, 8, 1, 131072, 256, false, true},
    };
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        const adm_gpu_shape shape = shape_of(points[i].n_q, points[i].n_kv, points[i].batch, points[i].capacity,
                                             points[i].budget);
        const char *grouped = adm_step_why_not_grouped(&shape), *fused = adm_step_why_not_fused(&shape);
        assert_int_equal(grouped == NULL, points[i].grouped);
        assert_int_equal(fused == NULL, points[i].fused);
        if (grouped != NULL) assert_true(strlen(grouped) > 20);
        if (fused != NULL) assert_true(strlen(fused) > 20);
    }
}

/* Of a selection that a group shares: the same table. */
static void measured_points_of_shared_selections(void **state) {
    (void)state;
    static const struct {
        uint32_t n_q, n_kv, batch, capacity, budget;
        bool grouped, fused;
    } points[] = {
        {32, 8, 1, 1024, 64, true, false},      {32, 8, 1, 32768, 256, true, false},   {64, 8, 1, 131072, 256, true, false},
        {28, 4, 1, 8192, 256, true, false},     {32, 1, 1, 32768, 256, true, false},   {32, 8, 2, 131072, 256, true, false},
        {32, 8, 4, 32768, 256, true, false},    {32, 8, 1, 131072, 1024, true, false}, {32, 8, 1, 16384, 4096, false, false},
        {32, 8, 1, 1024, 4096, true, false},    {32, 8, 1, 524288, 256, false, false}, {32, 8, 8, 131072, 1024, true, false},
        {32, 8, 8, 32768, 4096, false, false},  {32, 8, 1, 8192, 2048, false, false},  {32, 8, 1, 32768, 2048, true, false},
        {28, 4, 1, 131072, 2048, false, false}, {32, 32, 1, 32768, 256, true, true}, /* groups of one share nothing */
    };
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        adm_gpu_shape shape = shape_of(points[i].n_q, points[i].n_kv, points[i].batch, points[i].capacity, points[i].budget);
        shape.selection = ADM_SELECT_GROUP;
        assert_int_equal(adm_step_why_not_grouped(&shape) == NULL, points[i].grouped);
        assert_int_equal(adm_step_why_not_fused(&shape) == NULL, points[i].fused);
    }
}

/* By asym4 the grouped step takes what six stages do not select from, and all but shared selections from very long rows. */
static void measured_points_of_four_bits(void **state) {
    (void)state;
    static const struct {
        uint32_t n_q, n_kv, capacity;
        adm_selection selection;
        bool grouped;
    } points[] = {
        {32, 8, 131072, ADM_SELECT_GROUP, true}, {32, 8, 524288, ADM_SELECT_GROUP, false},
        {32, 8, 524288, ADM_SELECT_HEAD, true},  {64, 8, 524288, ADM_SELECT_GROUP, true},
        {32, 32, 32768, ADM_SELECT_HEAD, true},
    };
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        adm_gpu_shape shape = shape_of(points[i].n_q, points[i].n_kv, 1, points[i].capacity, 256);
        shape.selection = points[i].selection, shape.metric = ADM_METRIC_ASYM4;
        assert_int_equal(adm_step_why_not_grouped(&shape) == NULL, points[i].grouped);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(measured_points),
        cmocka_unit_test(measured_points_of_shared_selections),
        cmocka_unit_test(measured_points_of_four_bits),
    };
    return cmocka_run_group_tests_name("step_choice", tests, NULL, NULL);
}
