/* code_record.h: what a replay stores of adamas's codes: thresholds, and how well the codes spread. */
#ifndef ADM_CORE_REPLAY_CODE_RECORD_H
#define ADM_CORE_REPLAY_CODE_RECORD_H

#include "core/policy/policy_set.h"
#include "core/replay/session/record.h"

/* The thresholds of codings that have three a layer; once a run. set: the states of the session's rows. */
adm_status adm_code_record_thresholds(const adm_record *record, const adm_policy_set *set, adm_error *err);

/* Shares and entropy of the codes of the keys cached at the segment's end. */
adm_status adm_code_record_shares(const adm_record *record, const adm_segment *segment, const adm_policy_set *set,
                                  adm_error *err);

#endif
