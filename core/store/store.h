/* store.h: the whole of the database (core/store/schema/now.sql): opening and migrating it, writing runs in batches, and
 * reading. */
#ifndef ADM_CORE_STORE_STORE_H
#define ADM_CORE_STORE_STORE_H

#include "core/store/database.h"
#include "core/store/open.h"
#include "core/store/query.h"
#include "core/store/run.h"
#include "core/store/write.h"

#endif
