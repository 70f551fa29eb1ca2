/* test_store_insert.c: rows whose columns are known only at run time. */
#include "tests/support/store_fixture.h"

#include "core/store/insert.h"

static const char *const columns[] = {"name", "unit", "better", "description"};

static adm_value text(const char *s) { return (adm_value){.type = 's', .s = s}; }

static void rows_go_in_and_come_out(void **state) {
    fixture *f = *state;
    adm_store *store;
    adm_insert *insert;
    adm_query *query;
    int64_t first, second;
    bool row;
    OK(adm_store_open(f->db, ADM_STORE_WRITE, &store, &f->err));
    OK(adm_insert_open(store, "metric", columns, 4, &insert, &f->err));
    OK(adm_insert_row(insert, (adm_value[]){text("a"), text("ns"), text("lower"), text("x")}, &first, &f->err));
    OK(adm_insert_row(insert, (adm_value[]){text("b \"'\xc3\xa4"), text("1"), text("none"), text("")}, &second, &f->err));
    adm_insert_close(&insert);
    assert_null(insert);
    assert_true(second == first + 1);
    const adm_value wanted[] = {text("b \"'\xc3\xa4"), {.type = 'i', .i = second}, {.type = 'n'}, {.type = 'd', .d = 0.5}};
    OK(adm_query_open_values(store, "SELECT unit, ?4 FROM metric WHERE name = ?1 AND metric_id = ?2 AND ?3 IS NULL", wanted, 4,
                             &query, &f->err));
    OK(adm_query_next(query, &row, &f->err));
    assert_true(row);
    assert_string_equal(adm_query_text(query, 0), "1");
    assert_true(adm_query_double(query, 1) == 0.5);
    adm_query_close(&query);
    OK(adm_store_flush(store, &f->err));
    adm_store_close(&store);
    assert_string_equal(RAW("SELECT count(*) FROM metric"), "2");
}

/* A row against the schema's rules is the input's fault, said on one line, and takes the batch back. */
static void a_wrong_row_takes_the_batch_back(void **state) {
    fixture *f = *state;
    adm_store *store;
    adm_insert *insert;
    OK(adm_store_open(f->db, ADM_STORE_WRITE, &store, &f->err));
    OK(adm_insert_open(store, "metric", columns, 4, &insert, &f->err));
    OK(adm_insert_row(insert, (adm_value[]){text("a"), text("ns"), text("lower"), text("x")}, NULL, &f->err));
    FAILS(ADM_EINPUT, adm_insert_row(insert, (adm_value[]){text("b"), text("ns"), text("sideways"), text("x")}, NULL, &f->err),
          f->db, "CHECK");
    assert_null(strchr(f->err.text, '\n'));
    FAILS(ADM_EINPUT, adm_insert_row(insert, (adm_value[]){text("b"), {.type = 'n'}, text("lower"), text("x")}, NULL, &f->err),
          "NOT NULL", "unit");
    FAILS(ADM_EINPUT,
          adm_insert_row(insert, (adm_value[]){{.type = 'i', .i = 7}, {.type = 'd', .d = 1}, text("lower"), {.type = 'n'}},
                         NULL, &f->err),
          "metric");
    OK(adm_insert_row(insert, (adm_value[]){text("c"), text("ns"), text("lower"), text("x")}, NULL, &f->err));
    adm_insert_close(&insert);
    OK(adm_store_flush(store, &f->err));
    adm_store_close(&store);
    assert_string_equal(RAW("SELECT group_concat(name) FROM metric"), "c");
}

static void a_discarded_batch_leaves_nothing(void **state) {
    fixture *f = *state;
    adm_store *store;
    adm_insert *insert;
    OK(adm_store_open(f->db, ADM_STORE_WRITE, &store, &f->err));
    OK(adm_insert_open(store, "metric", columns, 4, &insert, &f->err));
    OK(adm_insert_row(insert, (adm_value[]){text("a"), text("ns"), text("lower"), text("x")}, NULL, &f->err));
    adm_insert_close(&insert);
    adm_store_rollback(store);
    adm_store_rollback(store);
    OK(adm_store_flush(store, &f->err));
    adm_store_close(&store);
    assert_string_equal(RAW("SELECT count(*) FROM metric"), "0");
}

static void what_cannot_be_prepared_is_said(void **state) {
    fixture *f = *state;
    adm_store *store;
    adm_insert *insert;
    adm_query *query;
    OK(adm_store_open(f->db, ADM_STORE_WRITE, &store, &f->err));
    FAILS(ADM_EINTERNAL, adm_insert_open(store, "no \"table", columns, 4, &insert, &f->err), "no such table");
    assert_null(insert);
    FAILS(ADM_EINTERNAL, adm_query_open_values(store, "DELETE FROM run", NULL, 0, &query, &f->err), "one SELECT");
    assert_null(query);
    const adm_value wrong = {.type = 'x'};
    FAILS(ADM_EINTERNAL, adm_query_open_values(store, "SELECT ?", &wrong, 1, &query, &f->err), "preparing");
    adm_store_close(&store);
    OK(adm_store_open(f->db, ADM_STORE_READ, &store, &f->err));
    OK(adm_insert_open(store, "metric", columns, 4, &insert, &f->err));
    FAILS(ADM_EINTERNAL, adm_insert_row(insert, (adm_value[]){text("a"), text("b"), text("none"), text("x")}, NULL, &f->err),
          "reading only");
    adm_insert_close(&insert);
    adm_store_close(&store);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        STORE_TEST(rows_go_in_and_come_out),
        STORE_TEST(a_wrong_row_takes_the_batch_back),
        STORE_TEST(a_discarded_batch_leaves_nothing),
        STORE_TEST(what_cannot_be_prepared_is_said),
    };
    return cmocka_run_group_tests_name("store_insert", tests, NULL, NULL);
}
