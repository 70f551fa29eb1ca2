/* replay_codes.c: the quality pass's key codes: learning the codebooks, encoding a layer's keys, and a query's distances
 * from them. */
#include <string.h>

#include "core/base/mem.h"
#include "core/replay/replay_internal.h"

/* --- Codebooks ------------------------------------------------------------------------------------------------------ */

/* Rows a KV head that a layer's thresholds are learnt from: enough for quantiles to 1%, few enough to sort. */
enum { CALIBRATION_ROWS = 4096 };

static void load_rows(const adm_replay *r, const adm_trace_layer *l, size_t kv_head, size_t token, size_t n_rows, bool hadamard,
                      float *y) {
    uint32_t d = r->trace->shape.head_dim;
    const unsigned char *rows = adm_key_row(r, l, kv_head, token);
    if (hadamard) r->options.pipeline->hadamard->fn.hadamard(l->k_dtype, rows, n_rows, d, y);
    else adm_to_f32(l->k_dtype, rows, n_rows * d, y);
}

/* The books of one layer whose keys are transformed, or of those whose are not. */
static adm_status learn_books(adm_replay *r, size_t layer, bool hadamard, adm_error *err) {
    const adm_shape *shape = &r->trace->shape;
    size_t n_prompt = (size_t)r->trace->positions[r->segment[0].first_step];
    size_t n_rows = n_prompt < CALIBRATION_ROWS ? n_prompt : CALIBRATION_ROWS;
    float *y = NULL;
    adm_status status = ADM_OK;
    for (size_t c = 0; status == ADM_OK && c < r->options.n_codings; c++) {
        const adm_coding *coding = &r->options.codings[c];
        if (coding->hadamard != hadamard) continue;
        if (y == NULL) {
            status = adm_alloc(&y, n_rows * shape->n_kv_heads * shape->head_dim, sizeof *y, "keys for calibration", err);
            for (size_t h = 0; status == ADM_OK && h < shape->n_kv_heads; h++)
                for (size_t i = 0; i < n_rows; i++)
                    load_rows(r, r->layer[layer], h, i * n_prompt / n_rows, 1, hadamard,
                              y + (h * n_rows + i) * shape->head_dim);
        }
        if (status == ADM_OK)
            status = adm_codebook_create(coding, y, n_rows, shape->n_kv_heads, shape->head_dim,
                                         &r->book[c * r->n_layers + layer], err);
    }
    adm_free(&y);
    return status;
}

adm_status adm_replay_learn_layer(adm_replay *r, size_t layer, adm_error *err) {
    adm_status status = learn_books(r, layer, true, err);
    return status == ADM_OK ? learn_books(r, layer, false, err) : status;
}

/* The codes of one layer's keys. */
static uint8_t *packed_of(const adm_replay *r, const adm_layer_codes *codes, size_t layer) {
    return codes->packed != NULL ? codes->packed : r->stages.cache[layer];
}

/* --- Room for a layer ----------------------------------------------------------------------------------------------- */

adm_status adm_replay_codes_open(adm_replay *r, adm_error *err) {
    const adm_shape *shape = &r->trace->shape;
    const adm_coding *codings = r->options.codings;
    size_t n_codings = r->options.n_codings;
    adm_status status = adm_alloc(&r->book, n_codings * r->n_layers, sizeof *r->book, "codebooks", err);
    if (status == ADM_OK) status = adm_alloc(&r->codes, n_codings, sizeof *r->codes, "key codes", err);
    if (status == ADM_OK) status = adm_alloc(&r->codes_of, n_codings, sizeof *r->codes_of, "key codes", err);
    for (size_t c = 0; status == ADM_OK && c < n_codings; c++) {
        size_t i = 0;
        while (i < r->n_codes && !adm_coding_same_codes(r->codes[i].coding, &codings[c])) i++;
        r->codes_of[c] = i;
        if (i < r->n_codes) continue;
        adm_layer_codes *codes = &r->codes[r->n_codes++];
        codes->coding = &codings[c];
        codes->row_bytes = adm_code_row_bytes(codings[c].bits, shape->head_dim);
        if (r->options.n_counters > 0) continue; /* counting takes no quality */
        const bool in_cache = c == 0 && adm_replay_times_codes(r) && r->options.n_timed_steps > 0;
        if (!in_cache)
            status = adm_alloc(&codes->packed, shape->n_kv_heads * r->trace->n_tokens, codes->row_bytes,
                               "packed codes of a layer", err);
        if (status == ADM_OK)
            status = adm_alloc(&codes->n_codes, r->n_layers * shape->n_kv_heads * ADM_CODES, sizeof *codes->n_codes,
                               "code counts", err);
    }
    return status;
}

void adm_replay_codes_close(adm_replay *r) {
    for (size_t i = 0; r->book != NULL && i < r->options.n_codings * r->n_layers; i++) adm_codebook_free(&r->book[i]);
    for (size_t i = 0; i < r->n_codes; i++) {
        adm_free(&r->codes[i].packed);
        adm_free(&r->codes[i].n_codes);
    }
    adm_free(&r->book);
    adm_free(&r->codes);
    adm_free(&r->codes_of);
}

/* --- Encoding a layer ----------------------------------------------------------------------------------------------- */

