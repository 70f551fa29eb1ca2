/* store.h: the whole of the database (core/store/schema/now.sql): opening and migrating it, writing runs in batches, and
 * reading. */
#ifndef ADM_CORE_STORE_STORE_H
#define ADM_CORE_STORE_STORE_H

#include "core/store/file/database.h"
#include "core/store/file/open.h"
#include "core/store/file/query.h"
#include "core/store/run.h"
#include "core/store/write.h"

#endif
