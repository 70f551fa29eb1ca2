/* db_merge.h: `adamas db merge`. For cmd_db.c alone. */
#ifndef ADM_ANALYSIS_DB_DB_MERGE_H
#define ADM_ANALYSIS_DB_DB_MERGE_H

#include "core/cli/command.h"

extern const adm_command adm_db_merge;

#endif
