/* options.c: a walk over argp's tables of options. */
#include "core/cli/options.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/printable.h"
#include "core/base/suggest.h"

enum { MAX_OPTIONS = 128 };

/* Every option of a tree of tables, argp's own last. */
typedef struct option_set {
    const struct argp_option *option[MAX_OPTIONS];
    const struct argp *owner[MAX_OPTIONS]; /* whose help_filter may replace the text */
    bool given[MAX_OPTIONS];
    size_t n;
} option_set;

static const struct argp_option built_in[] = {
    {"help", '?', NULL, 0, "Give this help list", 0},
    {"usage", 0x7fff, NULL, 0, "Give a short usage message", 0},
    {"version", 'V', NULL, 0, "Print program version", 0},
};

static void collect(option_set *set, const struct argp *argp) {
    for (const struct argp_option *o = argp->options; o != NULL && (o->name != NULL || o->key != 0 || o->doc != NULL); o++) {
        if (o->flags & OPTION_DOC || (o->name == NULL && !(o->key > ' ' && o->key < 127)) || set->n == MAX_OPTIONS) continue;
        set->owner[set->n] = argp;
        set->option[set->n++] = o;
    }
    for (const struct argp_child *child = argp->children; child != NULL && child->argp != NULL; child++)
        collect(set, child->argp);
}

static void collect_all(option_set *set, const struct argp *argp) {
    *set = (option_set){0};
    collect(set, argp);
    for (size_t i = 0; i < sizeof built_in / sizeof *built_in && set->n < MAX_OPTIONS; i++)
        set->option[set->n++] = &built_in[i];
}

/* The option that a long name means: its own, or the only one that it begins. -1 for none, -2 for several. */
static int find_long(const option_set *set, const char *name, size_t length) {
    int found = -1;
    for (size_t i = 0; i < set->n; i++) {
        const char *known = set->option[i]->name;
        if (known == NULL || strncmp(known, name, length) != 0) continue;
        if (known[length] == '\0') return (int)i;
        found = found == -1 ? (int)i : -2;
    }
    return found;
}

static int find_short(const option_set *set, char c) {
    for (size_t i = 0; i < set->n; i++)
        if (set->option[i]->key == c) return (int)i;
    return -1;
}

static adm_status refuse_unknown(const option_set *set, const char *command, const char *typed, size_t length, adm_error *err) {
    const char *names[MAX_OPTIONS];
    char name[64], shown[80], meant[ADM_DID_YOU_MEAN_BYTES];
    if (length >= sizeof name) length = sizeof name - 1;
    memcpy(name, typed, length);
    name[length] = '\0';
    for (size_t i = 0; i < set->n; i++) names[i] = set->option[i]->name;
    adm_did_you_mean_with("--", name, names, set->n, meant);
    return adm_fail(err, ADM_EINPUT, "'--%s' is not an option of `%s`%s%s --help lists them",
                    adm_printable(name, shown, sizeof shown), command, meant, meant[0] != '\0' ? "" : ";");
}

/* Marks an option as given. Of a list that is given twice the first values would be lost in silence; of anything else the last
 * counts, as everywhere. */
static adm_status mark(option_set *set, int found, adm_error *err) {
    const struct argp_option *o = set->option[found];
    if (set->given[found] && o->arg != NULL && strcmp(o->arg, "LIST") == 0)
        return adm_fail(err, ADM_EINPUT, "--%s is given twice: give one list, separated by commas", o->name);
    set->given[found] = true;
    return ADM_OK;
}

static bool takes_next(const struct argp_option *o) { return o->arg != NULL && !(o->flags & OPTION_ARG_OPTIONAL); }

