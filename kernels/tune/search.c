/* search.c: successive halving; see search.h. */
#include "kernels/tune/search.h"

#include <math.h>
#include <string.h>

#include "core/base/mem.h"

/* How far behind the best a setting may be that is still a finalist, where a round was enough for a median. */
static const double most_behind = 1.03;

size_t adm_search_n_settings(const adm_candidate *c) {
    size_t n = 1;
    for (size_t p = 0; p < c->n_parameters && n <= ADM_TUNE_MAX_CANDIDATES; p++) n *= c->parameter[p].n_values;
    return n;
}

void adm_search_choose(adm_candidate *c, size_t i) {
    for (size_t p = c->n_parameters; p-- > 0;) {
        c->chosen[p] = c->parameter[p].value[i % c->parameter[p].n_values];
        i /= c->parameter[p].n_values;
    }
}

/* A setting and what it took. */
typedef struct entry {
    size_t which;
    double ns;
} entry;

/* Those that are out come last; equals keep their order. */
static void sort_entries(entry *e, size_t n) {
    for (size_t i = 1; i < n; i++) {
        const entry moved = e[i];
        size_t at = i;
        for (; at > 0 && (isnan(e[at - 1].ns) ? !isnan(moved.ns) : moved.ns < e[at - 1].ns); at--) e[at] = e[at - 1];
        e[at] = moved;
    }
}

static adm_status measure_round(adm_search_measure *measure, void *user, entry *e, size_t n, size_t n_samples, size_t *which,
                                double *ns, adm_error *err) {
    for (size_t i = 0; i < n; i++) which[i] = e[i].which;
    adm_status status = measure(user, which, n, n_samples, ns, err);
    for (size_t i = 0; i < n && status == ADM_OK; i++) e[i].ns = ns[i];
    if (status == ADM_OK) sort_entries(e, n);
    return status;
}

/* How many go on of n that were measured with so many samples. */
static size_t n_kept(size_t n, size_t n_samples) {
    const size_t kept = (n + ADM_SEARCH_KEEP - 1) / ADM_SEARCH_KEEP;
    return kept < ADM_SEARCH_FINALISTS || n_samples >= ADM_SEARCH_ENOUGH ? (size_t)ADM_SEARCH_FINALISTS : kept;
}

size_t adm_search_n_rounds(size_t n, size_t first_samples) {
    size_t n_rounds = 0;
    for (size_t n_samples = first_samples; n > ADM_SEARCH_FINALISTS; n_samples *= ADM_SEARCH_KEEP, n_rounds++)
        n = n_kept(n, n_samples);
    return n_rounds;
}

adm_status adm_search_halve(size_t n, size_t first_samples, adm_search_measure *measure, void *user,
                            size_t finalist[ADM_SEARCH_FINALISTS], size_t *n_finalists, size_t *n_measured, adm_error *err) {
    entry *e = NULL;
    size_t *which = NULL, n_samples = first_samples;
    double *ns = NULL;
    *n_finalists = *n_measured = 0;
    adm_status status = adm_alloc(&e, n, sizeof *e, "settings", err);
    if (status == ADM_OK) status = adm_alloc(&which, n, sizeof *which, "settings", err);
    if (status == ADM_OK) status = adm_alloc(&ns, n, sizeof *ns, "settings", err);
    for (size_t i = 0; status == ADM_OK && i < n; i++) e[i] = (entry){i, 0};
    const bool is_sure = n > ADM_SEARCH_FEW && first_samples >= ADM_SEARCH_ENOUGH;
    while (status == ADM_OK && n > ADM_SEARCH_FINALISTS) {
        status = measure_round(measure, user, e, n, n_samples, which, ns, err);
        *n_measured += n * n_samples;
        n = n_kept(n, n_samples);
        n_samples *= ADM_SEARCH_KEEP;
    }
    for (size_t i = 0; status == ADM_OK && i < n; i++)
        if (!isnan(e[i].ns) && (!is_sure || e[i].ns <= most_behind * e[0].ns)) finalist[(*n_finalists)++] = e[i].which;
    adm_free(&e);
    adm_free(&which);
    adm_free(&ns);
    return status;
}
