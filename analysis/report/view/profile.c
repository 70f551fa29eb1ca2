/* profile.c: what the views of GPU profiles share: finding rows, and the heading. */
#include "analysis/report/view/profile.h"

#include <math.h>
#include <string.h>

#include "analysis/report/view/document.h"
#include "analysis/report/view/write.h"

size_t adm_n_profiles(const json_t *document) { return json_array_size(json_object_get(document, "profiles")); }

const json_t *adm_profile(const json_t *document, size_t profile) {
    return json_array_get(json_object_get(document, "profiles"), profile);
}

bool adm_row_is_of(const json_t *row, size_t profile) { return adm_field_int(row, "profile") == (int64_t)profile; }

const json_t *adm_row_config(const json_t *document, const json_t *row) {
    const json_t *at = json_object_get(row, "config");
    if (!json_is_integer(at)) return NULL;
    return json_array_get(json_object_get(document, "configs"), (size_t)json_integer_value(at));
}

bool adm_setting_fits(const json_t *setting, const json_t *config) {
    static const char *const firm[] = {"n_q_heads", "n_kv_heads", "head_dim",  "dtype",      "batch",
                                       "cache",     "launch",     "page_size", "batch_lens", "inputs"};
    static const char *const loose[] = {"selection", "n_sinks", "n_recent"};
    for (size_t k = 0; k < sizeof firm / sizeof firm[0]; k++)
        if (!json_equal(json_object_get(setting, firm[k]), json_object_get(config, firm[k]))) return false;
    for (size_t k = 0; k < sizeof loose / sizeof loose[0]; k++) {
        const json_t *a = json_object_get(setting, loose[k]), *b = json_object_get(config, loose[k]);
        if (!json_is_null(a) && !json_is_null(b) && !json_equal(a, b)) return false;
    }
    return true;
}

const json_t *adm_find_unit(const json_t *document, const json_t *setting, const char *stage, const char *variant,
                            int64_t seq_len, int64_t budget) {
    const json_t *best = NULL;
    double best_ns = 0, ns;
    size_t i;
    json_t *unit;
    json_array_foreach(adm_document_rows(document, "units"), i, unit) {
        const json_t *config = adm_row_config(document, unit);
        if (adm_field_int(unit, "profile") != adm_field_int(setting, "profile") ||
            strcmp(adm_field_text(unit, "stage"), stage) != 0 || adm_field_int(config, "seq_len") != seq_len ||
            (budget != 0 && adm_field_int(config, "budget") != budget && adm_field_int(config, "budget") != 0) ||
            (variant != NULL && strcmp(adm_field_text(config, "variant"), variant) != 0) ||
            !adm_field_number(unit, "median", &ns) || !adm_setting_fits(setting, config))
            continue;
        if (best == NULL || ns < best_ns) {
            best = unit;
            best_ns = ns;
        }
    }
    return best;
}

static const json_t *run_of(const json_t *document, const json_t *profile) {
    size_t i;
    json_t *run;
    json_array_foreach(adm_document_rows(document, "runs"), i,
                       run) if (adm_field_int(run, "run_id") == adm_field_int(profile, "run_id")) return run;
    return NULL;
}

/* "random", or the kind and name of the trace. A run has one or the other. */
static const char *inputs_of(const json_t *document, size_t profile) {
    size_t i;
    json_t *setting;
    json_array_foreach(adm_document_rows(document, "settings"), i,
                       setting) if (adm_row_is_of(setting, profile)) return adm_field_text(setting, "inputs");
    return "random";
}

void adm_write_profile_heading(adm_text *page, const json_t *document, size_t index) {
    const json_t *profile = adm_profile(document, index);
    adm_text_add(page, "<h3>");
    adm_text_escaped(page, adm_field_text(profile, "gpu"));
    if (!json_is_true(json_object_get(profile, "is_recorded")))
        adm_text_add(page, " <span class=\"badge real\">measured</span>");
    adm_write_recorded_badge(page, run_of(document, profile));
    const char *inputs = inputs_of(document, index);
    if (strcmp(inputs, "random") != 0) {
        adm_text_add(page, " <small>tensors: ");
        adm_text_escaped(page, inputs);
        adm_text_add(page, "</small>");
    }
    adm_text_add(page, "</h3>\n<p class=\"about\">");
    adm_write_run(page, document, run_of(document, profile));
}

