/* counter_list.c: a metric set as counters. */
#include "probes/cupti/counter_list.h"

#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"

adm_status adm_counter_list_open(adm_counter_list *list, const char *set, adm_error *err) {
    *list = (adm_counter_list){0};
    adm_status status = adm_metric_set_open(set, &list->set, err);
    if (status != ADM_OK) return status;
    size_t n = list->set->n;
    status = adm_alloc(&list->counter, n, sizeof *list->counter, "counters", err);
    if (status == ADM_OK) status = adm_alloc(&list->reason, n, sizeof *list->reason, "counters", err);
    if (status == ADM_OK) status = adm_alloc(&list->value, n, sizeof *list->value, "counters", err);
    if (status == ADM_OK) status = adm_alloc(&list->description, n, sizeof *list->description, "counters", err);
    for (size_t i = 0; status == ADM_OK && i < n; i++) {
        const adm_set_metric *m = &list->set->metric[i];
        size_t bytes = strlen(m->meaning) + (m->caveat != NULL ? strlen(m->caveat) : 0) + 16;
        status = adm_alloc(&list->description[i], bytes, 1, "counters", err);
        if (status != ADM_OK) break;
        snprintf(list->description[i], bytes, "%s%s%s", m->meaning, m->caveat != NULL ? ". Caveat: " : "",
                 m->caveat != NULL ? m->caveat : "");
        list->counter[i] = (adm_counter){m->name, m->unit, m->better, list->description[i], NULL};
    }
    return status;
}

void adm_counter_list_close(adm_counter_list *list) {
    for (size_t i = 0; list->description != NULL && i < list->set->n; i++) adm_free(&list->description[i]);
    adm_free(&list->description);
    adm_free(&list->counter);
    adm_free(&list->reason);
    adm_free(&list->value);
    adm_metric_set_close(&list->set);
}

void adm_counter_list_deliver(adm_counter_list *list, const adm_range *range, const char *const *collected,
                              const char (*lacking)[ADM_REASON_BYTES], adm_counter_read *read, void *read_user,
                              adm_counter_sink *sink, void *sink_user) {
    adm_counter_values(list->set, range, collected, lacking, read, read_user, list->value, list->reason);
    for (size_t i = 0; i < list->set->n; i++) list->counter[i].reason = list->reason[i][0] != '\0' ? list->reason[i] : NULL;
    sink(sink_user, range, list->value);
}
