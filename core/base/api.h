/* api.h: how a symbol leaves the host library (libadamas.so). Objects are compiled with hidden visibility; what a
 * Python program or another tool may call through the library is marked ADM_API, and nothing else is visible. */
#ifndef ADM_CORE_BASE_API_H
#define ADM_CORE_BASE_API_H

#define ADM_API __attribute__((visibility("default")))

#if defined(__GNUC__)
#define ADM_PRINTF(fmt_index, first_arg) __attribute__((format(printf, fmt_index, first_arg)))
#else
#define ADM_PRINTF(fmt_index, first_arg)
#endif

#endif
