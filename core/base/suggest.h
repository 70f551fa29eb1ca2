/* suggest.h: the word that was probably meant by a mistyped one. */
#ifndef ADM_CORE_BASE_SUGGEST_H
#define ADM_CORE_BASE_SUGGEST_H

#include <stddef.h>

/* The known word with the fewest edits from `typed`: letters put in, left out, changed, or swapped with the next one
 * (Damerau and Levenshtein, optimal string alignment). NULL where even that takes more than a third of the word's letters, but
 * one edit always counts. Borrowed from `known`; its NULL entries are passed over. */
const char *adm_nearest(const char *typed, const char *const *known, size_t n_known);

#endif
