/* suggest.h: the word that was probably meant by a mistyped one. */
#ifndef ADM_CORE_BASE_SUGGEST_H
#define ADM_CORE_BASE_SUGGEST_H

#include <stddef.h>

#include "core/base/error.h"

/* The known word with the fewest edits from `typed`: letters put in, left out, changed, or swapped with the next one
 * (Damerau and Levenshtein, optimal string alignment); of several, the one that begins the most like it. Where even that takes
 * more than a third of the word's letters (one edit always counts), the first word that begins with `typed`, from three letters
 * on; else NULL. Borrowed from `known`; its NULL entries are passed over. */
const char *adm_nearest(const char *typed, const char *const *known, size_t n_known);

enum { ADM_DID_YOU_MEAN_BYTES = 96 };

/* "; did you mean 'budgets'?" for the end of a message, or "" where no known word is near. Returns `text`. */
const char *adm_did_you_mean(const char *typed, const char *const *known, size_t n_known, char text[ADM_DID_YOU_MEAN_BYTES]);

/* The same with a prefix that was left out of all the words: "; did you mean '--budgets'?". */
const char *adm_did_you_mean_with(const char *prefix, const char *typed, const char *const *known, size_t n_known,
                                  char text[ADM_DID_YOU_MEAN_BYTES]);

/* ADM_EINPUT, "OPTION: 'TYPED' is not known; did you mean 'NEAREST'? There are A, B, C". */
adm_status adm_refuse_word(const char *option, const char *typed, const char *const *known, size_t n_known, adm_error *err);

#endif
