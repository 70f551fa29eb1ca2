/* counter_plan.h: a metric set on a chip: what it has, under which name, what it lacks, how many passes the rest takes; and
 * the values of a range, derived metrics among them, from what the hardware counted.
 *
 * Every metric is scheduled alone first, so that a wrong one costs itself and not the set. How many passes they take
 * together depends on the order in which CUPTI is given their names: the plan tries the set's own order and a fixed series
 * of others, the same for every chip and machine, and keeps the first of those with the fewest passes. */
#ifndef ADM_PROBES_CUPTI_COUNTER_PLAN_H
#define ADM_PROBES_CUPTI_COUNTER_PLAN_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/contract/probe.h"
#include "probes/cupti/cupti_host.h"
#include "probes/metrics/metric_set.h"

enum { ADM_REASON_BYTES = 320 };

typedef struct adm_counter_plan {
    const adm_metric_set *set;           /* borrowed */
    char chip[64];
    adm_cupti_host *host;
    char (*reason)[ADM_REASON_BYTES];    /* [set->n] why the chip has no such metric; "": it has it */
    const char **collected;              /* [set->n] the name it is collected under; NULL: a formula, or the chip has none */
    const char **hardware;               /* [n_hardware] those names, in the order in which they are scheduled */
    size_t n_hardware;
    size_t own_order_passes;             /* passes in the set's own order; 0: none would do */
    uint8_t *image;                      /* CUPTI's configuration; NULL where nothing is collected */
    size_t image_bytes, n_passes;
} adm_counter_plan;

/* Plans a set on a chip; availability as for adm_cupti_host_open(). A metric that the chip lacks is no failure. */
adm_status adm_counter_plan_open(const adm_metric_set *set, const char *chip, const uint8_t *availability,
                                 adm_counter_plan **out, adm_error *err);
void adm_counter_plan_close(adm_counter_plan **plan);

/* The value that a metric of the hardware had, by the name it is collected under. NAN: none. */
typedef double adm_counter_read(void *user, const char *metric);

/* value[i] of every metric of a set, in its order: the hardware's by read(), the others by their formulas, with the
 * models of the range. Where one has none, value[i] is NAN and reason[i] says why; else reason[i] is "". collected[i] and
 * lacking[i]: the plan's, the name to read and a reason known before, "" for none. */
void adm_counter_values(const adm_metric_set *set, const adm_range *range, const char *const *collected,
                        const char (*lacking)[ADM_REASON_BYTES], adm_counter_read *read, void *user, double *value,
                        char (*reason)[ADM_REASON_BYTES]);

#endif
