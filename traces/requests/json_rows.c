/* json_rows.c: a line to a request, or to a session of them. */
#include "traces/requests/json_rows.h"

#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

#include "core/base/json_read.h"
#include "core/base/mem.h"
#include "traces/requests/clients.h"
#include "traces/requests/json_numbers.h"
#include "traces/requests/numbers.h"

enum { SESSION_BLOCK_TOKENS = 16, COPILOT_BLOCK_TOKENS = 128, SERVINGSIM_BLOCK_TOKENS = 16 };

/* A session that later lines continue. */
typedef struct adm_session {
    int64_t last;     /* its latest request, as a row */
    uint64_t context; /* tokens of that one's prompt and answer */
} adm_session;

struct adm_json_format {
    const char *name, *key; /* a line with this key is of this format */
    adm_status (*read)(adm_json_rows *rows, const adm_lines *lines, const json_t *row, adm_builder *builder, adm_error *err);
};

void adm_json_rows_close(adm_json_rows *rows) {
    adm_id_map_free(&rows->sessions);
    adm_free(&rows->session);
}

/* --- Values --------------------------------------------------------------------------------------------------------- */

static adm_status read_lengths(const adm_lines *lines, const json_t *row, const char *in, const char *out, adm_row_request *r,
                               adm_error *err) {
    adm_status status = adm_json_whole(lines, row, in, ADM_REQUESTS_MAX_TOKENS, &r->input, err);
    return status != ADM_OK ? status : adm_json_whole(lines, row, out, ADM_REQUESTS_MAX_TOKENS, &r->output, err);
}

/* --- Mooncake and its kin ------------------------------------------------------------------------------------------- */

static adm_status add_hashes(const adm_lines *lines, const json_t *ids, adm_builder *builder, adm_error *err) {
    size_t i;
    json_t *id;
    json_array_foreach(ids, i, id) {
        uint64_t name;
        if (json_is_integer(id)) name = (uint64_t)json_integer_value(id);
        else if (json_is_string(id)) name = XXH3_64bits(json_string_value(id), json_string_length(id));
        else return adm_lines_refuse(lines, err, "\"hash_ids\" holds something other than whole numbers and texts");
        adm_status status = adm_builder_block(builder, name, err);
        if (status != ADM_OK) return status;
    }
    return adm_builder_check_blocks(builder, lines, err);
}

static adm_status add_mooncake(const adm_lines *lines, const json_t *row, const adm_row_request *r, adm_builder *builder,
                               adm_error *err) {
    const json_t *ids = json_object_get(row, "hash_ids");
    if (ids != NULL && !json_is_null(ids) && !json_is_array(ids))
        return adm_lines_refuse(lines, err, "\"hash_ids\" is not an array");
    adm_status status = adm_builder_add(builder, lines, r, err);
    return status == ADM_OK && json_is_array(ids) ? add_hashes(lines, ids, builder, err) : status;
}

static adm_status read_mooncake(adm_json_rows *rows, const adm_lines *lines, const json_t *row, adm_builder *builder,
                                adm_error *err) {
    (void)rows;
    adm_row_request r = {.parent = -1};
    adm_status status = adm_json_ns(lines, row, "timestamp", 1e6, &r.arrival_ns, err);
    if (status == ADM_OK) status = read_lengths(lines, row, "input_length", "output_length", &r, err);
    return status == ADM_OK ? add_mooncake(lines, row, &r, builder, err) : status;
}

static adm_status read_bailian(adm_json_rows *rows, const adm_lines *lines, const json_t *row, adm_builder *builder,
                               adm_error *err) {
    (void)rows;
    adm_row_request r = {.parent = -1};
    adm_status status = adm_json_ns(lines, row, "timestamp", 1e9, &r.arrival_ns, err);
    if (status == ADM_OK) status = read_lengths(lines, row, "input_length", "output_length", &r, err);
    return status == ADM_OK ? add_mooncake(lines, row, &r, builder, err) : status;
}

