/* command.c: what every subcommand's command line has in common. */
#include "core/cli/command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/system/clock.h"
#include "core/system/interrupt.h"
#include "core/system/output_file.h"
#include "core/base/mem.h"
#include "core/base/print.h"
#include "core/base/printable.h"
#include "core/cli/options.h"
#include "core/base/suggest.h"

/* --- Options ------------------------------------------------------------------------------------------------------ */

enum { KEY_DB = 0x1000, KEY_JSON };

static error_t parse_common(int key, char *arg, struct argp_state *state) {
    adm_common *common = state->input;
    switch (key) {
    case KEY_DB: common->db_path = arg; return 0;
    case KEY_JSON: common->json = true; return 0;
    case 'q': common->quiet = true; return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option db_options[] = {
    {"db", KEY_DB, "FILE", 0, "The database (default adamas.db)", 90},
    {0},
};

static const struct argp_option output_options[] = {
    {"quiet", 'q', NULL, 0, "No progress and no summary", 91},
    {"json", KEY_JSON, NULL, 0, "One JSON document on standard output instead of text", 91},
    {0},
};

const struct argp adm_argp_db = {.options = db_options, .parser = parse_common};
const struct argp adm_argp_output = {.options = output_options, .parser = parse_common};

/* Lets --help use the terminal's width, or into a pager that of COLUMNS; glibc's argp reads it from the environment. */
static void widen_help(void) {
    struct winsize size;
    char format[32];
    const char *said = getenv("COLUMNS");
    unsigned long columns = said != NULL ? strtoul(said, NULL, 10) : 0;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) columns = size.ws_col;
    if (columns == 0) return;
    columns = columns < 60 ? 60 : columns > 140 ? 140 : columns;
    snprintf(format, sizeof format, "rmargin=%lu", columns - 1);
    setenv("ARGP_HELP_FMT", format, 0);
}

error_t adm_give_inputs(struct argp_state *state, size_t n, void *const *inputs) {
    for (size_t i = 0; i < n; i++) state->child_inputs[i] = inputs[i];
    return 0;
}

void adm_argp_parse(const struct argp *argp, int argc, char **argv, void *input) {
    adm_error err;
    if (argc == 2 && strcmp(argv[1], ADM_LIST_OPTIONS) == 0) {
        adm_options_print(argp, stdout);
        exit(adm_finish_output(&err) == ADM_OK ? 0 : adm_report_error(&err));
    }
    if (adm_options_check(argp, argc, argv, &err) != ADM_OK) exit(adm_report_error(&err));
    widen_help();
    /* argp ends the process itself on a bad option, with argp_err_exit_status, and on --help with 0. */
    error_t failed = argp_parse(argp, argc, argv, 0, NULL, input);
    if (failed == 0) return;
    adm_fail(&err, ADM_EENVIRONMENT, "the command line could not be read: %s", strerror(failed));
    exit(adm_report_error(&err));
}

char *adm_argv_json(int argc, char **argv) {
    size_t longest = 0, size = 3;
    for (int i = 0; i < argc; i++) {
        size_t length = strlen(argv[i]);
        if (length > longest) longest = length;
        size += adm_json_string_bytes(argv[i]) + 1;
    }
    char *json, *clean = NULL;
    if (adm_alloc(&json, size, 1, "command line", NULL) != ADM_OK) return NULL;
    if (adm_alloc(&clean, longest + 4, 1, "command line", NULL) != ADM_OK) adm_free(&json);
    char *end = json;
    for (int i = 0; json != NULL && i < argc; i++) {
        *end++ = i == 0 ? '[' : ',';
        end = adm_json_string(adm_is_utf8(argv[i]) ? argv[i] : adm_printable(argv[i], clean, longest + 4), end);
    }
    if (json != NULL) *end = ']';
    adm_free(&clean);
    return json;
}

static bool has_said_why; /* the process ends with an error that was told */

adm_status adm_finish_output(adm_error *err) {
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout)) return ADM_OK;
    const int cause = errno;
    if (adm_reader_has_gone(STDOUT_FILENO)) adm_end_without_reader();
    if (adm_interrupted()) return adm_fail(err, ADM_EINTERRUPTED, "interrupted while standard output was written");
    return adm_fail(err, ADM_EENVIRONMENT, "standard output could not be written: %s", adm_output_why(stdout, cause));
}

/* What argp prints (--help) ends in exit(), behind every other check. */
static void check_output_at_exit(void) {
    adm_error err;
    if (has_said_why || adm_finish_output(&err) == ADM_OK) return;
    _exit(adm_report_error(&err));
}

bool adm_check_output_at_exit(void) { return atexit(check_output_at_exit) == 0; }

