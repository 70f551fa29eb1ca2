/* store.h: the database (core/store/schema/now.sql), whole: opening and migrating it, and writing and reading runs in
 * batches. */
#ifndef ADM_CORE_STORE_STORE_H
#define ADM_CORE_STORE_STORE_H

#include "core/store/database.h"
#include "core/store/open.h"
#include "core/store/query.h"
#include "core/store/run.h"
#include "core/store/write.h"

#endif