/* Checks -abc; *skips says that its value is the next word. */
static adm_status check_short(option_set *set, const char *command, char *word, bool *skips, adm_error *err) {
    for (char *c = word + 1; *c != '\0'; c++) {
        int found = find_short(set, *c);
        if (found < 0 && *c == 'h') {
            *c = '?';
            found = find_short(set, '?');
        }
        if (found < 0)
            return adm_fail(err, ADM_EINPUT, "'-%c' is not an option of `%s`; --help lists them",
                            isprint((unsigned char)*c) ? *c : '?', command);
        adm_status status = mark(set, found, err);
        if (status != ADM_OK) return status;
        if (set->option[found]->arg == NULL) continue;
        *skips = c[1] == '\0' && takes_next(set->option[found]);
        return ADM_OK;
    }
    return ADM_OK;
}

/* Marks what argv gives. */
static adm_status scan(option_set *set, const struct argp *argp, int argc, char **argv, adm_error *err) {
    collect_all(set, argp);
    for (int i = 1; i < argc; i++) {
        char *word = argv[i];
        bool skips = false;
        adm_status status = ADM_OK;
        if (strcmp(word, "--") == 0) break;
        if (word[0] != '-' || word[1] == '\0') continue;
        if (word[1] != '-') {
            status = check_short(set, argv[0], word, &skips, err);
        } else {
            const size_t length = strcspn(word + 2, "=");
            const int found = find_long(set, word + 2, length);
            if (found == -1) status = refuse_unknown(set, argv[0], word + 2, length, err);
            else if (found >= 0) status = mark(set, found, err);
            skips = found >= 0 && word[2 + length] == '\0' && takes_next(set->option[found]);
        }
        if (status != ADM_OK) return status;
        i += skips;
    }
    return ADM_OK;
}

adm_status adm_options_check(const struct argp *argp, int argc, char **argv, adm_error *err) {
    option_set set;
    return scan(&set, argp, argc, argv, err);
}

adm_status adm_options_only(const struct argp *argp, int argc, char **argv, const char *mode, const char *const *allowed,
                            adm_error *err) {
    option_set set;
    adm_status status = scan(&set, argp, argc, argv, err);
    for (size_t i = 0; status == ADM_OK && i < set.n; i++) {
        const char *name = set.option[i]->name;
        size_t a = 0;
        if (!set.given[i] || name == NULL || strcmp(name, mode) == 0) continue;
        while (allowed[a] != NULL && strcmp(allowed[a], name) != 0) a++;
        if (allowed[a] == NULL) status = adm_fail(err, ADM_EINPUT, "--%s does nothing with --%s: leave it out", name, mode);
    }
    return status;
}

/* Text up to `end` or its own end, with its tabs and line breaks escaped. */
static void print_text(FILE *to, const char *text, const char *end) {
    for (; text != NULL && *text != '\0' && text != end; text++) {
        if (*text == '\n') fputs("\\n", to);
        else putc(*text == '\t' ? ' ' : *text, to);
    }
}

/* The text of an option as --help shows it. */
static void print_option(const struct argp_option *o, const struct argp *owner, FILE *to) {
    fprintf(to, "option\t%s%s\t", o->name != NULL ? "--" : "", o->name != NULL ? o->name : "");
    if (o->key > ' ' && o->key < 127) fprintf(to, "-%c", o->key);
    fprintf(to, "\t%s\t", o->arg != NULL ? o->arg : "");
    char *filtered = owner != NULL && owner->help_filter != NULL ? owner->help_filter(o->key, o->doc, NULL) : NULL;
    print_text(to, filtered != NULL ? filtered : o->doc, NULL);
    putc('\n', to);
    if (filtered != NULL && filtered != o->doc) free(filtered);
}

void adm_options_print(const struct argp *argp, FILE *to) {
    option_set set;
    collect_all(&set, argp);
    fputs("usage\t", to);
    print_text(to, argp->args_doc, NULL);
    fputs("\ndoc\t", to);
    const char *after = argp->doc != NULL ? strchr(argp->doc, '\v') : NULL;
    print_text(to, argp->doc, after);
    fputs("\nafter\t", to);
    print_text(to, after != NULL ? after + 1 : NULL, NULL);
    putc('\n', to);
    for (size_t i = 0; i < set.n; i++)
        if (!(set.option[i]->flags & OPTION_HIDDEN)) print_option(set.option[i], set.owner[i], to);
}
