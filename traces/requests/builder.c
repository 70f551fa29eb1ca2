/* builder.c: rows to requests. */
#include "traces/requests/builder.h"

#include <inttypes.h>
#include <string.h>

#include "core/base/mem.h"

enum { MAX_BLOCK_TOKENS = 1 << 16 };

adm_status adm_builder_open(adm_builder *b, adm_error *err) {
    *b = (adm_builder){.whole = {1, MAX_BLOCK_TOKENS}, .begun = {1, MAX_BLOCK_TOKENS}};
    return adm_alloc(&b->out, 1, sizeof *b->out, "requests", err);
}

void adm_builder_close(adm_builder *b) {
    adm_requests_free(&b->out);
    adm_id_map_free(&b->ids);
}

adm_status adm_builder_add(adm_builder *b, const adm_lines *lines, const adm_row_request *row, adm_error *err) {
    adm_requests *out = b->out;
    if (out->n == ADM_REQUESTS_MAX)
        return adm_lines_refuse(lines, err, "holds one request more than %d, the limit", ADM_REQUESTS_MAX);
    adm_status status = adm_grow(&out->request, out->n, &b->capacity, sizeof *out->request, "requests", err);
    if (status != ADM_OK) return status;
    out->request[out->n++] = (adm_request){.arrival_ns = row->arrival_ns,
                                           .delay_ns = row->delay_ns,
                                           .parent = row->parent,
                                           .first_block = out->n_blocks,
                                           .input_tokens = (uint32_t)row->input,
                                           .output_tokens = (uint32_t)row->output,
                                           .line = (uint32_t)lines->n_line};
    out->n_early += row->arrival_ns < b->latest_ns;
    out->n_chained += row->parent >= 0;
    if (row->arrival_ns > b->latest_ns) b->latest_ns = row->arrival_ns;
    return ADM_OK;
}

/* --- Blocks --------------------------------------------------------------------------------------------------------- */

adm_status adm_builder_known_block(adm_builder *b, uint32_t number, adm_error *err) {
    adm_requests *out = b->out;
    adm_status status = adm_grow(&out->block, out->n_blocks, &b->block_capacity, sizeof *out->block, "blocks of prompts", err);
    if (status != ADM_OK) return status;
    out->block[out->n_blocks++] = number;
    out->request[out->n - 1].n_blocks++;
    return ADM_OK;
}

adm_status adm_builder_new_block(adm_builder *b, uint32_t *number, adm_error *err) {
    if (b->out->n_distinct_blocks >= UINT32_MAX - 1)
        return adm_fail(err, ADM_EINPUT, "the trace has more than %u different blocks", UINT32_MAX - 1);
    *number = (uint32_t)b->out->n_distinct_blocks++;
    return adm_builder_known_block(b, *number, err);
}

adm_status adm_builder_block(adm_builder *b, uint64_t name, adm_error *err) {
    uint32_t value = 0;
    const uint32_t next = (uint32_t)b->out->n_distinct_blocks + 1;
    if (b->out->n_distinct_blocks >= UINT32_MAX - 1)
        return adm_fail(err, ADM_EINPUT, "the trace has more than %u different blocks", UINT32_MAX - 1);
    adm_status status = adm_id_map_find(&b->ids, name, next, &value, err);
    if (status != ADM_OK) return status;
    if (value == next) b->out->n_distinct_blocks++;
    return adm_builder_known_block(b, value - 1, err);
}

static void narrow(adm_block_range *range, uint64_t low, uint64_t high) {
    if (low > range->low) range->low = low;
    if (high < range->high) range->high = high;
}

static bool within(const adm_block_range *range, uint64_t size) { return range->low <= size && size <= range->high; }

/* A likely size that all rows allow: those in use, else a power of two, else the smallest; 0: none fits. */
static uint32_t likely(const adm_builder *b) {
    static const uint32_t usual[] = {512, 16};
    for (size_t i = 0; i < sizeof usual / sizeof usual[0]; i++)
        if (within(&b->begun, usual[i]) || within(&b->whole, usual[i])) return usual[i];
    for (uint32_t size = 1; size <= MAX_BLOCK_TOKENS; size *= 2)
        if (within(&b->begun, size) || within(&b->whole, size)) return size;
    if (b->begun.low <= b->begun.high) return (uint32_t)b->begun.low;
    return b->whole.low <= b->whole.high ? (uint32_t)b->whole.low : 0;
}

