/* profile.h: what the views of GPU profiles share: finding rows, and the heading. */
#ifndef ADM_ANALYSIS_REPORT_VIEW_PROFILE_H
#define ADM_ANALYSIS_REPORT_VIEW_PROFILE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "analysis/output/text.h"

size_t adm_n_profiles(const json_t *document);
const json_t *adm_profile(const json_t *document, size_t profile);
bool adm_row_is_of(const json_t *row, size_t profile);

/* The configuration of a row of "units", "counters" or "timelines"; NULL if it has none. */
const json_t *adm_row_config(const json_t *document, const json_t *row);

/* True if a configuration belongs to a setting: the same in all that both depend on. */
bool adm_setting_fits(const json_t *setting, const json_t *config);

/* The profile's unit of this stage, length and budget (0: any) in a setting that was measured, and of this variant, or, if
 * that is NULL, of the fastest. NULL if there is none. */
const json_t *adm_find_unit(const json_t *document, const json_t *setting, const char *stage, const char *variant,
                            int64_t seq_len, int64_t budget);

/* A heading with the GPU's name, whether it was recorded elsewhere, and its run. */
void adm_write_profile_heading(adm_text *page, const json_t *document, size_t profile);

/* A paragraph on what was measured where: read limit, driver, clocks, throttling. */
void adm_write_profile_about(adm_text *page, const json_t *document, size_t profile);

#endif