/* --- Sessions of AIPerf --------------------------------------------------------------------------------------------- */

static adm_status find_session(adm_json_rows *rows, const adm_lines *lines, const json_t *name, adm_session **session,
                               adm_error *err) {
    uint64_t key;
    uint32_t value = 0;
    if (json_is_string(name)) key = XXH3_64bits(json_string_value(name), json_string_length(name));
    else if (json_is_integer(name)) key = (uint64_t)json_integer_value(name);
    else return adm_lines_refuse(lines, err, "\"session_id\" is neither a text nor a whole number");
    adm_status status = adm_id_map_find(&rows->sessions, key, (uint32_t)rows->n_sessions + 1, &value, err);
    if (status != ADM_OK) return status;
    if (value == rows->n_sessions + 1) {
        status = adm_grow(&rows->session, rows->n_sessions, &rows->capacity, sizeof *rows->session,
                          "sessions of a request trace", err);
        if (status != ADM_OK) return status;
        rows->session[rows->n_sessions++] = (adm_session){-1, 0};
    }
    *session = &rows->session[value - 1];
    return ADM_OK;
}

/* Blocks of a prompt of which the first `shared` tokens are those of the session's previous prompt; the previous one's blocks
 * that lie within them come first, then new ones. */
static adm_status continue_blocks(adm_builder *builder, int64_t previous, uint64_t shared, uint64_t tokens,
                                  uint32_t block_tokens, adm_error *err) {
    adm_status status = ADM_OK;
    uint64_t i = 0;
    builder->fixed_block_tokens = block_tokens;
    if (previous >= 0) {
        const adm_request before = builder->out->request[previous];
        for (; status == ADM_OK && i < before.n_blocks && (i + 1) * block_tokens <= shared && (i + 1) * block_tokens <= tokens;
             i++)
            status = adm_builder_known_block(builder, builder->out->block[before.first_block + i], err);
    }
    uint32_t number;
    for (; status == ADM_OK && (i + 1) * block_tokens <= tokens; i++) status = adm_builder_new_block(builder, &number, err);
    return status;
}

static adm_status read_aiperf(adm_json_rows *rows, const adm_lines *lines, const json_t *row, adm_builder *builder,
                              adm_error *err) {
    adm_session *session = NULL;
    adm_row_request r = {.parent = -1};
    const bool has_time = json_object_get(row, "timestamp") != NULL,
               has_hashes = json_is_array(json_object_get(row, "hash_ids"));
    adm_status status = find_session(rows, lines, json_object_get(row, "session_id"), &session, err);
    if (status == ADM_OK) status = read_lengths(lines, row, "input_length", "output_length", &r, err);
    if (status != ADM_OK) return status;
    if (session->last >= 0 && !has_time) { /* a later turn without a delay comes at once */
        r.parent = session->last;
        r.arrival_ns = builder->out->request[session->last].arrival_ns;
        if (json_object_get(row, "delay") != NULL) status = adm_json_ns(lines, row, "delay", 1e6, &r.delay_ns, err);
    } else status = adm_json_ns(lines, row, "timestamp", 1e6, &r.arrival_ns, err);
    if (!has_hashes) r.input += session->context;
    if (status == ADM_OK && r.input > ADM_REQUESTS_MAX_TOKENS)
        return adm_lines_refuse(lines, err, "makes its session longer than %d tokens, the limit", ADM_REQUESTS_MAX_TOKENS);
    if (status == ADM_OK) status = add_mooncake(lines, row, &r, builder, err);
    if (status == ADM_OK && !has_hashes)
        status = continue_blocks(builder, session->last, session->context, r.input, SESSION_BLOCK_TOKENS, err);
    session->last = (int64_t)builder->out->n - 1;
    session->context = has_hashes ? 0 : r.input + r.output;
    return status;
}

/* --- LLMServingSim -------------------------------------------------------------------------------------------------- */

