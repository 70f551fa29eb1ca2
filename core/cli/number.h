/* number.h: numbers as people type them on a command line.
 *
 *     8192  8K  1.5M  1e5            K, M, G: 1024, 1024^2, 1024^3; a fraction only where the product is whole
 *     64,256,1K                      a list
 *     0-5  64-1024:x2  256-1K:+256   a range: every number, by a factor, by a step; the end is in if it is met */
#ifndef ADM_CORE_CLI_NUMBER_H
#define ADM_CORE_CLI_NUMBER_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"

enum { ADM_MAX_LIST = 65536 }; /* numbers of a list, at most */

/* Parses one whole number in [min, max]. `option` names it in the message ("--threads"). */
adm_status adm_parse_u64(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *value, adm_error *err);

/* The value of an option that need not be there: `fallback` where text is NULL. */
adm_status adm_option_u64(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t fallback, uint64_t *value,
                          adm_error *err);
adm_status adm_option_u32(const char *option, const char *text, uint32_t min, uint32_t max, uint32_t fallback, uint32_t *value,
                          adm_error *err);

/* Likewise a real number in [min, max]; max may be INFINITY, and the value is finite all the same. `noun` is what the message
 * asks for: "a number", "a percentage". */
adm_status adm_option_real(const char *option, const char *text, const char *noun, double min, double max, double fallback,
                           double *value, adm_error *err);

/* Parses a list into a freshly allocated ascending array without duplicates; each value in [min, max]. Release with
 * adm_free(). ADM_EINPUT says which item is wrong and what is allowed. */
adm_status adm_parse_u32_list(const char *option, const char *text, uint32_t min, uint32_t max, uint32_t **values, size_t *n,
                              adm_error *err);

#endif
