/* inflate.c: gzip.
 *
 *   member   header | block ... block | CRC-32, length
 *   block    stored: length and bytes; or symbols of two Huffman codes, fixed or sent along: a byte, or "copy `length` bytes
 *            from `distance` back", out of a window of 32 KiB
 *
 * A Huffman code is canonical: symbols of one length are consecutive numbers, so a code is decoded bit by bit from how many
 * symbols each length has. */
#include "traces/requests/inflate.h"

#include <stdbool.h>
#include <string.h>

#include "core/base/mem.h"

enum { IN_BYTES = 1 << 16, WINDOW = 1 << 15, MAX_BITS = 15, MAX_SYMBOLS = 288, MAX_COPY = 258 };

typedef struct code {
    uint16_t count[MAX_BITS + 1], symbol[MAX_SYMBOLS];
} code;

struct adm_inflate {
    const adm_input_file *file;
    unsigned char in[IN_BYTES];
    size_t begin, end;
    uint64_t at;      /* bytes of the file that were read */
    uint32_t bits;    /* not yet used, the next one lowest */
    int n_bits;
    unsigned char window[WINDOW];
    size_t out_at;    /* in the window, where the next byte goes */
    uint64_t n_out;   /* bytes of this member */
    uint32_t crc;
    uint32_t crc_table[256];
    bool in_member, in_block, last_block, stored;
    uint32_t rest;    /* bytes of a stored block, or of a copy, that are still to come */
    uint32_t distance;
    code literal, back;
};

static adm_status damaged(const adm_inflate *z, adm_error *err, const char *what) {
    return adm_fail(err, ADM_EINPUT, "%s: the gzip data are damaged near byte %llu: %s", z->file->label,
                    (unsigned long long)(z->at - (z->end - z->begin)), what);
}

/* --- Bytes and bits ------------------------------------------------------------------------------------------------- */

static adm_status next_byte(adm_inflate *z, uint32_t *byte, adm_error *err) {
    if (z->begin == z->end) {
        const uint64_t rest = z->file->n_bytes - z->at;
        const size_t n = rest < IN_BYTES ? (size_t)rest : IN_BYTES;
        if (n == 0) return damaged(z, err, "they end too early");
        adm_status status = adm_input_read(z->file, z->in, n, z->at, err);
        if (status != ADM_OK) return status;
        z->at += n;
        z->begin = 0;
        z->end = n;
    }
    *byte = z->in[z->begin++];
    return ADM_OK;
}

static adm_status take_bits(adm_inflate *z, int n, uint32_t *value, adm_error *err) {
    while (z->n_bits < n) {
        uint32_t byte = 0;
        adm_status status = next_byte(z, &byte, err);
        if (status != ADM_OK) return status;
        z->bits |= byte << z->n_bits;
        z->n_bits += 8;
    }
    *value = z->bits & ((1u << n) - 1);
    z->bits >>= n;
    z->n_bits -= n;
    return ADM_OK;
}

static adm_status take_u32(adm_inflate *z, uint32_t *value, adm_error *err) {
    uint32_t low = 0, high = 0;
    adm_status status = take_bits(z, 16, &low, err);
    if (status == ADM_OK) status = take_bits(z, 16, &high, err);
    *value = low | high << 16;
    return status;
}

/* --- Headers -------------------------------------------------------------------------------------------------------- */

static adm_status skip(adm_inflate *z, size_t n, bool to_nul, adm_error *err) {
    adm_status status = ADM_OK;
    for (uint32_t byte = 1; status == ADM_OK && (to_nul ? byte != 0 : n-- > 0);) status = take_bits(z, 8, &byte, err);
    return status;
}

static adm_status read_header(adm_inflate *z, adm_error *err) {
    uint32_t head[4], n = 0;
    adm_status status = ADM_OK;
    for (int i = 0; i < 4 && status == ADM_OK; i++) status = take_bits(z, 8, &head[i], err);
    if (status != ADM_OK) return status;
    if (head[0] != 0x1f || head[1] != 0x8b || head[2] != 8 || head[3] & 0xe0) return damaged(z, err, "no gzip header");
    status = skip(z, 6, false, err);                                        /* time, flags, system */
    if (status == ADM_OK && head[3] & 4) status = take_bits(z, 16, &n, err); /* extra field */
    if (status == ADM_OK && head[3] & 4) status = skip(z, n, false, err);
    if (status == ADM_OK && head[3] & 8) status = skip(z, 0, true, err);  /* name */
    if (status == ADM_OK && head[3] & 16) status = skip(z, 0, true, err); /* comment */
    if (status == ADM_OK && head[3] & 2) status = skip(z, 2, false, err); /* header's checksum */
    z->in_member = true;
    z->in_block = z->last_block = false;
    z->n_out = 0;
    z->crc = 0xffffffff;
    return status;
}

