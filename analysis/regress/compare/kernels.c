/* kernels.c: picks the series of a candidate and of what it is compared with; see kernels.h. */
#include "analysis/regress/compare/kernels.h"

#include <math.h>
#include <string.h>

#include "analysis/regress/renamed.h"
#include "core/base/mem.h"
#include "core/base/suggest.h"

static bool ends_in(const char *path, const char *suffix) {
    const size_t n = strlen(path), m = strlen(suffix);
    return n > m && strcmp(path + n - m, suffix) == 0;
}

bool adm_compare_is_kernel(const char *named) {
    return ends_in(named, ".c") || ends_in(named, ".cu") || ends_in(named, ".so") || ends_in(named, ".json");
}

/* "topk=dir/mine.c" is known as mine.c. */
static const char *base_of(const char *named) {
    const char *slash = strrchr(named, '/'), *equals = strchr(named, '=');
    if (slash != NULL) return slash + 1;
    return equals != NULL ? equals + 1 : named;
}

bool adm_compare_is_of_kernel(const adm_series *s, const char *named) {
    const char *base = base_of(named);
    const size_t length = strlen(base);
    return strcmp(s->metric->name, "time_ns") == 0 && strncmp(s->config->variant, base, length) == 0 &&
           strchr(" :", s->config->variant[length]) != NULL; /* or the end */
}

/* Of its points the smallest median; infinite where nothing was measured. */
static double fastest_ns(const adm_series *s) {
    double min = INFINITY;
    for (size_t i = 0; i < s->n_points; i++)
        if (s->point[i].ok) min = fmin(min, s->point[i].median);
    return min;
}

/* Whether any run's candidate, other than a row, goes by this name. */
static adm_status is_candidate(adm_store *store, const adm_series *s, bool *is, adm_error *err) {
    adm_query *q = NULL;
    adm_status status = adm_query_open(store,
                                       "SELECT 1 FROM candidate WHERE config_id = ? AND stage = ? AND kind <> 'row' LIMIT 1",
                                       &q, err, "is", s->config->id, s->stage);
    if (status == ADM_OK) status = adm_query_next(q, is, err);
    adm_query_close(&q);
    return status;
}

/* The series of the same work as `like` that is compared with it; NULL: none. */
static adm_status find_base(const adm_series_set *base, const adm_series *like, const char *against, const adm_series **out,
                            adm_error *err) {
    *out = NULL;
    for (size_t i = 0; i < base->n_series; i++) {
        const adm_series *s = &base->series[i];
        bool is = false;
        if (!adm_series_same_but_variant(s, like)) continue;
        if (against != NULL && strcmp(s->config->variant, against) != 0) continue;
        adm_status status = against == NULL ? is_candidate(base->store, s, &is, err) : ADM_OK;
        if (status != ADM_OK) return status;
        if (!is && (*out == NULL || fastest_ns(s) < fastest_ns(*out))) *out = s;
    }
    return ADM_OK;
}

static void keep(adm_series_set *set, const bool *is_kept) {
    size_t n = 0;
    for (size_t i = 0; i < set->n_series; i++)
        if (is_kept[i]) set->series[n++] = set->series[i];
    set->n_series = n;
}

/* The kernel's series, the fastest where several settings did the same work. */
static void choose_own(const adm_series_set *cand, const char *named, bool *is_kept) {
    for (size_t i = 0; i < cand->n_series; i++) {
        is_kept[i] = adm_compare_is_of_kernel(&cand->series[i], named);
        for (size_t k = 0; is_kept[i] && k < i; k++) {
            if (!is_kept[k] || !adm_series_same_but_variant(&cand->series[i], &cand->series[k])) continue;
            const bool faster = fastest_ns(&cand->series[i]) < fastest_ns(&cand->series[k]);
            is_kept[i] = faster;
            is_kept[k] = !faster;
        }
    }
}

static adm_status no_base(const adm_series_set *base, const char *named, const char *against, adm_error *err) {
    const char **names = NULL;
    char meant[ADM_DID_YOU_MEAN_BYTES] = "";
    size_t n = 0;
    adm_status status = adm_alloc(&names, base->n_series + 1, sizeof *names, "names of rows", err);
    if (status != ADM_OK) return status;
    for (size_t i = 0; i < base->n_series; i++) names[n++] = base->series[i].config->variant;
    if (against != NULL) adm_did_you_mean(against, names, n, meant);
    adm_free(&names);
    return adm_fail(err, ADM_EINPUT, "the baseline's runs have nothing that %s can be compared with%s%s%s", base_of(named),
                    against != NULL ? ": no times of " : "", against != NULL ? against : "", meant);
}

adm_status adm_compare_keep_kernel(adm_series_set *base, adm_series_set *cand, const char *named, const char *against,
                                   adm_error *err) {
    bool *of_base = NULL, *of_cand = NULL;
    size_t n_base = 0;
    adm_status status = adm_alloc(&of_base, base->n_series + 1, sizeof *of_base, "series", err);
    if (status == ADM_OK) status = adm_alloc(&of_cand, cand->n_series + 1, sizeof *of_cand, "series", err);
    if (status == ADM_OK) choose_own(cand, named, of_cand);
    for (size_t i = 0; status == ADM_OK && i < cand->n_series; i++) {
        const adm_series *found;
        if (!of_cand[i]) continue;
        status = find_base(base, &cand->series[i], against, &found, err);
        if (status != ADM_OK || found == NULL) continue;
        of_base[found - base->series] = true;
        n_base++;
    }
    if (status == ADM_OK) {
        keep(cand, of_cand);
        if (n_base > 0) keep(base, of_base);
        if (cand->n_series == 0)
            status = adm_fail(err, ADM_EINPUT, "the candidate's runs have no times of %s: make them with --candidate %s",
                              base_of(named), named);
        else if (n_base == 0) status = no_base(base, named, against, err);
    }
    adm_free(&of_base);
    adm_free(&of_cand);
    return status;
}
