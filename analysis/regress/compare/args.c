/* args.c: options and output files of comparisons. */
#include "analysis/regress/compare/args.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/regress/compare/export.h"
#include "analysis/regress/compare/write.h"
#include "core/base/json_text.h"
#include "core/cli/command.h"
#include "core/system/output_file.h"

enum {
    KEY_MARGIN = 0x5000,
    KEY_TOLERANCE,
    KEY_SEED,
    KEY_MARKDOWN,
    KEY_JUNIT,
    KEY_BENCHMARK,
    KEY_ACROSS,
    KEY_MISSING,
    KEY_ALL,
    KEY_AGAINST
};

static const struct argp_option options[] = {
    {"margin", KEY_MARGIN, "PERCENT", 0,
     "A time that changes by less is equivalent (default: calibrated on this machine, else 1)", 50},
    {"tolerance", KEY_TOLERANCE, "METRIC=RATIO", 0,
     "Relative difference up to which a count or quality figure is equal; may be "
     "repeated",
     50},
    {"across-machines", KEY_ACROSS, NULL, 0, "Compare times of different machines", 50},
    {"ignore-missing", KEY_MISSING, NULL, 0, "Rows that only one side has do not count (default: they are inconclusive)", 50},
    {"against", KEY_AGAINST, "NAME", 0,
     "The registry's row that the kernel of --candidate is compared with (default: the fastest)", 50},
    {"seed", KEY_SEED, "N", 0, "Seed of the draws of --calibrate (default 1)", 50},
    {"markdown", KEY_MARKDOWN, "FILE", 0, "Write a summary for a pull request", 51},
    {"junit", KEY_JUNIT, "FILE", 0, "Write JUnit XML: regressed is a failure, inconclusive is skipped", 51},
    {"benchmark-json", KEY_BENCHMARK, "FILE", 0, "Write the candidate's figures as customSmallerIsBetter JSON", 51},
    {"all", KEY_ALL, NULL, 0, "Print equivalent rows too", 51},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    adm_compare_args *a = state->input;
    switch (key) {
    case KEY_MARGIN: a->margin = arg; return 0;
    case KEY_TOLERANCE:
        if (a->n_tolerances == ADM_MAX_TOLERANCES)
            argp_error(state, "--tolerance: given more than %d times", ADM_MAX_TOLERANCES);
        a->tolerance[a->n_tolerances++] = arg;
        return 0;
    case KEY_ACROSS: a->across_machines = true; return 0;
    case KEY_MISSING: a->ignore_missing = true; return 0;
    case KEY_SEED: a->seed = arg; return 0;
    case KEY_MARKDOWN: a->markdown = arg; return 0;
    case KEY_JUNIT: a->junit = arg; return 0;
    case KEY_BENCHMARK: a->benchmark_json = arg; return 0;
    case KEY_AGAINST: a->against = arg; return 0;
    case KEY_ALL: a->all = true; return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

const struct argp adm_argp_compare = {.options = options, .parser = parse};

static bool parse_real(const char *text, double min, double max, double *value) {
    char *end;
    *value = strtod(text, &end);
    return end != text && *end == '\0' && isfinite(*value) && *value >= min && *value <= max;
}

adm_status adm_compare_args_parse(const adm_compare_args *a, adm_compare_options *o, adm_error *err) {
    *o = (adm_compare_options)ADM_COMPARE_DEFAULTS;
    if (a->margin != NULL) {
        double percent;
        adm_status status = adm_option_real("--margin", a->margin, "a percentage", 0.01, 100, 0, &percent, err);
        if (status != ADM_OK) return status;
        o->margin = percent / 100;
        o->margin_is_forced = true;
    }
    for (size_t i = 0; i < a->n_tolerances; i++) {
        const char *equals = strchr(a->tolerance[i], '=');
        double ratio;
        if (equals == NULL || equals == a->tolerance[i] || !parse_real(equals + 1, 0, 1, &ratio))
            return adm_fail(err, ADM_EINPUT, "--tolerance: '%s' is not METRIC=RATIO with a ratio from 0 to 1", a->tolerance[i]);
    }
    o->tolerance = a->tolerance;
    o->n_tolerances = a->n_tolerances;
    o->across_machines = a->across_machines;
    o->ignore_missing = a->ignore_missing;
    return a->seed != NULL ? adm_parse_u64("--seed", a->seed, 0, INT64_MAX, &o->seed, err) : ADM_OK;
}

static adm_status write_text(const char *option, const char *path, adm_text *text, adm_error *err) {
    adm_output output = {0};
    adm_status status = adm_text_check(text, err);
    if (status == ADM_OK) status = adm_output_open(&output, option, path, err);
    if (status == ADM_OK) {
        fwrite(text->data, 1, text->length, output.file); /* committing tells whether all of it arrived */
        status = adm_output_commit(&output, err);
    }
    adm_text_free(text);
    return status;
}

static adm_status write_json(const char *option, const char *path, json_t *document, adm_error *err) {
    adm_output output = {0};
    if (document == NULL) return adm_fail(err, ADM_EENVIRONMENT, "out of memory while writing %s", path);
    adm_status status = adm_output_open(&output, option, path, err);
    if (status == ADM_OK) {
        /* On a full disk the commit says so; else it was memory that the text lacked. */
        if (json_dumpf(document, output.file, JSON_INDENT(1) | JSON_ENSURE_ASCII) == 0) fputc('\n', output.file);
        else if (!ferror(output.file))
            status = adm_fail(err, ADM_EENVIRONMENT, "%s: %s cannot be written: out of memory", option, path);
        if (status == ADM_OK) status = adm_json_check_memory(path, err);
        if (status == ADM_OK) status = adm_output_commit(&output, err);
        else adm_output_discard(&output);
    }
    json_decref(document);
    return status;
}

adm_status adm_compare_args_write(const adm_compare_args *a, const adm_comparison *c, adm_error *err) {
    adm_text text = {0};
    adm_status status = ADM_OK;
    if (a->markdown != NULL) {
        text.dialect = ADM_TEXT_MARKDOWN;
        adm_compare_markdown(c, &text);
        status = write_text("--markdown", a->markdown, &text, err);
    }
    if (status == ADM_OK && a->junit != NULL) {
        text.dialect = ADM_TEXT_HTML;
        adm_compare_junit(c, &text);
        status = write_text("--junit", a->junit, &text, err);
    }
    if (status == ADM_OK && a->benchmark_json != NULL)
        status = write_json("--benchmark-json", a->benchmark_json, adm_compare_benchmark_json(c), err);
    return status;
}

adm_status adm_compare_print(const adm_comparison *c, bool json, bool quiet, bool all, adm_error *err) {
    adm_status status = ADM_OK;
    if (json) {
        status = adm_print_json(adm_compare_json(c), err);
    } else if (!quiet) {
        adm_text text = {.dialect = ADM_TEXT_PLAIN};
        adm_compare_text(c, all, &text);
        status = adm_text_check(&text, err);
        if (status == ADM_OK) fwrite(text.data, 1, text.length, stdout);
        adm_text_free(&text);
    }
    return status == ADM_OK ? adm_finish_output(err) : status;
}
