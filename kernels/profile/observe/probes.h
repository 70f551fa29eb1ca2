/* probes.h: the probes of one `adamas profile`, and what its command line says about them. */
#ifndef ADM_KERNELS_PROFILE_OBSERVE_PROBES_H
#define ADM_KERNELS_PROFILE_OBSERVE_PROBES_H

#include "core/base/error.h"
#include "core/store/store.h"
#include "kernels/profile/grid/grid.h"

typedef struct adm_profile_probes adm_profile_probes;

/* Checks --counters before anything else happens: ADM_EINPUT for a set that is not known or not right; NULL is fine. */
adm_status adm_profile_probes_check(const char *counters, adm_error *err);

/* What counters and timeline will cost, for --dry-run: on stdout, or into a JSON object where `document` is not NULL. */
struct json_t;
adm_status adm_profile_probes_plan(const char *counters, bool timeline, struct json_t *document, adm_error *err);

/* Attaches NVTX and device state always, counters if a set is given, a timeline if asked for; and starts the session. Sets
 * options->observer and the power limit. Close it after a failure too. */
adm_status adm_profile_probes_open(adm_profile_options *options, const char *counters, bool timeline, int device_number,
                                   adm_gpu *gpu, adm_store *store, int64_t run_id, adm_profile_probes **out, adm_error *err);

/* Ends the session. */
void adm_profile_probes_close(adm_profile_probes **probes);

/* One line each on standard output: passes taken, and what was not counted or traced and why. */
void adm_profile_probes_print(const adm_profile_probes *probes);

/* Fills in the clocks of a run that is about to begin: adm_run_info.sm_clock_hz and memory_clock_hz, 0 if unknown. */
void adm_profile_probes_clocks(const char *uuid, adm_run_info *info);

#endif
