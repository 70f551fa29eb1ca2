/* rules.c: reads rules and applies them; see rules.h. */
#include "analysis/explain/rules.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"

/* --- Figures -------------------------------------------------------------------------------------------------------- */

bool adm_figures_find(const adm_figures *f, const char *name, double *value) {
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->figure[i].name, name) == 0) {
            *value = f->figure[i].value;
            return true;
        }
    return false;
}

void adm_figures_add(adm_figures *f, const char *name, double value) {
    double there;
    if (!isfinite(value) || f->n == ADM_MAX_FIGURES || adm_figures_find(f, name, &there)) return;
    snprintf(f->figure[f->n].name, sizeof f->figure[f->n].name, "%s", name);
    f->figure[f->n++].value = value;
}

/* --- Conditions ----------------------------------------------------------------------------------------------------- */

static bool is_name_char(char c) { return isalnum((unsigned char)c) || c == '_' || c == '.'; }

static const char *skip_blanks(const char *at) {
    while (*at == ' ') at++;
    return at;
}

/* A figure's name into `name`; NULL where there is none. */
static const char *read_name(const char *at, char *name, size_t bytes) {
    size_t n = 0;
    while (is_name_char(*at) && n + 1 < bytes) name[n++] = *at++;
    name[n] = '\0';
    return n > 0 && isalpha((unsigned char)name[0]) ? at : NULL;
}

/* One side: NUMBER, FIGURE or NUMBER * FIGURE. NULL: cannot be read. figures NULL: only looks whether it can. */
static const char *read_side(const char *at, const adm_figures *figures, double *value, bool *is_known) {
    char name[96], *end;
    double factor = 1;
    at = skip_blanks(at);
    if (isdigit((unsigned char)*at)) {
        factor = strtod(at, &end);
        at = skip_blanks(end);
        *value = factor;
        if (*at != '*') return at;
        at = skip_blanks(at + 1);
    }
    at = read_name(at, name, sizeof name);
    if (at == NULL) return NULL;
    if (figures != NULL && !adm_figures_find(figures, name, value)) *is_known = false;
    *value *= factor;
    return skip_blanks(at);
}

/* Whether the condition holds; false too where a figure is not known. *is_right: it could be read. */
static bool holds(const char *when, const adm_figures *figures, bool *is_right) {
    bool all = true, is_known = true;
    const char *at = when;
    *is_right = false;
    for (;;) {
        double a = 0, b = 0;
        at = read_side(at, figures, &a, &is_known);
        if (at == NULL || (*at != '<' && *at != '>')) return false;
        const bool is_less = *at == '<', or_equal = at[1] == '=';
        at = read_side(at + 1 + or_equal, figures, &b, &is_known);
        if (at == NULL) return false;
        all &= is_less ? (or_equal ? a <= b : a < b) : or_equal ? a >= b : a > b;
        if (*at == '\0') break;
        if (strncmp(at, "and ", 4) != 0) return false;
        at += 4;
    }
    *is_right = true;
    return all && is_known;
}

/* --- Sentences ------------------------------------------------------------------------------------------------------ */

static bool put_figure(char *out, size_t bytes, double value, const char *unit) {
    if (strcmp(unit, "%") == 0) snprintf(out, bytes, "%.0f%%", value * 100);
    else if (strcmp(unit, "pct") == 0) snprintf(out, bytes, "%.0f%%", value);
    else if (strcmp(unit, "us") == 0) snprintf(out, bytes, "%.2f us", value * 1e-3);
    else if (strcmp(unit, "x") == 0) snprintf(out, bytes, "%.1f times", value);
    else if (strcmp(unit, "n") == 0) snprintf(out, bytes, value == floor(value) ? "%.0f" : "%.1f", value);
    else if (strcmp(unit, "bytes") == 0 && value >= 1e6) snprintf(out, bytes, "%.1f MB", value * 1e-6);
    else if (strcmp(unit, "bytes") == 0) snprintf(out, bytes, "%.1f KB", value * 1e-3);
    else return false;
    return true;
}

/* Fills in the figures. False where one is not known. *is_right: the braces could be read. */
static bool fill_in(const char *say, const adm_figures *figures, char *out, size_t bytes, bool *is_right) {
    size_t used = 0;
    bool is_known = true;
    *is_right = true;
    out[0] = '\0';
    for (const char *at = say; *at != '\0' && used + 64 < bytes;) {
        char name[96], unit[16] = "";
        double value = 0;
        if (*at != '{') {
            out[used++] = *at++;
            out[used] = '\0';
            continue;
        }
        const char *end = read_name(at + 1, name, sizeof name);
        const size_t unit_bytes = end != NULL && *end == ':' ? strcspn(end + 1, "}") : 0;
        *is_right &= unit_bytes > 0 && unit_bytes < sizeof unit && end[1 + unit_bytes] == '}';
        if (!*is_right) return false;
        memcpy(unit, end + 1, unit_bytes);
        unit[unit_bytes] = '\0';
        is_known &= figures == NULL || adm_figures_find(figures, name, &value);
        *is_right &= put_figure(out + used, bytes - used, value, unit);
        used += strlen(out + used);
        at = end + 1 + unit_bytes + 1;
    }
    return is_known && *is_right;
}

