/* counter_list.h: a metric set as the counters of core/contract/probe.h; what counter_probe.c and its stand-in share. */
#ifndef ADM_PROBES_CUPTI_COUNTER_LIST_H
#define ADM_PROBES_CUPTI_COUNTER_LIST_H

#include "core/contract/probe.h"
#include "probes/cupti/counter_plan.h"

typedef struct adm_counter_list {
    adm_metric_set *set;
    adm_counter *counter;             /* [set->n] */
    char (*reason)[ADM_REASON_BYTES]; /* [set->n] of the present range; "": none */
    double *value;                    /* [set->n] */
    char **description;               /* [set->n] meaning and caveat in one */
} adm_counter_list;

/* Opens the set and describes its metrics. Close it after a failure too. */
adm_status adm_counter_list_open(adm_counter_list *list, const char *set, adm_error *err);
void adm_counter_list_close(adm_counter_list *list);

/* Computes the values of a range, see adm_counter_values(), and delivers them. */
void adm_counter_list_deliver(adm_counter_list *list, const adm_range *range, const char *const *collected,
                              const char (*lacking)[ADM_REASON_BYTES], adm_counter_read *read, void *read_user,
                              adm_counter_sink *sink, void *sink_user);

#endif
