/* db_list.h: `adamas db list`. */
#ifndef ADM_ANALYSIS_DB_DB_LIST_H
#define ADM_ANALYSIS_DB_DB_LIST_H

#include "core/cli/command.h"

extern const adm_command adm_db_list;

#endif