/* --- Reading -------------------------------------------------------------------------------------------------------- */

static adm_status check_rule(const adm_rule *r, size_t line, adm_error *err) {
    char text[600];
    bool is_right;
    if (r->when[0] == '\0' || r->say[0] == '\0' || r->source[0] == '\0')
        return adm_fail(err, ADM_EINPUT, "rules, line %zu: [%s] needs when, say and source", line, r->name);
    if (r->bound[0] != '\0' && strcmp(r->bound, "none") != 0)
        return adm_fail(err, ADM_EINPUT, "rules, line %zu: [%s] bound = '%s' is not none", line, r->name, r->bound);
    holds(r->when, NULL, &is_right);
    if (!is_right) return adm_fail(err, ADM_EINPUT, "rules, line %zu: [%s] when = '%s' cannot be read", line, r->name, r->when);
    fill_in(r->say, NULL, text, sizeof text, &is_right);
    return is_right ? ADM_OK : adm_fail(err, ADM_EINPUT, "rules, line %zu: [%s] has braces that cannot be read", line, r->name);
}

static adm_status read_line(adm_rules *rules, char *line, size_t number, adm_error *err) {
    const size_t length = strlen(line);
    if (length == 0 || *line == '#') return ADM_OK;
    if (*line == '[' && line[length - 1] == ']') {
        if (rules->n == ADM_MAX_RULES)
            return adm_fail(err, ADM_EINPUT, "rules, line %zu: more than %d rules", number, ADM_MAX_RULES);
        rules->rule[rules->n] = (adm_rule){.name = ""};
        snprintf(rules->rule[rules->n++].name, sizeof rules->rule->name, "%.*s", (int)(length - 2), line + 1);
        return ADM_OK;
    }
    char *value = strstr(line, " = ");
    if (value == NULL || rules->n == 0)
        return adm_fail(err, ADM_EINPUT, "rules, line %zu: is no 'key = value' of a rule", number);
    *value = '\0';
    value += 3;
    adm_rule *r = &rules->rule[rules->n - 1];
    const struct {
        const char *key;
        char *field;
        size_t bytes;
    } fields[] = {{"when", r->when, sizeof r->when},       {"say", r->say, sizeof r->say},
                  {"advice", r->advice, sizeof r->advice}, {"saves", r->saves, sizeof r->saves},
                  {"bound", r->bound, sizeof r->bound},    {"source", r->source, sizeof r->source}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (strcmp(fields[i].key, line) != 0) continue;
        if (strlen(value) >= fields[i].bytes)
            return adm_fail(err, ADM_EINPUT, "rules, line %zu: longer than %zu bytes", number, fields[i].bytes - 1);
        memcpy(fields[i].field, value, strlen(value) + 1);
        return ADM_OK;
    }
    return adm_fail(err, ADM_EINPUT, "rules, line %zu: '%.40s' is not when, say, advice, saves, bound or source", number, line);
}

adm_status adm_rules_read(const char *text, adm_rules *rules, adm_error *err) {
    char *copy = NULL;
    size_t number = 0;
    rules->n = 0;
    adm_status status = adm_alloc(&copy, strlen(text) + 1, 1, "rules", err);
    if (status != ADM_OK) return status;
    memcpy(copy, text, strlen(text) + 1);
    for (char *next = copy, *line; status == ADM_OK && (line = strsep(&next, "\n")) != NULL;)
        status = read_line(rules, line, ++number, err);
    for (size_t i = 0; status == ADM_OK && i < rules->n; i++) status = check_rule(&rules->rule[i], number, err);
    adm_free(&copy);
    return status;
}

/* --- Applying ------------------------------------------------------------------------------------------------------- */

/* NAN: not known. */
static double saving_of(const adm_rule *rule, const adm_figures *figures) {
    double saves_ns, over_floor_ns;
    if (rule->saves[0] == '\0' || !adm_figures_find(figures, rule->saves, &saves_ns)) return NAN;
    const bool is_bounded = rule->bound[0] == '\0' && adm_figures_find(figures, "over_floor_ns", &over_floor_ns);
    return is_bounded ? fmin(saves_ns, over_floor_ns) : saves_ns;
}

size_t adm_rules_apply(const adm_rules *rules, const adm_figures *figures, adm_finding findings[ADM_MAX_RULES]) {
    size_t n = 0;
    for (size_t i = 0; i < rules->n; i++) {
        bool is_right;
        adm_finding f = {.rule = &rules->rule[i], .saves_ns = saving_of(&rules->rule[i], figures)};
        if (!holds(f.rule->when, figures, &is_right) || !fill_in(f.rule->say, figures, f.say, sizeof f.say, &is_right))
            continue;
        size_t at = n++; /* insertion keeps the order of the file among equals */
        for (; at > 0 && !(findings[at - 1].saves_ns >= f.saves_ns) && !isnan(f.saves_ns); at--)
            findings[at] = findings[at - 1];
        findings[at] = f;
    }
    return n;
}