static adm_status read_servingsim(adm_json_rows *rows, const adm_lines *lines, const json_t *row, adm_builder *builder,
                                  adm_error *err) {
    (void)rows;
    adm_row_request r = {.parent = -1};
    const json_t *ids = json_object_get(row, "input_tok_ids");
    adm_status status = adm_json_ns(lines, row, "arrival_time_ns", 1, &r.arrival_ns, err);
    if (status == ADM_OK) status = read_lengths(lines, row, "input_toks", "output_toks", &r, err);
    if (status == ADM_OK) status = adm_builder_add(builder, lines, &r, err);
    if (status != ADM_OK || !json_is_array(ids)) return status;
    if (json_array_size(ids) != r.input)
        return adm_lines_refuse(lines, err, "has %zu input_tok_ids for input_toks of %" PRIu64, json_array_size(ids), r.input);
    builder->fixed_block_tokens = SERVINGSIM_BLOCK_TOKENS;
    uint64_t chain[1 + SERVINGSIM_BLOCK_TOKENS] = {0}; /* the hash of what is before, and a block */
    for (size_t i = 0; i < r.input && status == ADM_OK; i++) {
        const json_t *id = json_array_get(ids, i);
        if (!json_is_integer(id))
            return adm_lines_refuse(lines, err, "\"input_tok_ids\" holds something other than whole numbers");
        chain[1 + i % SERVINGSIM_BLOCK_TOKENS] = (uint64_t)json_integer_value(id);
        if ((i + 1) % SERVINGSIM_BLOCK_TOKENS != 0) continue;
        chain[0] = XXH3_64bits(chain, sizeof chain);
        status = adm_builder_block(builder, chain[0], err);
    }
    return status;
}

/* --- GitHub Copilot ------------------------------------------------------------------------------------------------- */

/* A call of the session so far. */
typedef struct call {
    uint64_t end_ns;
    int64_t row;
} call;

enum { MAX_OPEN_CALLS = 64 };

typedef struct agent_session {
    call recent[MAX_OPEN_CALLS]; /* the latest calls, a ring */
    size_t n;
} agent_session;

/* The call that ended last before `ns`: the one that this one can have waited for. NULL: none has ended. */
static const call *waited_for(const agent_session *s, uint64_t ns) {
    const call *found = NULL;
    for (size_t i = 0; i < s->n && i < MAX_OPEN_CALLS; i++)
        if (s->recent[i].end_ns <= ns && (found == NULL || s->recent[i].end_ns > found->end_ns)) found = &s->recent[i];
    return found;
}

static adm_status read_call(adm_json_rows *rows, const adm_lines *lines, const json_t *item, agent_session *s,
                            adm_builder *builder, adm_error *err) {
    const json_t *tokens = json_object_get(item, "tokens");
    const char *time = json_string_value(json_object_get(item, "timestamp"));
    uint64_t duration_ns = 0, cached = 0;
    adm_row_request r = {.parent = -1};
    char quote[ADM_SHOWN_BYTES];
    if (!json_is_object(tokens) || json_is_null(json_object_get(tokens, "prompt"))) {
        rows->n_skipped++;
        return ADM_OK;
    }
    if (time == NULL || !adm_read_date(time, &r.arrival_ns))
        return adm_lines_refuse(lines, err, "a call's timestamp '%s' is not a time such as 2026-06-01T09:30:00.25Z",
                                adm_shown(time != NULL ? time : "", quote));
    adm_status status = read_lengths(lines, tokens, "prompt", "completion", &r, err);
    if (status == ADM_OK && json_is_number(json_object_get(tokens, "cached")))
        status = adm_json_whole(lines, tokens, "cached", ADM_REQUESTS_MAX_TOKENS, &cached, err);
    if (status == ADM_OK && json_is_number(json_object_get(item, "duration_ms")))
        status = adm_json_ns(lines, item, "duration_ms", 1e6, &duration_ns, err);
    if (status != ADM_OK) return status;
    const call *before = waited_for(s, r.arrival_ns);
    if (before != NULL) {
        r.parent = before->row;
        r.delay_ns = r.arrival_ns - before->end_ns;
    }
    const int64_t previous = s->n > 0 ? s->recent[(s->n - 1) % MAX_OPEN_CALLS].row : -1;
    status = adm_builder_add(builder, lines, &r, err);
    if (status == ADM_OK) status = continue_blocks(builder, previous, cached, r.input, COPILOT_BLOCK_TOKENS, err);
    s->recent[s->n++ % MAX_OPEN_CALLS] = (call){r.arrival_ns + duration_ns, (int64_t)builder->out->n - 1};
    return status;
}

