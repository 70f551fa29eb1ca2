/* series_set.c: order, look-up and release of a set of series. */
#include "analysis/regress/series_set.h"

#include <string.h>

#include "core/base/mem.h"

void adm_series_free(adm_series_set *set) {
    adm_free(&set->run);
    adm_free(&set->config);
    adm_free(&set->metric);
    adm_free(&set->series);
    adm_free(&set->point);
    while (set->text != NULL) {
        struct adm_series_text *next = set->text->next;
        adm_free(&set->text);
        set->text = next;
    }
    *set = (adm_series_set){0};
}

int adm_series_order(const adm_series *a, const adm_series *b) {
    int order = strcmp(a->config->key, b->config->key);
    if (order == 0) order = strcmp(a->source, b->source);
    if (order == 0) order = strcmp(a->stage, b->stage);
    return order != 0 ? order : strcmp(a->metric->name, b->metric->name);
}

const adm_series *adm_series_find(const adm_series_set *set, const char *work, const char *variant, const char *source,
                                  const char *stage, const char *metric) {
    for (size_t i = 0; i < set->n_series; i++) {
        const adm_series *s = &set->series[i];
        if (strcmp(s->metric->name, metric) == 0 && strcmp(s->stage, stage) == 0 && strcmp(s->source, source) == 0 &&
            strcmp(s->config->variant, variant) == 0 && strcmp(s->config->work, work) == 0)
            return s;
    }
    return NULL;
}
