/* topk_words.h: what is wrong with a selection, in words: the newest token is missing, a tie went to the older one. Host and
 * GPU candidates alike; host_verify.c implements it. */
#ifndef ADM_KERNELS_TUNE_HOST_TOPK_WORDS_H
#define ADM_KERNELS_TUNE_HOST_TOPK_WORDS_H

#include "core/contract/stage.h"

/* Compares a selection with the right one, both on the host. ADM_EINTERNAL: wrong; the sentence begins with `where`. */
adm_status adm_topk_verify(const uint16_t *distance, size_t n_tokens, const adm_select_rule *rule, const uint32_t *found,
                           uint32_t n_found, const uint32_t *expected, uint32_t n_expected, const char *where, adm_error *err);

#endif
