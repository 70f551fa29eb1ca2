/* db_import.h: `adamas db import`. For cmd_db.c alone. */
#ifndef ADM_ANALYSIS_DB_DB_IMPORT_H
#define ADM_ANALYSIS_DB_DB_IMPORT_H

#include "core/cli/command.h"

extern const adm_command adm_db_import;

#endif
