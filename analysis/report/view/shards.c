/* shards.c: of joined runs: which machine measured a row, and a note where builds or machines meet. */
#include "analysis/report/view/shards.h"

#include <stdio.h>
#include <string.h>

#include "analysis/report/view/document.h"
#include "analysis/report/view/write.h"

/* The run's next row of "shards" from *at on; NULL after the last. */
static const json_t *next_shard(const json_t *document, int64_t run_id, size_t *at) {
    const json_t *rows = adm_document_rows(document, "shards"), *row;
    while ((row = json_array_get(rows, (*at)++)) != NULL)
        if (adm_field_int(row, "run_id") == run_id) return row;
    return NULL;
}

bool adm_run_is_joined(const json_t *document, int64_t run_id) {
    size_t at = 0;
    return next_shard(document, run_id, &at) != NULL;
}

/* How many different values the run's shards have; the first three are appended to `names` if it is not NULL. */
static size_t n_different(const json_t *document, int64_t run_id, const char *key, char *names, size_t names_bytes) {
    enum { MOST_NAMED = 3 };
    json_t *seen = json_object();
    const json_t *row;
    for (size_t at = 0; (row = next_shard(document, run_id, &at)) != NULL;) {
        const char *value = adm_field_text(row, key);
        if (json_object_get(seen, value) != NULL || json_object_set_new(seen, value, json_true()) != 0) continue;
        if (names == NULL || json_object_size(seen) > MOST_NAMED) continue;
        const size_t used = strlen(names);
        snprintf(names + used, names_bytes - used, "%s%.80s", used > 0 ? "; " : "", value);
    }
    const size_t n = json_object_size(seen), used = names != NULL ? strlen(names) : 0;
    if (names != NULL && n > MOST_NAMED) snprintf(names + used, names_bytes - used, "; and %zu more", n - MOST_NAMED);
    json_decref(seen);
    return n;
}

const char *adm_mixed_words(const json_t *document, int64_t run_id, char out[ADM_MIXED_BYTES]) {
    static const struct {
        const char *key, *words;
    } mixed[] = {{"build", "builds"}, {"kind", "kinds of machine"}};
    out[0] = '\0';
    for (size_t i = 0; i < sizeof mixed / sizeof mixed[0]; i++) {
        char names[256] = "";
        const size_t n = n_different(document, run_id, mixed[i].key, names, sizeof names), used = strlen(out);
        if (n > 1)
            snprintf(out + used, ADM_MIXED_BYTES - used, "%s%zu %s (%s)", used > 0 ? " and of " : "", n, mixed[i].words, names);
    }
    return out;
}

void adm_write_joined(adm_text *page, const json_t *document, int64_t run_id) {
    char mixed[ADM_MIXED_BYTES];
    const size_t n_hosts = n_different(document, run_id, "host", NULL, 0);
    size_t n_shards = 0;
    for (size_t at = 0; next_shard(document, run_id, &at) != NULL;) n_shards++;
    if (n_shards == 0) return;
    adm_text_format(page,
                    "<p class=\"about\">Joined from %zu shard%s, measured on %zu host%s; tables and tooltips name the host of "
                    "every row.</p>\n",
                    n_shards, n_shards == 1 ? "" : "s", n_hosts, n_hosts == 1 ? "" : "s");
    if (adm_mixed_words(document, run_id, mixed)[0] == '\0') return;
    adm_text_add(page, "<p class=\"warning\"><strong>Its rows are of ");
    adm_text_escaped(page, mixed);
    adm_text_add(page, ".</strong> Points of one line may differ for that reason alone; see the column \u201cmeasured on\u201d."
                       "</p>\n");
}

void adm_write_place_cell(adm_text *page, const json_t *row) {
    const char *place = adm_field_text(row, "place");
    adm_text_add(page, "<td class=\"text\">");
    adm_text_escaped(page, place[0] != '\0' ? place : "several shards");
    adm_text_add(page, "</td>");
}

void adm_write_shards(adm_text *page, const json_t *document, int64_t run_id) {
    size_t n = 0;
    const json_t *shard;
    for (size_t at = 0; next_shard(document, run_id, &at) != NULL;) n++;
    if (n == 0) return;
    adm_write_joined(page, document, run_id);
    adm_write_table_start(page, document, "Who measured which shard", n, false, NULL);
    adm_text_format(
        page,
        ADM_SQL("SELECT shard, host_name, cpu_model, gpu_name, gpu_uuid, git_commit, sweep_build, n_rows FROM shard "
                "WHERE run_id = %lld ORDER BY shard"),
        (long long)run_id);
    adm_write_table_head(page, "shard|<host|<processor|<GPU|<its UUID|<commit|<build|rows");
    for (size_t at = 0; (shard = next_shard(document, run_id, &at)) != NULL;) {
        static const char *const texts[] = {"host", "cpu_model", "gpu_name", "gpu_uuid", "git_commit", "build"};
        adm_text_add(page, "<tr>");
        adm_write_count_cell(page, shard, "shard", "");
        for (size_t t = 0; t < sizeof texts / sizeof texts[0]; t++) adm_write_text_cell(page, shard, texts[t]);
        adm_write_count_cell(page, shard, "n_rows", "");
        adm_text_add(page, "</tr>\n");
    }
    adm_write_table_end(page);
}
