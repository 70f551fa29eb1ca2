/* plan_print.h: what `adamas profile --dry-run` shows, and the settings that a plan and a finished run both state. */
#ifndef ADM_KERNELS_PROFILE_GRID_PLAN_PRINT_H
#define ADM_KERNELS_PROFILE_GRID_PLAN_PRINT_H

#include "core/contract/trace.h"
#include "kernels/profile/grid/shards.h"

struct json_t;

/* What all configurations share. trace: NULL: random inputs. */
void adm_profile_print_setting(const adm_profile_options *options, const adm_trace *trace);
struct json_t *adm_profile_setting_as_json(const adm_profile_options *options, const adm_trace *trace);

/* The configurations, the memory each needs on `device` (NULL: on a device with 60 MiB of L2, and memory enough), and
 * the units; with a shard, which of them are its own. On stdout, or into a JSON object where `document` is not NULL. */
adm_status adm_profile_print_plan(const adm_profile_options *options, const adm_trace *trace, const adm_profile_shards *shards,
                                  const adm_device_info *device, struct json_t *document, adm_error *err);

#endif
