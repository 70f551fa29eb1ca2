/* requests.h: imports request traces, lengths and arrival times without text, from files that may be made to do harm.
 *
 *   Azure     TIMESTAMP,ContextTokens,GeneratedTokens            2023-11-16 18:15:46.6805900,374,44    (also ...+00:00)
 *   BurstGPT  Timestamp,...,Request tokens,Response tokens,Total tokens,...     seconds from the start, 5 or 5.25
 *   Mooncake  {"timestamp": 3000, "input_length": 6758, "output_length": 500, "hash_ids": [...]}      milliseconds
 *
 * The first line says which it is; CSV columns are found by name, those not named here are ignored, and lines end with
 * LF or CRLF, the last with or without. Formats: github.com/Azure/AzurePublicDataset, github.com/HPMLL/BurstGPT,
 * github.com/kvcache-ai/Mooncake. */
#ifndef ADM_TRACES_REQUESTS_REQUESTS_H
#define ADM_TRACES_REQUESTS_REQUESTS_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"

enum {
    ADM_REQUESTS_MAX_LINE_BYTES = 1 << 20,
    ADM_REQUESTS_MAX_TOKENS = 1 << 30,  /* of one request, in or out */
    ADM_REQUESTS_MAX = 100000000,       /* rows; 16 bytes each */
};

typedef enum adm_requests_format { ADM_REQUESTS_AZURE, ADM_REQUESTS_BURSTGPT, ADM_REQUESTS_MOONCAKE } adm_requests_format;

typedef struct adm_request {
    uint64_t arrival_ns;    /* since the earliest request of the file */
    uint32_t input_tokens;  /* 0 .. ADM_REQUESTS_MAX_TOKENS */
    uint32_t output_tokens; /* likewise; 0 where the service gave no answer */
} adm_request;

typedef struct adm_requests {
    adm_requests_format format;
    size_t n;             /* at least 1 */
    adm_request *request; /* [n] by arrival; equal arrivals in the file's order */
    size_t n_early;       /* rows that stood in the file after a later one */
} adm_requests;

/* "azure", "burstgpt", "mooncake". */
const char *adm_requests_format_name(adm_requests_format format);

/* Reads the whole file. *out is released with adm_requests_free(); NULL on failure. ADM_EINPUT with the file, line,
 * value and limit for what is wrong with the file (a file without rows included), ADM_EENVIRONMENT for memory and a
 * failing disk. Memory: 16 bytes a request, up to twice that while it grows or is sorted, and the longest line. */
adm_status adm_requests_read(const char *path, adm_requests **out, adm_error *err);

/* Frees and nulls; NULL is fine. */
void adm_requests_free(adm_requests **requests);

#endif
