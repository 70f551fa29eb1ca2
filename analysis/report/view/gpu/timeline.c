/* timeline.c: the kernels of one decode step in the order in which the GPU ran them, and the gaps between. */
#include "analysis/report/view/gpu/timeline.h"

#include <string.h>

#include "analysis/report/view/document.h"
#include "analysis/report/view/profile.h"
#include "analysis/report/view/write.h"

/* One step is a run of rows of "timelines" with the same profile and configuration: [first, end). */
static size_t end_of_step(const json_t *rows, size_t first) {
    const json_t *row = json_array_get(rows, first);
    size_t end = first;
    while (end < json_array_size(rows) &&
           json_equal(json_object_get(json_array_get(rows, end), "config"), json_object_get(row, "config")) &&
           adm_field_int(json_array_get(rows, end), "profile") == adm_field_int(row, "profile"))
        end++;
    return end;
}

/* The cells of one activity. */
static void write_activity(adm_text *page, const json_t *row, int64_t idle_since_ns) {
    int64_t start = adm_field_int(row, "start_ns"), end = adm_field_int(row, "end_ns");
    adm_write_number_cell(page, (double)start, "ns");
    adm_write_number_cell(page, (double)(end - start), "ns");
    if (start >= idle_since_ns) adm_write_number_cell(page, (double)(start - idle_since_ns), "ns");
    else adm_text_add(page, "<td class=\"none\">overlaps</td>");
    adm_write_text_cell(page, row, "stage");
    adm_write_text_cell(page, row, "name");
    if (strcmp(adm_field_text(row, "kind"), "kernel") == 0) {
        adm_write_count_cell(page, row, "n_blocks", "");
        adm_write_count_cell(page, row, "n_threads", "");
        adm_write_count_cell(page, row, "registers", "");
        adm_write_count_cell(page, row, "shared_bytes", "");
    } else {
        adm_text_add(page, "<td class=\"none text\" colspan=\"4\">");
        adm_text_escaped(page, adm_field_text(row, "kind"));
        adm_text_format(page, " of %lld bytes</td>", (long long)adm_field_int(row, "bytes"));
    }
    adm_text_add(page, "</tr>\n");
}

static void write_steps(adm_text *page, const json_t *document, const json_t *rows, int64_t profile) {
    static const char *const numbers[] = {"seq_len", "budget", "n_kv_heads", "batch"};
    size_t n_rows = 0;
    for (size_t i = 0; i < json_array_size(rows); i++) n_rows += adm_row_is_of(json_array_get(rows, i), (size_t)profile);
    adm_write_table_start(page, document, "Every kernel", n_rows, false, NULL);
    adm_text_format(
        page, ADM_SQL("SELECT * FROM activity WHERE run_id = %lld AND step IS NOT NULL ORDER BY config_id, step, start_ns"),
        (long long)adm_field_int(adm_profile(document, (size_t)profile), "run_id"));
    adm_write_table_head(page, "<step|length, tokens|budget, tokens|KV heads|batch|<launches|start, \u00b5s|duration, \u00b5s|"
                               "idle before, \u00b5s|<stage|<kernel|blocks|threads per block|registers|shared memory, bytes");
    for (size_t first = 0, end; first < json_array_size(rows); first = end) {
        int64_t idle_since_ns = 0;
        end = end_of_step(rows, first);
        for (size_t i = first; i < end && adm_row_is_of(json_array_get(rows, first), (size_t)profile); i++) {
            const json_t *row = json_array_get(rows, i), *config = adm_row_config(document, row);
            adm_write_row_start(page, i == first);
            adm_text_add(page, "<th scope=\"row\">");
            adm_text_escaped(page, adm_field_text(config, "variant"));
            adm_text_add(page, "</th>");
            for (size_t k = 0; k < sizeof numbers / sizeof numbers[0]; k++)
                adm_write_count_cell(page, config, numbers[k], "any");
            adm_write_text_cell(page, config, "launch");
            write_activity(page, row, idle_since_ns);
            if (adm_field_int(row, "end_ns") > idle_since_ns) idle_since_ns = adm_field_int(row, "end_ns");
        }
    }
    adm_write_table_end(page);
}

void adm_view_timeline(adm_text *page, const json_t *document) {
    const json_t *rows = adm_document_rows(document, "timelines");
    int64_t headed = -1;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        int64_t profile = adm_field_int(json_array_get(rows, i), "profile");
        if (profile == headed) continue;
        headed = profile;
        adm_write_part_start(page, "gpu", (size_t)profile);
        adm_write_profile_heading(page, document, (size_t)profile);
        adm_write_gpu_plot(
            page, "timeline", (size_t)profile,
            ADM_MARKUP("<strong>One decode step</strong> as the GPU ran it: one bar per kernel, one row per stage, or a kernel "
                       "where several stages share it; dotted: launch gaps. Kernels may overlap: one may start while the last "
                       "blocks of the one before still run. The step shown is the one of median duration among those "
                       "traced."));
        write_steps(page, document, rows, profile);
        adm_write_part_end(page);
    }
}