static void write_range(adm_text *page, const char *before, const char *words, double low, double high, const char *unit) {
    adm_text_format(page, "%s%s %.0f", before, words, low);
    if (nearbyint(low) != nearbyint(high)) adm_text_format(page, " to %.0f", high);
    adm_text_format(page, " %s", unit);
}

/* "SM clock 1755 to 1980 MHz, memory clock 3201 MHz": what NVML saw while the units were timed. */
static void write_device_state(adm_text *page, const json_t *profile) {
    static const struct {
        const char *metric, *words;
        double scale;
        const char *unit;
    } shown[] = {{"sm_clock_hz", "SM clock", 1e-6, "MHz"},
                 {"memory_clock_hz", "memory clock", 1e-6, "MHz"},
                 {"power_w", "power", 1, "W"},
                 {"temperature_c", "temperature", 1, "\u00b0C"}};
    size_t i, n_written = 0;
    json_t *row;
    double low, high;
    json_array_foreach(json_object_get(profile, "device_state"), i, row) {
        const char *metric = adm_field_text(row, "metric");
        for (size_t s = 0; s < sizeof shown / sizeof shown[0]; s++)
            if (strcmp(metric, shown[s].metric) == 0 && adm_field_number(row, "min", &low) &&
                adm_field_number(row, "max", &high))
                write_range(page, n_written++ > 0 ? ", " : " While they were timed: ", shown[s].words, low * shown[s].scale,
                            high * shown[s].scale, shown[s].unit);
        if (strcmp(metric, "throttled_ratio") == 0 && adm_field_int(row, "n_units") > 0)
            adm_text_format(page, "%s%lld of %lld units throttled at times",
                            n_written++ > 0 ? ", " : " While they were timed: ", (long long)adm_field_int(row, "n_above_zero"),
                            (long long)adm_field_int(row, "n_units"));
    }
    if (n_written > 0) adm_text_add(page, ".");
    else if (json_array_size(json_object_get(profile, "device_state")) > 0) {
        adm_text_add(page, " The state of the device is not known: ");
        adm_text_escaped(page, adm_field_text(json_array_get(json_object_get(profile, "device_state"), 0), "reason"));
        adm_text_add(page, ".");
    }
}

void adm_write_profile_about(adm_text *page, const json_t *document, size_t index) {
    const json_t *profile = adm_profile(document, index), *run = run_of(document, profile);
    double limit;
    adm_text_add(page, "<p>");
    if (json_is_true(json_object_get(profile, "is_recorded")))
        adm_text_add(page, "These figures were recorded earlier on another machine and imported; nothing here was measured on "
                           "this one. ");
    if (strcmp(adm_field_text(run, "samples"), "recorded without samples") == 0)
        adm_text_add(page, "They were recorded without samples: of every time n, the median and its 95% interval, p10 and p90 "
                           "are all that there is. ");
    if (adm_field_number(json_object_get(profile, "device"), "read_limit_bytes_per_s", &limit))
        adm_text_format(page, "A plain read kernel reached %.2f TB/s in the same run: the read limit. ", limit / 1e12);
    if (adm_field_number(json_object_get(profile, "device"), "power_limit_w", &limit))
        adm_text_format(page, "Power limit %.6g W. ", limit);
    adm_text_add(page, "Driver ");
    adm_text_escaped(page, adm_field_text(run, "driver_version"));
    adm_text_add(page, ", CUDA ");
    adm_text_escaped(page, adm_field_text(run, "cuda_version"));
    adm_text_format(page, ", commit %.10s%s.", adm_field_text(run, "git_commit"),
                    adm_field_int(run, "git_dirty") != 0 ? " with local changes" : "");
    write_device_state(page, profile);
    adm_text_add(page, "</p>\n");
}
