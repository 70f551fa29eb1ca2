/* builder.h: requests in the making: rows in any order become requests by arrival, names of blocks become small numbers, and
 * the size of a block follows from lengths and counts. */
#ifndef ADM_TRACES_REQUESTS_BUILDER_H
#define ADM_TRACES_REQUESTS_BUILDER_H

#include "core/contract/request.h"
#include "traces/requests/id_map.h"
#include "traces/requests/lines.h"

/* Sizes of a block that every row so far allows. */
typedef struct adm_block_range {
    uint64_t low, high;
} adm_block_range;

typedef struct adm_builder {
    adm_requests *out;
    size_t capacity, block_capacity;
    uint64_t latest_ns;           /* the latest arrival so far, not yet counted from the first */
    adm_id_map ids;
    adm_block_range whole, begun; /* if the rows count whole blocks alone, or also the last, unfilled one */
    uint32_t fixed_block_tokens;  /* the format says so; 0: found from the rows */
} adm_builder;

/* A row. parent: index of an earlier row, or -1. */
typedef struct adm_row_request {
    uint64_t arrival_ns, delay_ns, input, output;
    int64_t parent;
} adm_row_request;

adm_status adm_builder_open(adm_builder *builder, adm_error *err);
void adm_builder_close(adm_builder *builder);

/* Adds a row that stands in the present line. ADM_EINPUT: one too many. */
adm_status adm_builder_add(adm_builder *builder, const adm_lines *lines, const adm_row_request *row, adm_error *err);

/* Adds a block to the row added last: by the name that the trace gives it, or one of its own kind that no name has. */
adm_status adm_builder_block(adm_builder *builder, uint64_t name, adm_error *err);
adm_status adm_builder_new_block(adm_builder *builder, uint32_t *number, adm_error *err);
adm_status adm_builder_known_block(adm_builder *builder, uint32_t number, adm_error *err);

/* After a row's blocks: whether their count goes with its length and with the rows before. ADM_EINPUT if not. */
adm_status adm_builder_check_blocks(adm_builder *builder, const adm_lines *lines, adm_error *err);

/* Puts all in order; *out is the caller's. */
adm_status adm_builder_finish(adm_builder *builder, adm_requests **out, adm_error *err);

#endif
