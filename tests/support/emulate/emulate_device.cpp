/* emulate_device.cpp: what emulate.h leaves to functions and what needs no knowledge of the scheduler: copies, barriers that
 * count bytes, and what the last lane of a warp does for all. */
#include "tests/support/emulate/emulate.h"

/* ---- copies ---- */

/* Lets those of `first` to `last` arrive, and returns their bytes. */
static size_t end_copies(emu_copies *c, uint64_t first, uint64_t last) {
    unsigned n_left = 0;
    size_t bytes = 0;
    for (unsigned i = 0; i < c->n; i++)
        if (c->copy[i].of < first || c->copy[i].of > last) {
            c->copy[n_left++] = c->copy[i];
        } else {
            memcpy(c->copy[i].to, c->copy[i].from, c->copy[i].bytes);
            bytes += c->copy[i].bytes;
        }
    c->n = n_left;
    return bytes;
}

void emu_copy16(void *shared, const void *global) {
    emu_copies *c = &emu_self->copies;
    c->copy[c->n++] = emu_copy{shared, global, 16, emu_self->n_groups};
    if (!emu_self->block->backwards || c->n == EMU_COPIES) end_copies(c, 0, UINT64_MAX);
}

void emu_copies_wait(unsigned most_groups) {
    if (emu_self->n_groups > most_groups) end_copies(&emu_self->copies, 0, emu_self->n_groups - most_groups - 1);
}

/* ---- barriers that count bytes ---- */

/* In the 8 bytes of the device's: one arrival a phase, and the bytes that are announced and not yet there. */
struct byte_barrier {
    int32_t n_bytes;
    uint16_t n_missing, phase;
};

static void barrier_count(void *at, uint16_t arrivals, int32_t bytes) {
    byte_barrier *b = (byte_barrier *)at;
    b->n_bytes += bytes;
    b->n_missing = (uint16_t)(b->n_missing - arrivals);
    if (b->n_missing != 0 || b->n_bytes != 0) return;
    b->n_missing = 1;
    b->phase ^= 1;
    emu_wake_parked();
}

void adm_barrier_init(uint64_t *barrier) {
    const byte_barrier fresh = {0, 1, 0};
    memcpy(barrier, &fresh, sizeof fresh);
}

void adm_barrier_expect(uint64_t *barrier, uint32_t bytes) { barrier_count(barrier, 1, (int32_t)bytes); }

static void finish_copies(uint64_t *barrier) {
    barrier_count(barrier, 0, -(int32_t)end_copies(&emu_self->block->copies, (uintptr_t)barrier, (uintptr_t)barrier));
}

void adm_barrier_wait(uint64_t *barrier, uint32_t parity) {
    const volatile byte_barrier *b = (const byte_barrier *)barrier;
    for (;;) {
        finish_copies(barrier);
        if (b->phase != parity) return;
        emu_park("a barrier that counts bytes");
    }
}

void adm_push(void *to, uint32_t value, uint32_t rank, uint64_t *barrier) {
    memcpy(emu_peer(to, rank), &value, sizeof value);
    barrier_count(emu_peer(barrier, rank), 0, -(int32_t)sizeof value);
}

void adm_bulk_copy_expected(void *shared, const void *global, uint32_t bytes, uint64_t *barrier, uint64_t) {
    if (bytes % 16 != 0 || (((uintptr_t)shared | (uintptr_t)global) & 15) != 0) abort(); /* as the device would end */
    emu_copies *c = &emu_self->block->copies;
    c->copy[c->n++] = emu_copy{shared, global, bytes, (uintptr_t)barrier};
    if (!emu_self->block->backwards || c->n == EMU_COPIES) finish_copies(barrier);
    else emu_wake_parked(); /* whoever waits for it already */
}

void adm_bulk_copy(void *shared, const void *global, uint32_t bytes, uint64_t *barrier) {
    adm_barrier_expect(barrier, bytes);
    adm_bulk_copy_expected(shared, global, bytes, barrier, 0);
}

