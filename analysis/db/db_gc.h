/* db_gc.h: `adamas db gc`. For cmd_db.c alone. */
#ifndef ADM_ANALYSIS_DB_DB_GC_H
#define ADM_ANALYSIS_DB_DB_GC_H

#include "core/cli/command.h"

extern const adm_command adm_db_gc;

#endif
