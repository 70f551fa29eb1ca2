/* db_show.h: `adamas db show` and `adamas db diff`: where runs come from. */
#ifndef ADM_ANALYSIS_DB_DB_SHOW_H
#define ADM_ANALYSIS_DB_DB_SHOW_H

#include "core/cli/command.h"

extern const adm_command adm_db_show, adm_db_diff;

#endif
