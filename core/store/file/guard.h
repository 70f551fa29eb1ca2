/* guard.h: what a connection refuses, whatever the file says. Inside of the store. */
#ifndef ADM_CORE_STORE_FILE_GUARD_H
#define ADM_CORE_STORE_FILE_GUARD_H

#include "core/store/file/database_internal.h"

/* The longest text in a database: a command line or the metadata of a trace. */
enum { ADM_STORE_MAX_VALUE_BYTES = 64 << 20 };

/* To be called once the connection is open, before anything is read: functions that a schema may not call, tables that SQL may
 * not damage, limits, and a handler that ends a statement once the user's interrupt is urgent and reports the passing of time.
 * */
void adm_store_guard(adm_store *store);

#endif
