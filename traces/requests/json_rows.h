/* json_rows.h: request traces as JSON lines, told apart by the keys of the first one.
 *
 *   mooncake       timestamp (ms), input_length, output_length, hash_ids (of blocks of any size, or none)
 *   bailian        the same with chat_id: timestamp in seconds
 *   aiperf         the same with session_id: a later turn has a delay (ms) after the one before it, or its own timestamp;
 *                  without hash_ids its prompt is what the session holds so far and input_length tokens
 *   llmservingsim  arrival_time_ns, input_toks, output_toks, input_tok_ids (or none)
 *   copilot        a session per line, turns of llm_calls with timestamp, duration_ms and tokens: each call comes its recorded
 *                  pause after the end of the latest call that it can have waited for, and shares its cached tokens with the
 *                  one before
 *   clients        a client per line whose requests are sampled (clients.h) */
#ifndef ADM_TRACES_REQUESTS_JSON_ROWS_H
#define ADM_TRACES_REQUESTS_JSON_ROWS_H

#include <jansson.h>

#include "traces/requests/builder.h"

typedef struct adm_json_rows {
    const struct adm_json_format *format; /* NULL: no line was read */
    uint64_t seed;                        /* of what is sampled */
    adm_id_map sessions;                  /* a session's name to where it stands in `session` */
    struct adm_session *session;
    size_t n_sessions, capacity;
    uint64_t n_skipped;                   /* calls of which the trace has no token counts */
} adm_json_rows;

void adm_json_rows_close(adm_json_rows *rows);

/* Reads a line; the first one decides the format. ADM_EINPUT: not JSON, of no known or another format, a value out of range. */
adm_status adm_json_row(adm_json_rows *rows, const adm_lines *lines, const char *line, adm_builder *builder,
                        const char **format, adm_error *err);

#endif
