/* test_query.c: reading rows when memory runs out: SQLite answers NULL, and a reader must not take it for an empty text. */
#include "tests/support/store_fixture.h"

/* SQLite's allocations, of which the Nth fails; 0: none. */
static sqlite3_mem_methods real;
static long fails_at, n_allocs;

static bool fails(void) { return fails_at > 0 && ++n_allocs == fails_at; }
static void *take(int n) { return fails() ? NULL : real.xMalloc(n); }
static void *resize(void *memory, int n) { return fails() ? NULL : real.xRealloc(memory, n); }

static void use_failing_memory(void) {
    sqlite3_mem_methods ours;
    assert_int_equal(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real), SQLITE_OK);
    ours = real;
    ours.xMalloc = take;
    ours.xRealloc = resize;
    assert_int_equal(sqlite3_config(SQLITE_CONFIG_MALLOC, &ours), SQLITE_OK);
    assert_int_equal(sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0), SQLITE_OK); /* or small ones would not be asked for */
}

/* The one text of a query, and the number behind it as text. */
static adm_status read_one(adm_store *store, const char *sql, char text[64], char number[64], bool *row, adm_error *err) {
    adm_query *query = NULL;
    bool more = false;
    adm_status status = adm_query_open(store, sql, &query, err, "");
    if (status == ADM_OK) status = adm_query_next(query, row, err);
    if (status == ADM_OK && *row) {
        snprintf(text, 64, "%s", adm_query_text(query, 0));
        snprintf(number, 64, "%s", adm_query_text(query, 1));
        status = adm_query_next(query, &more, err);
        assert_true(status != ADM_OK || strlen(number) > 0); /* a number that could not be converted is told of here */
        status = ADM_OK;
    }
    adm_query_close(&query);
    return status;
}

static void check_every_allocation(fixture *f, const char *sql, const char *want) {
    adm_store *store;
    long n_failed = 0;
    char text[64], number[64];
    OK(adm_store_open(f->db, ADM_STORE_READ, &store, &f->err));
    for (long n = 1; n < 10000; n++) {
        bool row = false;
        n_allocs = 0;
        fails_at = n;
        adm_status status = read_one(store, sql, text, number, &row, &f->err);
        const bool was_met = n_allocs >= n;
        fails_at = 0;
        if (status == ADM_OK) {
            assert_true(row);
            assert_string_equal(text, want);
        } else {
            FAILS(ADM_EENVIRONMENT, status, "memory");
            n_failed++;
        }
        if (!was_met) break;
    }
    assert_true(n_failed > 5 && fails_at == 0);
    adm_store_close(&store);
}

/* Texts that SQLite has to end by NUL, in allocated memory, before it hands them over. */
static void a_text_is_whole_or_there_is_an_error(void **state) {
    fixture *f = *state;
    adm_store *store;
    OK(adm_store_open(f->db, ADM_STORE_WRITE, &store, &f->err));
    adm_store_close(&store);
    check_every_allocation(f, "SELECT substr('adamas lab', 1, 6), 12345", "adamas");
    check_every_allocation(f, "SELECT upper('adamas'), 0.5", "ADAMAS");
}

/* A database whose texts are UTF-16, and converted one by one. */
static void a_converted_text_is_whole_or_there_is_an_error(void **state) {
    fixture *f = *state;
    adm_store *store;
    raw_exec(f->db, "PRAGMA encoding = 'UTF-16le'; CREATE TABLE x (a)");
    raw_exec(f->db, "DROP TABLE x");
    OK(adm_store_open(f->db, ADM_STORE_WRITE, &store, &f->err));
    adm_store_close(&store);
    assert_string_equal(RAW("PRAGMA encoding"), "UTF-16le");
    check_every_allocation(f, "SELECT name, 1234567 FROM sqlite_schema WHERE name = 'measurement'", "measurement");
}

/* A schema that could not be read for lack of memory is no damaged one. */
static void memory_that_runs_out_is_no_damage(void **state) {
    fixture *f = *state;
    adm_store *store = NULL;
    adm_status status = ADM_EENVIRONMENT;
    raw_exec(f->db, "PRAGMA encoding = 'UTF-16le'; CREATE TABLE x (a)");
    raw_exec(f->db, "DROP TABLE x");
    OK(adm_store_open(f->db, ADM_STORE_WRITE, &store, &f->err));
    adm_store_close(&store);
    for (long n = 1; status != ADM_OK; n += 1 + n / 64) {
        n_allocs = 0;
        fails_at = n;
        status = adm_store_open(f->db, ADM_STORE_READ, &store, &f->err);
        fails_at = 0;
        if (status != ADM_OK) FAILS(ADM_EENVIRONMENT, status, "memory");
        adm_store_close(&store);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        STORE_TEST(a_text_is_whole_or_there_is_an_error),
        STORE_TEST(a_converted_text_is_whole_or_there_is_an_error),
        STORE_TEST(memory_that_runs_out_is_no_damage),
    };
    use_failing_memory();
    return cmocka_run_group_tests_name("query", tests, NULL, NULL);
}