static adm_status read_copilot(adm_json_rows *rows, const adm_lines *lines, const json_t *row, adm_builder *builder,
                               adm_error *err) {
    agent_session s = {.n = 0};
    adm_status status = ADM_OK;
    const json_t *turns = json_object_get(row, "turns");
    if (!json_is_array(turns)) return adm_lines_refuse(lines, err, "\"turns\" is not an array");
    for (size_t t = 0; t < json_array_size(turns) && status == ADM_OK; t++) {
        const json_t *calls = json_object_get(json_array_get(turns, t), "llm_calls");
        for (size_t i = 0; i < json_array_size(calls) && status == ADM_OK; i++)
            status = read_call(rows, lines, json_array_get(calls, i), &s, builder, err);
    }
    return status;
}

/* --- Lines ---------------------------------------------------------------------------------------------------------- */

static adm_status read_client(adm_json_rows *rows, const adm_lines *lines, const json_t *row, adm_builder *builder,
                              adm_error *err) {
    return adm_client_row(rows->seed, lines, row, builder, err);
}

/* The more telling key first. */
static const struct adm_json_format formats[] = {
    {"copilot", "turns", read_copilot},
    {"clients", "rate", read_client},
    {"llmservingsim", "input_toks", read_servingsim},
    {"bailian", "chat_id", read_bailian},
    {"aiperf", "session_id", read_aiperf},
    {"mooncake", "input_length", read_mooncake},
    {"mooncake", "timestamp", read_mooncake},
};

static adm_status choose(adm_json_rows *rows, const adm_lines *lines, const json_t *row, const char **format, adm_error *err) {
    const struct adm_json_format *found = NULL;
    for (size_t i = 0; i < sizeof formats / sizeof formats[0] && found == NULL; i++)
        if (json_object_get(row, formats[i].key) != NULL) found = &formats[i];
    if (rows->format == NULL) rows->format = found;
    if (rows->format == NULL)
        return adm_lines_refuse(lines, err,
                                "has none of the keys of a known request trace, such as timestamp and input_length");
    *format = rows->format->name;
    if (found == NULL || strcmp(found->name, rows->format->name) == 0) return ADM_OK; /* what is missing is said by name */
    return adm_lines_refuse(lines, err, "is of the format %s, the lines before it are of %s", found->name, rows->format->name);
}

adm_status adm_json_row(adm_json_rows *rows, const adm_lines *lines, const char *line, adm_builder *builder,
                        const char **format, adm_error *err) {
    adm_json_fault why;
    json_t *row = adm_json_read(line, strlen(line), &why);
    if (row == NULL && why.no_memory)
        return adm_fail(err, ADM_EENVIRONMENT, "%s: out of memory while parsing line %" PRIu64, lines->file.label,
                        lines->n_line);
    if (row == NULL) return adm_lines_refuse(lines, err, "is not valid JSON at byte %zu: %s", why.at, why.text);
    adm_status status = json_is_object(row) ? choose(rows, lines, row, format, err)
                                            : adm_lines_refuse(lines, err, "is JSON, but not an object");
    if (status == ADM_OK) status = rows->format->read(rows, lines, row, builder, err);
    json_decref(row);
    return status;
}
