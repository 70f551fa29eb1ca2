/* minmax.h: the smaller of two sizes. */
#ifndef ADM_CORE_BASE_MINMAX_H
#define ADM_CORE_BASE_MINMAX_H

#include <stddef.h>

static inline size_t adm_min(size_t a, size_t b) { return a < b ? a : b; }

#endif