static void count_codes(const uint8_t *packed, size_t n_bytes, uint32_t bits, uint64_t *n_codes) {
    uint32_t of_byte[256] = {0};
    if (bits == 3) { /* eight codes to three bytes */
        for (size_t i = 0; i < n_bytes; i += 3) {
            uint32_t eight = packed[i] | (uint32_t)packed[i + 1] << 8 | (uint32_t)packed[i + 2] << 16;
            for (int c = 0; c < 8; c++) n_codes[eight >> (3 * c) & 7]++;
        }
        return;
    }
    for (size_t i = 0; i < n_bytes; i++) of_byte[packed[i]]++;
    for (uint32_t byte = 0; byte < 256; byte++)
        for (uint32_t at = 0; at < 8; at += bits) n_codes[byte >> at & ((1u << bits) - 1)] += of_byte[byte];
}

static float *page_bounds_of(const adm_replay *r, size_t kv_head) {
    return r->page_bounds + kv_head * adm_quest_pages(r->trace->n_tokens) * 2 * r->trace->shape.head_dim;
}

/* ADM_ENCODE_ROWS keys of one KV head. */
static void encode_rows(void *user, size_t task, size_t worker) {
    adm_replay *r = user;
    adm_worker *w = &r->worker[worker];
    const adm_trace_layer *l = r->layer[r->at_layer];
    size_t n_kv = r->trace->shape.n_kv_heads, h = task % n_kv, first = task / n_kv * ADM_ENCODE_ROWS;
    size_t n_tokens = adm_segment_tokens(r, r->at_segment);
    size_t n_rows = n_tokens - first < ADM_ENCODE_ROWS ? n_tokens - first : ADM_ENCODE_ROWS;
    uint32_t d = r->trace->shape.head_dim;
    for (int hadamard = 0; hadamard < 2; hadamard++) {
        bool loaded = false;
        if (hadamard == 0 && r->page_bounds != NULL) {
            load_rows(r, l, h, first, n_rows, false, w->rows);
            for (size_t i = 0; i < n_rows; i++) adm_quest_append(page_bounds_of(r, h), first + i, w->rows + i * d, d);
            loaded = true;
        }
        for (size_t i = 0; i < r->n_codes; i++) {
            const adm_layer_codes *codes = &r->codes[i];
            if (codes->coding->hadamard != (hadamard == 1)) continue;
            const adm_codebook *book = r->book[(size_t)(codes->coding - r->options.codings) * r->n_layers + r->at_layer];
            uint8_t *packed = packed_of(r, codes, r->at_layer) + (h * r->trace->n_tokens + first) * codes->row_bytes;
            if (!loaded) load_rows(r, l, h, first, n_rows, hadamard == 1, w->rows);
            loaded = true;
            r->options.pipeline->encode(w->rows, n_rows, d, adm_codebook_key(book, h), book->bits, packed);
            count_codes(packed, n_rows * codes->row_bytes, book->bits, w->n_codes + (i * n_kv + h) * ADM_CODES);
        }
    }
}

bool adm_replay_encode_layer(adm_replay *r, const adm_segment *segment, size_t layer) {
    size_t n_kv = r->trace->shape.n_kv_heads, n_threads = adm_pool_size(r->pool), n_counts = n_kv * ADM_CODES;
    size_t n_chunks = (adm_segment_tokens(r, segment) + ADM_ENCODE_ROWS - 1) / ADM_ENCODE_ROWS;
    r->at_segment = segment;
    r->at_layer = layer;
    if (r->n_codes == 0 && r->page_bounds == NULL) return true;
    for (size_t i = 0; i < n_threads; i++) memset(r->worker[i].n_codes, 0, r->n_codes * n_counts * sizeof(uint64_t));
    if (!adm_pool_run(r->pool, n_chunks * n_kv, encode_rows, r, r->options.should_stop)) return false;
    for (size_t i = 0; i < r->n_codes; i++) {
        uint64_t *sum = r->codes[i].n_codes + layer * n_counts;
        memset(sum, 0, n_counts * sizeof *sum);
        for (size_t t = 0; t < n_threads; t++)
            for (size_t c = 0; c < n_counts; c++) sum[c] += r->worker[t].n_codes[i * n_counts + c];
    }
    return true;
}

/* --- Distances ------------------------------------------------------------------------------------------------------ */

uint32_t adm_replay_distances(const adm_replay *r, adm_worker *w, const adm_task_at *at, size_t c, uint32_t head) {
    const adm_coding *coding = &r->options.codings[c];
    const adm_codebook *book = r->book[c * r->n_layers + at->layer];
    const adm_layer_codes *codes = &r->codes[r->codes_of[c]];
    const uint8_t *keys = packed_of(r, codes, at->layer) + at->kv_head * r->trace->n_tokens * codes->row_bytes;
    uint32_t d = r->trace->shape.head_dim, n_queries = adm_coding_queries(coding, &r->trace->shape);
    const float *y = (coding->hadamard ? at->y : at->q) + (n_queries > 1 ? 0 : head) * d;
    const adm_host_impl *direct = r->options.pipeline->code_distance[coding->metric][coding->bits];
    if (n_queries == 1 && direct != NULL) {
        uint8_t query[ADM_MAX_HEAD_DIM];
        r->options.pipeline->encode(y, 1, d, adm_codebook_query(book, at->kv_head), book->bits, query);
        direct->fn.distance(query, keys, at->n_tokens, d, w->distance);
    } else {
        adm_codebook_table(coding, book, at->kv_head, y, n_queries, w->table);
        r->options.pipeline->scan(w->table, keys, at->n_tokens, d, coding->bits, w->scan_scratch, w->distance);
    }
    return adm_coding_max_distance(coding, d, n_queries);
}
