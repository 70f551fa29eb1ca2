/* db_export.h: `adamas db export`. For cmd_db.c alone. */
#ifndef ADM_ANALYSIS_DB_DB_EXPORT_H
#define ADM_ANALYSIS_DB_DB_EXPORT_H

#include "core/cli/command.h"

extern const adm_command adm_db_export;

#endif
