/* metric_set.h: which GPU metrics to collect, and what each means: probes/sets/NAME.metrics, carried inside the program, or
 * a file of the user's.
 *
 *     # a comment
 *     summary = one line
 *     include = basic                       a set of the program's, whose metrics come first
 *
 *     [dram__bytes_read.sum]                CUPTI's name of the metric, or with a formula a name of one's own
 *     unit = bytes                          of ADM_METRIC_UNITS
 *     better = lower                        lower, higher or none
 *     meaning = Bytes read ...              one sentence without a full stop
 *     caveat = Counts whole sectors ...     optional; a line that begins with a space continues the one before
 *     alternative = dram__bytes_op_read.sum     optional: names that other chips have for the same count, tried in this
 *                                           order, with commas between them
 *     absent = Integrated chips use ...     optional: why a chip has none of these names
 *     formula = a.sum / (b.sum - model.bytes)   optional: computed from metrics above it, and from
 *                                           model.bytes, model.write_bytes, model.flops: the stage's own models, and
 *                                           timed.ns: the median of its timing pass */
#ifndef ADM_PROBES_METRICS_METRIC_SET_H
#define ADM_PROBES_METRICS_METRIC_SET_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/error.h"

#define ADM_METRIC_UNITS                                                                                                     \
    "ns", "Hz", "%", "ratio", "1", "bytes", "bytes/s", "sectors", "instructions", "threads", "warps", "cycles", "conflicts", \
        "wavefronts", "blocks", "flops", "flops/s"

enum { ADM_MAX_ALTERNATIVES = 4 };

typedef struct adm_set_metric {
    const char *name, *unit, *better, *meaning;
    const char *caveat;  /* NULL: none */
    const char *formula; /* NULL: the hardware counts it */
    const char *absent;  /* why a chip lacks it under every name; NULL: not said */
    const char *alternative[ADM_MAX_ALTERNATIVES]; /* [n_alternatives] other chips' names for it */
    size_t n_alternatives;
    const char *set;     /* the set that states it */
} adm_set_metric;

typedef struct adm_metric_set {
    const char *name, *summary;
    adm_set_metric *metric; /* [n], operands before the formulas that use them */
    size_t n;
    char *text[8];          /* what the strings point into */
    size_t n_texts;
} adm_metric_set;

/* The program's own sets, the smallest first. */
size_t adm_metric_set_count(void);
const char *adm_metric_set_name(size_t i);

/* Opens one of the program's sets by name, or, with a '/' or '.' in it, a file. ADM_EINPUT: there is no such set, with
 * the known ones; or the file is unreadable, longer than 1 MiB or not as above, with its line. */
adm_status adm_metric_set_open(const char *name_or_path, adm_metric_set **out, adm_error *err);
void adm_metric_set_close(adm_metric_set **set);

/* The metric of that name, or NULL. */
const adm_set_metric *adm_metric_set_find(const adm_metric_set *set, const char *name, size_t length);

#endif
