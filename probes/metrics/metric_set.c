/* metric_set.c: reads metric sets; the format is in metric_set.h. A text is split in place: names and values stay where
 * they stood, each ended by a NUL. */
#include "probes/metrics/metric_set.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/embedded.h"
#include "core/base/mem.h"
#include "core/base/suggest.h"
#include "core/system/read_room.h"
#include "probes/metrics/formula.h"

enum { MAX_METRICS = 256, MAX_BYTES = 1 << 20 };

/* The program's own sets: every file of probes/sets that configure.py lists. */
static const adm_embedded_file *own_set(size_t i) { return adm_embedded_in("probes/sets/", i); }

const char *adm_metric_set_name(size_t i) { return own_set(i) != NULL ? own_set(i)->name : NULL; }

size_t adm_metric_set_count(void) {
    size_t n = 0;
    while (own_set(n) != NULL) n++;
    return n;
}

const adm_set_metric *adm_metric_set_find(const adm_metric_set *set, const char *name, size_t length) {
    for (size_t i = 0; i < set->n; i++)
        if (strlen(set->metric[i].name) == length && memcmp(set->metric[i].name, name, length) == 0) return &set->metric[i];
    return NULL;
}

/* --- One text ----------------------------------------------------------------------------------------------------- */

typedef struct parser {
    adm_metric_set *set;
    const char *name;       /* of the set or file being read */
    int line;
    adm_set_metric *now;    /* NULL: still in the head */
    char *alternatives;     /* of that metric, as written; NULL: none */
    adm_error *err;
} parser;

static adm_status add_set(adm_metric_set *set, const char *name, adm_error *err);

static adm_status bad(const parser *p, const char *what, const char *value) {
    return adm_fail(p->err, ADM_EINPUT, "metric set %.200s, line %d: %s '%.100s'", p->name, p->line, what, value);
}

static adm_status known_names(void *user, const char *name, size_t length, double *value, adm_error *err) {
    static const char *const model[] = {"model.bytes", "model.write_bytes", "model.flops", "timed.ns"};
    *value = 1; /* any number will do to read the formula through */
    for (size_t i = 0; i < 4; i++)
        if (strlen(model[i]) == length && memcmp(model[i], name, length) == 0) return ADM_OK;
    if (adm_metric_set_find(user, name, length) != NULL) return ADM_OK;
    return adm_fail(err, ADM_EINPUT, "its formula names '%.*s', which is no metric above it",
                    (int)(length < 100 ? length : 100), name);
}

static bool is_one_of(const char *value, const char *const *words, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(value, words[i]) == 0) return true;
    return false;
}

/* Splits the names in place. */
static adm_status split_alternatives(parser *p, adm_set_metric *m) {
    char *rest = p->alternatives;
    if (rest != NULL && m->formula != NULL) return bad(p, "a metric with a formula has no alternative:", m->name);
    for (char *name; rest != NULL && (name = strsep(&rest, ",")) != NULL;) {
        name += strspn(name, " \t");
        name[strcspn(name, " \t")] = '\0';
        if (name[0] == '\0') return bad(p, "an alternative is empty for the metric above:", m->name);
        if (m->n_alternatives == ADM_MAX_ALTERNATIVES)
            return bad(p, "a metric has at most 4 alternatives; one too many is", name);
        m->alternative[m->n_alternatives++] = name;
    }
    return ADM_OK;
}

/* Checks the metric whose lines just ended. */
static adm_status finish_metric(parser *p) {
    static const char *const units[] = {ADM_METRIC_UNITS}, *const directions[] = {"lower", "higher", "none"};
    adm_set_metric *m = p->now;
    if (m == NULL) return ADM_OK;
    if (m->unit == NULL) return bad(p, "no unit for the metric above:", m->name);
    if (m->better == NULL) return bad(p, "no 'better' for the metric above:", m->name);
    if (m->meaning == NULL) return bad(p, "no meaning for the metric above:", m->name);
    if (!is_one_of(m->unit, units, sizeof units / sizeof units[0])) return bad(p, "there is no unit", m->unit);
    if (!is_one_of(m->better, directions, 3)) return bad(p, "better is lower, higher or none, not", m->better);
    adm_status split = split_alternatives(p, m);
    if (split != ADM_OK || m->formula == NULL) return split;
    double value;
    adm_error why;
    p->set->n--; /* a formula may not use itself */
    adm_status status = adm_formula_evaluate(m->formula, known_names, p->set, &value, &why);
    p->set->n++;
    return status == ADM_EINPUT ? bad(p, why.text, m->name) : ADM_OK; /* a division by zero is one of stand-ins here */
}

