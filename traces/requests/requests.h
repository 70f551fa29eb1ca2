/* requests.h: reads request traces, lengths and arrival times without text, from files that may be made to do harm; and
 * generates traffic.
 *
 *   Azure     TIMESTAMP,ContextTokens,GeneratedTokens            2023-11-16 18:15:46.6805900,374,44    (also ...+00:00)
 *   BurstGPT  Timestamp,...,Request tokens,Response tokens,Total tokens,...     seconds from the start, 5 or 5.25
 *   vidur     arrived_at,num_prefill_tokens,num_decode_tokens                   seconds
 *   JSON lines of Mooncake and its kin, LLMServingSim, GitHub Copilot, and of clients to sample: json_rows.h
 *
 * The first line says which it is; a file that begins as gzip is unpacked. CSV columns are found by name, those not named here
 * are ignored, and lines end with LF or CRLF, the last with or without. Formats: github.com/Azure/AzurePublicDataset (2023 to
 * 2026), github.com/HPMLL/BurstGPT, github.com/microsoft/vidur, github.com/kvcache-ai/Mooncake, github.com/ai-dynamo/aiperf,
 * github.com/alibaba-edu/qwen-bailian-usagetraces-anon, github.com/casys-kaist/LLMServingSim. */
#ifndef ADM_TRACES_REQUESTS_REQUESTS_H
#define ADM_TRACES_REQUESTS_REQUESTS_H

#include "core/contract/request.h"
#include "core/base/error.h"

enum { ADM_REQUESTS_SEED = 1 };

/* What a file was, beside its requests. */
typedef struct adm_requests_source {
    const char *format;   /* "azure", "mooncake", "clients", ... */
    char xxh128[33];      /* of the file; "" where none was read */
    uint64_t n_skipped;   /* calls without token counts */
} adm_requests_source;

/* Reads the whole file. *out is released with adm_requests_free(); NULL on failure. seed: of what is sampled. source may be
 * NULL. ADM_EINPUT with the file, line, value and limit for what is wrong with the file (a file without rows included),
 * ADM_EENVIRONMENT for memory and a failing disk. Memory: 48 bytes per request and 4 per block, up to twice that while they
 * grow, and the longest line. */
adm_status adm_requests_read(const char *path, uint64_t seed, adm_requests **out, adm_requests_source *source, adm_error *err);

/* Traffic of one client (clients.h) from words, "rate=2,pattern=gamma,cv=3,duration=600,input_tokens=4000,output_tokens=300"; a
 * length takes a mean, or with input_cv and output_cv a log-normal distribution. ADM_EINPUT names what is wrong. */
adm_status adm_requests_generate(const char *words, uint64_t seed, adm_requests **out, adm_error *err);

#endif