static adm_status end_member(adm_inflate *z, adm_error *err) {
    uint32_t crc = 0, length = 0;
    z->bits >>= z->n_bits & 7;
    z->n_bits -= z->n_bits & 7;
    adm_status status = take_u32(z, &crc, err);
    if (status == ADM_OK) status = take_u32(z, &length, err);
    if (status != ADM_OK) return status;
    if (crc != (z->crc ^ 0xffffffff) || length != (uint32_t)z->n_out) return damaged(z, err, "the checksum does not fit");
    z->in_member = false;
    return ADM_OK;
}

/* --- Codes ---------------------------------------------------------------------------------------------------------- */

/* From the length of each symbol's code, 0: it has none. False where more codes are used than there are. */
static bool make_code(code *c, const uint8_t *lengths, int n) {
    uint16_t offset[MAX_BITS + 1] = {0};
    int left = 1;
    memset(c->count, 0, sizeof c->count);
    for (int i = 0; i < n; i++) c->count[lengths[i]]++;
    c->count[0] = 0;
    for (int bits = 1; bits <= MAX_BITS; bits++) {
        left = 2 * left - c->count[bits];
        if (left < 0) return false;
        if (bits < MAX_BITS) offset[bits + 1] = (uint16_t)(offset[bits] + c->count[bits]);
    }
    for (int i = 0; i < n; i++)
        if (lengths[i] != 0) c->symbol[offset[lengths[i]]++] = (uint16_t)i;
    return true;
}

static adm_status take_symbol(adm_inflate *z, const code *c, uint32_t *symbol, adm_error *err) {
    int number = 0, first = 0, index = 0;
    for (int bits = 1; bits <= MAX_BITS; bits++) {
        uint32_t bit = 0;
        adm_status status = take_bits(z, 1, &bit, err);
        if (status != ADM_OK) return status;
        number |= (int)bit;
        if (number - c->count[bits] < first) {
            *symbol = c->symbol[index + number - first];
            return ADM_OK;
        }
        index += c->count[bits];
        first = (first + c->count[bits]) << 1;
        number <<= 1;
    }
    return damaged(z, err, "a code that stands for nothing");
}

static void make_fixed(adm_inflate *z) {
    uint8_t lengths[MAX_SYMBOLS];
    for (int i = 0; i < MAX_SYMBOLS; i++) lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
    make_code(&z->literal, lengths, MAX_SYMBOLS);
    memset(lengths, 5, 30);
    make_code(&z->back, lengths, 30);
}

/* The lengths of both codes, themselves written in a code, with runs. */
static adm_status take_lengths(adm_inflate *z, uint8_t *lengths, uint32_t n, adm_error *err) {
    for (uint32_t i = 0; i < n;) {
        uint32_t symbol = 0, more = 0;
        adm_status status = take_symbol(z, &z->literal, &symbol, err);
        if (status != ADM_OK) return status;
        if (symbol < 16) {
            lengths[i++] = (uint8_t)symbol;
            continue;
        }
        if (symbol == 16 && i == 0) return damaged(z, err, "a repetition of nothing");
        const uint8_t repeated = symbol == 16 ? lengths[i - 1] : 0;
        status = take_bits(z, symbol == 16 ? 2 : symbol == 17 ? 3 : 7, &more, err);
        if (status != ADM_OK) return status;
        more += symbol == 18 ? 11 : 3;
        if (more > n - i) return damaged(z, err, "more code lengths than codes");
        while (more-- > 0) lengths[i++] = repeated;
    }
    return ADM_OK;
}