static adm_status begin_metric(parser *p, char *line) {
    size_t length = strlen(line);
    adm_status status = finish_metric(p);
    if (status != ADM_OK) return status;
    if (length < 3 || line[length - 1] != ']' || strpbrk(line, " \t") != NULL)
        return bad(p, "a metric's line is [NAME], not", line);
    line[length - 1] = '\0';
    if (adm_metric_set_find(p->set, line + 1, length - 2) != NULL) return bad(p, "the set has it twice:", line + 1);
    if (p->set->n == MAX_METRICS) return bad(p, "a set holds at most 256 metrics; one too many is", line + 1);
    p->now = &p->set->metric[p->set->n++];
    p->alternatives = NULL;
    *p->now = (adm_set_metric){.name = line + 1, .set = p->name};
    return ADM_OK;
}

static adm_status take_head(parser *p, const char *key, char *value) {
    if (strcmp(key, "include") == 0) return add_set(p->set, value, p->err);
    if (strcmp(key, "summary") != 0) return bad(p, "before the first metric stand summary and include, not", key);
    if (strcmp(p->name, p->set->name) == 0) p->set->summary = value; /* not that of an included set */
    return ADM_OK;
}

static adm_status take(parser *p, const char *key, char *value) {
    const char *alternatives = p->alternatives;
    const struct {
        const char *key;
        const char **place;
    } fields[] = {{"unit", &p->now->unit},      {"better", &p->now->better}, {"meaning", &p->now->meaning},
                  {"caveat", &p->now->caveat},  {"absent", &p->now->absent}, {"alternative", &alternatives},
                  {"formula", &p->now->formula}};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (strcmp(key, fields[i].key) != 0) continue;
        if (*fields[i].place != NULL) return bad(p, "stated twice:", key);
        *fields[i].place = value;
        if (alternatives != NULL && p->alternatives == NULL) p->alternatives = value;
        return ADM_OK;
    }
    return bad(p, "a metric has unit, better, meaning, caveat, absent, alternative and formula, not", key);
}

/* Joins the lines that continue this one, in place; returns the start of the next. */
static char *join(char *line, int *n_lines) {
    char *out = line + strcspn(line, "\n"), *in = out;
    while (*in == '\n' && (in[1] == ' ' || in[1] == '\t')) {
        in += strspn(in, " \t\n");
        while (out > line && (out[-1] == ' ' || out[-1] == '\r')) out--;
        *out++ = ' ';
        while (*in != '\0' && *in != '\n') *out++ = *in++;
        ++*n_lines;
    }
    char *rest = *in == '\n' ? in + 1 : in;
    while (out > line && (out[-1] == ' ' || out[-1] == '\t' || out[-1] == '\r')) out--;
    *out = '\0';
    return rest;
}

static adm_status parse(parser *p, char *text) {
    adm_status status = ADM_OK;
    for (char *line = text; status == ADM_OK && *line != '\0';) {
        int n_more = 0;
        char *rest = join(line, &n_more), *equals = strchr(line, '=');
        p->line++;
        if (line[0] == '\0' || line[0] == '#') {
        } else if (line[0] == '[') {
            status = begin_metric(p, line);
        } else if (equals == NULL || equals == line) {
            status = bad(p, "expected KEY = VALUE, not", line);
        } else {
            char *value = equals + 1 + strspn(equals + 1, " \t"), *end = equals;
            while (end > line && end[-1] == ' ') end--;
            *end = '\0';
            if (value[0] == '\0') status = bad(p, "no value for", line);
            else status = p->now != NULL ? take(p, line, value) : take_head(p, line, value);
        }
        p->line += n_more;
        line = rest;
    }
    return status == ADM_OK ? finish_metric(p) : status;
}

/* Reads a text into the set, which takes it over; name lives as long. */
static adm_status add_text(adm_metric_set *set, const char *name, char *text, adm_error *err) {
    parser p = {.set = set, .name = name, .err = err};
    return parse(&p, text);
}