int adm_report_error(const adm_error *err) {
    if (err->status == ADM_EENVIRONMENT && ferror(stdout) && adm_reader_has_gone(STDOUT_FILENO)) adm_end_without_reader();
    adm_print_to(stderr, "adamas: %s\n", err->text);
    has_said_why = true;
    return adm_exit_code(err->status);
}

adm_status adm_parse_words(const char *option, const char *text, const char *const *names, size_t n_names, bool *found,
                           adm_error *err) {
    for (const char *item = text;; item++) {
        size_t length = strcspn(item, ","), i = 0;
        char word[64];
        while (i < n_names && (strlen(names[i]) != length || memcmp(item, names[i], length) != 0)) i++;
        if (i == n_names) {
            snprintf(word, sizeof word, "%.*s", (int)(length < sizeof word ? length : sizeof word - 1), item);
            return adm_refuse_word(option, word, names, n_names, err);
        }
        found[i] = true;
        item += length;
        if (*item == '\0') return ADM_OK;
    }
}

adm_status adm_parse_word(const char *option, const char *text, const char *const *names, size_t n_names, size_t *index,
                          adm_error *err) {
    char word[64];
    if (text == NULL) return ADM_OK;
    for (size_t i = 0; i < n_names; i++)
        if (strcmp(text, names[i]) == 0) {
            *index = i;
            return ADM_OK;
        }
    snprintf(word, sizeof word, "%s", text);
    return adm_refuse_word(option, word, names, n_names, err);
}

/* --- Options without effect --------------------------------------------------------------------------------------- */

adm_status adm_refuse_idle(const adm_idle_option *list, size_t n, adm_error *err) {
    for (size_t i = 0; i < n; i++)
        if (list[i].is_idle) return adm_fail(err, ADM_EINPUT, "%s does nothing %s: leave it out", list[i].option, list[i].why);
    return ADM_OK;
}

void adm_note_idle(const adm_idle_option *list, size_t n, bool quiet) {
    for (size_t i = 0; i < n && !quiet; i++)
        if (list[i].is_idle) adm_print_to(stderr, "adamas: %s does nothing %s\n", list[i].option, list[i].why);
}

/* --- Progress ----------------------------------------------------------------------------------------------------- */

enum { REDRAW_NS = 100000000, FORETELL_NS = 1000000000 }; /* ten times a second is smooth and costs nothing */

void adm_progress_start(adm_progress *progress, const char *what, uint64_t n_total, bool quiet) {
    const bool terminal = isatty(STDERR_FILENO);
    *progress = (adm_progress){
        .what = what, .n_total = n_total, .start_ns = adm_clock_ns(), .on = !quiet && terminal, .logs = !quiet && !terminal};
    if (progress->on) adm_print_to(stderr, "\r\033[K%s   0%%", what);
}

/* "12 s", "3 min", "2.5 h" of `ns`. */
static void write_duration(double ns, char *text, size_t bytes) {
    const double s = ns / 1e9;
    if (s < 100) snprintf(text, bytes, "%.0f s", s);
    else if (s < 6000) snprintf(text, bytes, "%.0f min", s / 60);
    else snprintf(text, bytes, "%.1f h", s / 3600);
}

void adm_progress_step(adm_progress *progress, uint64_t n_done) {
    progress->n_done = n_done;
    if (!progress->on) return;
    const uint64_t now = adm_clock_ns(), elapsed = now - progress->start_ns;
    if (progress->last_ns != 0 && now - progress->last_ns < REDRAW_NS) return;
    progress->last_ns = now;
    const double share = progress->n_total > 0 ? (double)n_done / (double)progress->n_total : 1;
    char left[32] = "", duration[24];
    if (elapsed >= FORETELL_NS && share > 0.01 && share < 1) {
        write_duration((double)elapsed * (1 - share) / share, duration, sizeof duration);
        snprintf(left, sizeof left, ", %s left", duration);
    }
    adm_print_to(stderr, "\r\033[K%s %3.0f%%%s", progress->what, 100 * share, left);
}

void adm_progress_hide(adm_progress *progress) {
    if (progress->on) fputs("\r\033[K", stderr);
    progress->last_ns = 0;
}

void adm_progress_end(adm_progress *progress) {
    const uint64_t elapsed = adm_clock_ns() - progress->start_ns;
    char duration[24];
    if (progress->on) fputs("\r\033[K", stderr);
    if (progress->logs && elapsed >= UINT64_C(1000000000) * ADM_PROGRESS_LOG_S) {
        write_duration((double)elapsed, duration, sizeof duration);
        adm_print_to(stderr, "adamas: %s: %s\n", progress->what, duration);
    }
    progress->on = progress->logs = false;
}
