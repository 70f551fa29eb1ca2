/* db_verbs.h: the commands of `adamas db`, a file each. For cmd_db*.c alone. */
#ifndef ADM_ANALYSIS_DB_DB_VERBS_H
#define ADM_ANALYSIS_DB_DB_VERBS_H

#include "core/cli/command.h"

extern const adm_command adm_db_create, adm_db_export, adm_db_import, adm_db_merge, adm_db_gc;

#endif