static adm_status keep_text(adm_metric_set *set, const char *text, size_t length, char **copy, adm_error *err) {
    if (set->n_texts == sizeof set->text / sizeof set->text[0])
        return adm_fail(err, ADM_EINPUT, "metric set %.200s includes too many others, or itself", set->name);
    adm_status status = adm_alloc(&set->text[set->n_texts], length + 1, 1, "a metric set", err);
    if (status != ADM_OK) return status;
    *copy = set->text[set->n_texts++];
    memcpy(*copy, text, length);
    return ADM_OK;
}

static adm_status add_set(adm_metric_set *set, const char *name, adm_error *err) {
    char known[128] = "", meant[ADM_DID_YOU_MEAN_BYTES], *text = NULL;
    const char *names[16];
    size_t n = 0;
    const adm_embedded_file *own;
    for (size_t i = 0, used = 0; (own = own_set(i)) != NULL; i++) {
        if (used < sizeof known)
            used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "", own->name);
        if (n < sizeof names / sizeof *names) names[n++] = own->name;
        if (strcmp(name, own->name) != 0) continue;
        adm_status status = keep_text(set, own->data, own->n_bytes, &text, err);
        return status == ADM_OK ? add_text(set, own->name, text, err) : status;
    }
    return adm_fail(err, ADM_EINPUT, "there is no metric set '%.100s'; there are %s, and files: ./NAME.metrics%s", name, known,
                    adm_did_you_mean(name, names, n, meant));
}

/* --- Opening ------------------------------------------------------------------------------------------------------ */

static adm_status add_file(adm_metric_set *set, const char *path, adm_error *err) {
    char *text = NULL;
    FILE *file = adm_open_to_read(path);
    if (file == NULL)
        return adm_fail(err, adm_status_of_read(errno), "metric set %.200s cannot be opened: %s", path, strerror(errno));
    const size_t room = adm_read_room_bytes(file, MAX_BYTES);
    adm_status status = adm_alloc(&text, room, 1, "a metric set", err);
    size_t length = status == ADM_OK ? fread(text, 1, room, file) : 0;
    if (status == ADM_OK && ferror(file))
        status = adm_fail(err, adm_status_of_read(errno), "metric set %.200s cannot be read: %s", path, strerror(errno));
    fclose(file);
    if (status == ADM_OK && length > MAX_BYTES)
        status = adm_fail(err, ADM_EINPUT, "metric set %.200s is longer than 1 MiB", path);
    if (status == ADM_OK && memchr(text, '\0', length) != NULL)
        status = adm_fail(err, ADM_EINPUT, "metric set %.200s is not text: it holds a NUL byte", path);
    char *copy = NULL;
    if (status == ADM_OK) status = keep_text(set, text, length, &copy, err);
    adm_free(&text);
    return status == ADM_OK ? add_text(set, set->name, copy, err) : status;
}

adm_status adm_metric_set_open(const char *name_or_path, adm_metric_set **out, adm_error *err) {
    adm_metric_set *set = NULL;
    char *name = NULL;
    *out = NULL;
    adm_status status = adm_alloc(&set, 1, sizeof *set, "a metric set", err);
    if (status == ADM_OK) status = adm_alloc(&set->metric, MAX_METRICS, sizeof *set->metric, "metrics of a set", err);
    if (status == ADM_OK) status = keep_text(set, name_or_path, strlen(name_or_path), &name, err);
    if (status == ADM_OK) {
        set->name = name;
        set->summary = "";
        bool is_file = strpbrk(name_or_path, "/.") != NULL;
        status = is_file ? add_file(set, name, err) : add_set(set, name, err);
    }
    if (status == ADM_OK && set->n == 0) status = adm_fail(err, ADM_EINPUT, "metric set %.200s has no metrics", set->name);
    if (status == ADM_OK) *out = set;
    else adm_metric_set_close(&set);
    return status;
}

void adm_metric_set_close(adm_metric_set **address) {
    adm_metric_set *set = *address;
    if (set == NULL) return;
    for (size_t i = 0; i < set->n_texts; i++) adm_free(&set->text[i]);
    adm_free(&set->metric);
    adm_free(address);
}