adm_status adm_builder_check_blocks(adm_builder *b, const adm_lines *lines, adm_error *err) {
    const adm_request *r = &b->out->request[b->out->n - 1];
    const uint64_t n = r->n_blocks, length = r->input_tokens;
    if (n == 0) return ADM_OK;
    if (n > length)
        return adm_lines_refuse(lines, err, "has %" PRIu64 " hash_ids, more than its %" PRIu64 " input tokens", n, length);
    const uint32_t before = likely(b);
    narrow(&b->begun, (length + n - 1) / n, n > 1 ? (length - 1) / (n - 1) : MAX_BLOCK_TOKENS);
    narrow(&b->whole, length / (n + 1) + 1, length / n);
    if (likely(b) != 0) return ADM_OK;
    return adm_lines_refuse(lines, err,
                            "has %" PRIu64 " hash_ids for an input_length of %" PRIu64
                            "; the lines before it have blocks of %u "
                            "tokens, which makes %" PRIu64,
                            n, length, before, (length + before - 1) / before);
}

/* Keeps whole blocks alone: those alone can be shared. */
static void cut_blocks(adm_builder *b) {
    adm_requests *out = b->out;
    out->block_tokens = b->fixed_block_tokens != 0 ? b->fixed_block_tokens : likely(b);
    if (out->n_blocks == 0) out->block_tokens = 0;
    for (size_t i = 0; i < out->n && out->block_tokens > 0; i++) {
        const uint32_t whole = out->request[i].input_tokens / out->block_tokens;
        if (out->request[i].n_blocks > whole) out->request[i].n_blocks = whole;
    }
}

/* --- Order ---------------------------------------------------------------------------------------------------------- */

/* Merges two ascending halves of indices; of equal arrivals the left one's come first, which qsort() would not promise. */
static void merge_sort(const adm_request *request, uint32_t *a, uint32_t *spare, size_t n) {
    if (n < 2) return;
    size_t half = n / 2, i = 0, j = half;
    merge_sort(request, a, spare, half);
    merge_sort(request, a + half, spare, n - half);
    memcpy(spare, a, n * sizeof *a);
    for (size_t k = 0; k < n; k++)
        a[k] = j == n || (i < half && request[spare[i]].arrival_ns <= request[spare[j]].arrival_ns) ? spare[i++] : spare[j++];
}

/* Sorts by arrival, and points parents at where theirs have gone. */
static adm_status put_in_order(adm_requests *out, adm_error *err) {
    uint32_t *order = NULL, *spare = NULL;
    adm_request *sorted = NULL;
    const size_t n = out->n;
    if (out->n_early == 0) return ADM_OK;
    adm_status status = adm_alloc(&order, n, sizeof *order, "requests to sort", err);
    if (status == ADM_OK) status = adm_alloc(&spare, n, sizeof *spare, "requests to sort", err);
    if (status == ADM_OK) status = adm_alloc(&sorted, n, sizeof *sorted, "requests to sort", err);
    if (status == ADM_OK) {
        for (size_t i = 0; i < n; i++) order[i] = (uint32_t)i;
        merge_sort(out->request, order, spare, n);
        for (size_t i = 0; i < n; i++) sorted[i] = out->request[order[i]];
        for (size_t i = 0; i < n; i++) spare[order[i]] = (uint32_t)i;
        for (size_t i = 0; i < n; i++)
            if (sorted[i].parent >= 0) sorted[i].parent = spare[sorted[i].parent];
        adm_free(&out->request);
        out->request = sorted;
        sorted = NULL;
    }
    adm_free(&order);
    adm_free(&spare);
    adm_free(&sorted);
    return status;
}

adm_status adm_builder_finish(adm_builder *b, adm_requests **out, adm_error *err) {
    cut_blocks(b);
    adm_status status = put_in_order(b->out, err);
    if (status != ADM_OK) return status;
    const uint64_t first = b->out->request[0].arrival_ns;
    for (size_t i = 0; i < b->out->n; i++) b->out->request[i].arrival_ns -= first;
    *out = b->out;
    b->out = NULL;
    return ADM_OK;
}
