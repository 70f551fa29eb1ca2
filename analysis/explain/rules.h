/* rules.h: sentences about what limits a stage, as data: a condition, a sentence, an advice, a source.
 *
 *   [name]
 *   when = limit_ratio >= 0.8 and time_ns > 3000       terms joined by `and`; a side is a number, a figure or NUMBER * FIGURE
 *   say = ... {limit_ratio:%} ...                      figures with a unit: % (of a ratio), pct, us (of ns), bytes, x, n
 *   advice = ...
 *   saves = barrier_ns                                 a figure in ns: the most that removing it can save; may be left out.
 *                                                      Never more than over_floor_ns is said, since the floor stays,
 *   bound = none                                       unless removing it moves the floor itself, as a fusion does
 *   source = ...
 *
 * A rule that names a figure that is not known does not apply, and neither does one whose condition is false. */
#ifndef ADM_ANALYSIS_EXPLAIN_RULES_H
#define ADM_ANALYSIS_EXPLAIN_RULES_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/error.h"

enum { ADM_MAX_RULES = 64, ADM_MAX_FIGURES = 192 };

/* What is known of a stage, by name. */
typedef struct adm_figure {
    char name[96];
    double value;
} adm_figure;

typedef struct adm_figures {
    adm_figure figure[ADM_MAX_FIGURES];
    size_t n;
} adm_figures;

/* Adds one, unless it is there or not finite. */
void adm_figures_add(adm_figures *figures, const char *name, double value);

/* False if it is not known. */
bool adm_figures_find(const adm_figures *figures, const char *name, double *value);

typedef struct adm_rule {
    char name[40], when[200], say[400], advice[300], saves[64], bound[8], source[200];
} adm_rule;

typedef struct adm_rules {
    adm_rule rule[ADM_MAX_RULES];
    size_t n;
} adm_rules;

/* ADM_EINPUT with the line: a key that is not known, a condition or a sentence that cannot be read, a rule without `when`,
 * `say` or `source`. */
adm_status adm_rules_read(const char *text, adm_rules *rules, adm_error *err);

/* What a rule says of the figures. */
typedef struct adm_finding {
    const adm_rule *rule;
    char say[600];
    double saves_ns; /* NAN: not known */
} adm_finding;

/* The rules that apply, what saves most first; those that save nothing known last, in the order of the file. Returns how
 * many. */
size_t adm_rules_apply(const adm_rules *rules, const adm_figures *figures, adm_finding findings[ADM_MAX_RULES]);

#endif
