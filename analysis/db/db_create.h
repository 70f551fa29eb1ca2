/* db_create.h: `adamas db create`. For cmd_db.c alone. */
#ifndef ADM_ANALYSIS_DB_DB_CREATE_H
#define ADM_ANALYSIS_DB_DB_CREATE_H

#include "core/cli/command.h"

extern const adm_command adm_db_create;

#endif