/* ---- what the last lane of a warp does for all ---- */

void emu_last_or(emu_warp *w) {
    w->buffer[w->turn].result = 0;
    for (uint64_t x : w->buffer[w->turn].brought) w->buffer[w->turn].result |= (uint32_t)x;
}
void emu_last_add(emu_warp *w) {
    w->buffer[w->turn].result = 0;
    for (uint64_t x : w->buffer[w->turn].brought) w->buffer[w->turn].result += (uint32_t)x;
}
void emu_last_min(emu_warp *w) {
    w->buffer[w->turn].result = UINT32_MAX;
    for (uint64_t x : w->buffer[w->turn].brought) w->buffer[w->turn].result = min(w->buffer[w->turn].result, (uint32_t)x);
}
void emu_last_max(emu_warp *w) {
    w->buffer[w->turn].result = 0;
    for (uint64_t x : w->buffer[w->turn].brought) w->buffer[w->turn].result = max(w->buffer[w->turn].result, (uint32_t)x);
}

/* Exact: the bits moved to float32's places, and the exponent's bias corrected by a product. */
static inline float widened_f16(uint32_t x) {
    const uint32_t all_ones = (x & 0x7c00) == 0x7c00 ? 0x7f800000u : 0;
    return __uint_as_float(__float_as_uint(__uint_as_float((x & 0x7fff) << 13) * 0x1p112f) | all_ones | (x & 0x8000) << 16);
}
static inline float widened_bf16(uint32_t x) { return __uint_as_float(x << 16); }

/* C = A [16][16] B [16][8], operands and result spread over the lanes as PTX has it (mma.m16n8k16): lane 4g + t brings of A
 * the rows g and g + 8, of B the column g, the elements 2t, 2t + 1, 2t + 8, 2t + 9 of each, and takes of C the rows g
 * and g + 8, columns 2t and 2t + 1. */
template <float (*WIDENED)(uint32_t)> static void product(emu_warp *w) {
    auto *buffer = &w->buffer[w->turn];
    float a[16][16], b[16][8], c[16][8] = {};
    for (unsigned lane = 0; lane < EMU_WARP; lane++)
        for (unsigned i = 0; i < 12; i++) {
            const unsigned g = lane / 4, word = i / 2, k = lane % 4 * 2 + i % 2;
            const float x = WIDENED(buffer->word[lane][word] >> 16 * (i % 2) & 0xffff);
            if (word < 4) a[g + word % 2 * 8][k + word / 2 * 8] = x;
            else b[k + (word - 4) * 8][g] = x;
        }
    for (unsigned row = 0; row < 16; row++)
        for (unsigned k = 0; k < 16; k++)
            for (unsigned column = 0; column < 8; column++) c[row][column] += a[row][k] * b[k][column];
    for (unsigned lane = 0; lane < EMU_WARP; lane++)
        for (unsigned i = 0; i < 4; i++) buffer->product[lane][i] = c[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
}
void emu_last_product_f16(emu_warp *w) { product<widened_f16>(w); }
void emu_last_product_bf16(emu_warp *w) { product<widened_bf16>(w); }

/* The same with m16n8k256 of bits: lane 4g + w brings of A the rows g and g + 8, of B the column g, the words w and 4 + w. */
void emu_last_bit_product(emu_warp *w) {
    auto *buffer = &w->buffer[w->turn];
    for (unsigned lane = 0; lane < EMU_WARP; lane++)
        for (unsigned i = 0; i < 4; i++) {
            const unsigned row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
            buffer->count[lane][i] = 0;
            for (unsigned k = 0; k < 8; k++)
                buffer->count[lane][i] += __popc(buffer->word[row % 8 * 4 + k % 4][row / 8 + k / 4 * 2] &
                                                 buffer->word[column * 4 + k % 4][4 + k / 4]);
        }
}
