/* target.h: adaptive budgets: the smallest at which a policy's selection for a head and step reaches a value. */
#ifndef ADM_CORE_REPLAY_SESSION_TARGET_H
#define ADM_CORE_REPLAY_SESSION_TARGET_H

#include "core/base/error.h"

typedef enum adm_target_kind { ADM_TARGET_MASS, ADM_TARGET_OUTPUT_REL_L2 } adm_target_kind;

typedef struct adm_target {
    adm_target_kind kind;
    double value; /* mass at least, or output_rel_l2 at most */
} adm_target;

/* Parses "mass=0.99" or "output_rel_l2=0.05". ADM_EINPUT: another metric, or a value outside (0, 1]. */
adm_status adm_target_parse(const char *text, adm_target *target, adm_error *err);

enum { ADM_TARGET_NAME_BYTES = 64 };

/* The metric under which the database has it: "budget_for_mass_0.99". name: ADM_TARGET_NAME_BYTES. */
void adm_target_name(const adm_target *target, char *name);

/* One sentence on the metric. */
const char *adm_target_description(const adm_target *target);

#endif
