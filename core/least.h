/* least.h: the smaller of two sizes. */
#ifndef ADM_CORE_LEAST_H
#define ADM_CORE_LEAST_H

#include <stddef.h>

static inline size_t adm_least(size_t a, size_t b) { return a < b ? a : b; }

#endif