static adm_status make_sent(adm_inflate *z, adm_error *err) {
    static const uint8_t order[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    uint32_t n_literals = 0, n_backs = 0, n_lengths = 0;
    uint8_t lengths[MAX_SYMBOLS + 32] = {0};
    adm_status status = take_bits(z, 5, &n_literals, err);
    if (status == ADM_OK) status = take_bits(z, 5, &n_backs, err);
    if (status == ADM_OK) status = take_bits(z, 4, &n_lengths, err);
    if (status != ADM_OK) return status;
    n_literals += 257;
    n_backs += 1;
    if (n_literals > 286 || n_backs > 30) return damaged(z, err, "too many codes");
    for (uint32_t i = 0; i < n_lengths + 4 && status == ADM_OK; i++) {
        uint32_t length = 0;
        status = take_bits(z, 3, &length, err);
        lengths[order[i]] = (uint8_t)length;
    }
    if (status == ADM_OK && !make_code(&z->literal, lengths, 19)) return damaged(z, err, "codes that overlap");
    memset(lengths, 0, sizeof lengths);
    if (status == ADM_OK) status = take_lengths(z, lengths, n_literals + n_backs, err);
    if (status != ADM_OK) return status;
    if (lengths[256] == 0) return damaged(z, err, "a block without an end");
    if (!make_code(&z->literal, lengths, (int)n_literals) || !make_code(&z->back, lengths + n_literals, (int)n_backs))
        return damaged(z, err, "codes that overlap");
    return ADM_OK;
}

static adm_status begin_block(adm_inflate *z, adm_error *err) {
    uint32_t last = 0, kind = 0, length = 0, check = 0;
    adm_status status = take_bits(z, 1, &last, err);
    if (status == ADM_OK) status = take_bits(z, 2, &kind, err);
    if (status != ADM_OK) return status;
    z->last_block = last;
    z->in_block = true;
    z->stored = kind == 0;
    z->rest = 0;
    if (kind == 3) return damaged(z, err, "a block of an unknown kind");
    if (kind == 1) make_fixed(z);
    if (kind == 2) return make_sent(z, err);
    if (kind != 0) return ADM_OK;
    z->bits >>= z->n_bits & 7;
    z->n_bits -= z->n_bits & 7;
    status = take_bits(z, 16, &length, err);
    if (status == ADM_OK) status = take_bits(z, 16, &check, err);
    if (status == ADM_OK && (length ^ 0xffff) != check) return damaged(z, err, "a stored block's length does not fit");
    z->rest = length;
    return status;
}

/* --- Output --------------------------------------------------------------------------------------------------------- */

static void put(adm_inflate *z, unsigned char byte, unsigned char **out) {
    z->window[z->out_at] = byte;
    z->out_at = (z->out_at + 1) & (WINDOW - 1);
    z->n_out++;
    z->crc = z->crc_table[(z->crc ^ byte) & 0xff] ^ z->crc >> 8;
    *(*out)++ = byte;
}

/* A literal, the end of the block, or a copy whose bytes are then due. */
static adm_status take_item(adm_inflate *z, unsigned char **out, adm_error *err) {
    static const uint16_t length_base[] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                           31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    static const uint8_t length_bits[] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                          2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
    static const uint16_t distance_base[] = {1,    2,    3,    4,    5,    7,    9,    13,    17,    25,
                                             33,   49,   65,   97,   129,  193,  257,  385,   513,   769,
                                             1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
    uint32_t symbol = 0, more = 0;
    adm_status status = take_symbol(z, &z->literal, &symbol, err);
    if (status != ADM_OK) return status;
    if (symbol < 256) {
        put(z, (unsigned char)symbol, out);
        return ADM_OK;
    }
    if (symbol == 256) {
        z->in_block = false;
        return ADM_OK;
    }
    if (symbol > 285) return damaged(z, err, "a length that stands for nothing");
    status = take_bits(z, length_bits[symbol - 257], &more, err);
    z->rest = length_base[symbol - 257] + (status == ADM_OK ? more : 0);
    if (status == ADM_OK) status = take_symbol(z, &z->back, &symbol, err);
    if (status == ADM_OK && symbol > 29) return damaged(z, err, "a distance that stands for nothing");
    if (status == ADM_OK) status = take_bits(z, symbol < 2 ? 0 : (int)(symbol / 2 - 1), &more, err);
    if (status != ADM_OK) return status;
    z->distance = distance_base[symbol] + more;
    return z->distance > z->n_out ? damaged(z, err, "a copy from before the beginning") : ADM_OK;
}

/* One byte that is due, of a copy or a stored block. */
static adm_status put_due(adm_inflate *z, unsigned char **out, adm_error *err) {
    uint32_t byte = z->window[(z->out_at - z->distance) & (WINDOW - 1)];
    adm_status status = z->stored ? take_bits(z, 8, &byte, err) : ADM_OK;
    if (status != ADM_OK) return status;
    put(z, (unsigned char)byte, out);
    z->rest--;
    return ADM_OK;
}

adm_status adm_inflate_read(adm_inflate *z, void *buffer, size_t bytes, size_t *n, adm_error *err) {
    unsigned char *out = buffer, *const end = out + bytes;
    adm_status status = ADM_OK;
    while (out < end && status == ADM_OK) {
        if (!z->in_member) {
            if (z->begin == z->end && z->at == z->file->n_bytes && z->n_bits < 8) break;
            status = read_header(z, err);
        } else if (!z->in_block) status = z->last_block ? end_member(z, err) : begin_block(z, err);
        else if (z->rest > 0) status = put_due(z, &out, err);
        else if (z->stored) z->in_block = false;
        else status = take_item(z, &out, err);
    }
    *n = (size_t)(out - (unsigned char *)buffer);
    return status;
}

adm_status adm_inflate_open(const adm_input_file *file, adm_inflate **out, adm_error *err) {
    adm_status status = adm_alloc(out, 1, sizeof **out, "an unpacker", err);
    if (status != ADM_OK) return status;
    (*out)->file = file;
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? 0xedb88320 ^ crc >> 1 : crc >> 1;
        (*out)->crc_table[i] = crc;
    }
    status = read_header(*out, err);
    if (status != ADM_OK) adm_inflate_close(out);
    return status;
}

void adm_inflate_close(adm_inflate **inflate) { adm_free(inflate); }
