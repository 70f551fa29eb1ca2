/* quality.h: the implementations of a replay's dense reference (core/replay/session/quality.h) for this CPU. */
#ifndef ADM_KERNELS_ATTENTION_QUALITY_H
#define ADM_KERNELS_ATTENTION_QUALITY_H

#include "core/replay/session/quality.h"

/* Row i: "reference" first, the fastest last; NULL behind the last. A row may not be available. */
const adm_quality_impl *adm_quality_at(size_t i);

/* The last available. */
const adm_quality_impl *adm_quality_fastest(void);

#endif
