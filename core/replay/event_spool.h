/* event_spool.h: finished ranges on their way to the store, in bounded memory: the database is not written while something is
 * timed, and a long session has more ranges than memory should hold.
 *
 *     append --> | ring of 65,536 records of 48 bytes |
 *                   settle, when it is filling up  |--> temporary file, unlinked: gone with the process
 *     each <------ the file, then the ring */
#ifndef ADM_CORE_REPLAY_EVENT_SPOOL_H
#define ADM_CORE_REPLAY_EVENT_SPOOL_H

#include <stdint.h>

#include "core/contract/probe.h"

typedef struct adm_event_spool adm_event_spool;

/* Opens an empty spool; the file is made when it is first needed, in TMPDIR or /tmp. */
adm_status adm_event_spool_open(adm_event_spool **out, adm_error *err);
void adm_event_spool_close(adm_event_spool **spool);

/* Adds a range: what a row of the table event needs of it; variant is borrowed. Writes to the file only if nobody settled
 * for 65,536 ranges. A failure is kept and reported by settle() and each(). */
void adm_event_spool_append(adm_event_spool *spool, const adm_range *range, uint64_t start_ns, uint64_t end_ns);

/* Makes room, if more than half is used: call it where nothing is being timed. */
adm_status adm_event_spool_settle(adm_event_spool *spool, adm_error *err);

/* Calls visit for every range in the order of appending, until one fails, and empties the spool. */
typedef adm_status adm_event_visit(void *user, const adm_range *range, uint64_t start_ns, uint64_t end_ns, adm_error *err);
adm_status adm_event_spool_each(adm_event_spool *spool, adm_event_visit *visit, void *user, adm_error *err);

#endif
