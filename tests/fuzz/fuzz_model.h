/* fuzz_model.h: the files of a model: its config.json, or its weights.
 *
 *     first byte         what follows
 *     bit 0 = 0          a config.json; a plan for decoding is made of the shape
 *     bit 0 = 1          the header of a safetensors file of weights, for the model of fuzz_small_model(). Its length is put
 *                        before it, and zeros behind it, 256 per unit of the second and third byte */
#ifndef ADM_TESTS_FUZZ_FUZZ_MODEL_H
#define ADM_TESTS_FUZZ_FUZZ_MODEL_H

#include "analysis/serving/model_file.h"
#include "kernels/decode/weights.h"
#include "tests/fuzz/fuzz.h"

static inline adm_model fuzz_small_model(void) {
    return (adm_model){.name = "small",
                       .n_layers = 1,
                       .hidden = 32,
                       .intermediate = 32,
                       .vocab = 8,
                       .n_ranks = 1,
                       .weight_bytes = 2,
                       .cache_bytes = 2,
                       .tied = true,
                       .shape = {.n_q_heads = 1, .n_kv_heads = 1, .head_dim = 64}};
}

/* Whether it is a shape. */
static inline bool fuzz_config(const uint8_t *data, size_t size) {
    static fuzz_file file;
    adm_decode_setup setup = {.batch = 1, .capacity = 64};
    adm_decode_plan plan;
    adm_error err = {0};
    fuzz_write(&file, data, size);
    adm_status status = adm_model_read(file.path, &setup.model, &err);
    fuzz_expect_refusal(status, &err);
    if (status == ADM_OK) fuzz_expect_refusal(adm_decode_plan_make(&setup, &plan, &err), &err);
    return status == ADM_OK;
}

/* Whether they are the small model's. */
static inline bool fuzz_weights(const uint8_t *data, size_t size) {
    static fuzz_file file;
    enum { MAX_HEADER = 1 << 16, MAX_ZEROS = 1 << 17 };
    static uint8_t whole[8 + MAX_HEADER + MAX_ZEROS];
    const size_t n_header = size > 2 ? size - 2 : 0,
                 n_zeros = size > 2 ? (data[0] | (size_t)data[1] << 8) * 256 % MAX_ZEROS : 0;
    adm_decode_setup setup = {.model = fuzz_small_model(), .batch = 1, .capacity = 1};
    adm_weights *weights = NULL;
    adm_error err = {0};
    if (n_header > MAX_HEADER) return false;
    for (size_t i = 0; i < 8; i++) whole[i] = (uint8_t)(n_header >> (8 * i));
    if (n_header > 0) memcpy(whole + 8, data + 2, n_header);
    memset(whole + 8 + n_header, 0, n_zeros);
    fuzz_write(&file, whole, 8 + n_header + n_zeros);
    adm_status status = adm_weights_open(file.path, &setup, &weights, &err);
    fuzz_expect_refusal(status, &err);
    fuzz_expect((weights != NULL) == (status == ADM_OK), "weights if and only if they were opened");
    const int32_t *token, *expected;
    const void *row;
    if (status == ADM_OK) {
        const adm_decode_source *source = adm_weights_source(weights);
        for (uint32_t i = 0, n = adm_weights_tokens(weights, &token, &expected); i < n; i++)
            fuzz_expect(token[i] >= 0 && token[i] < 8, "a token is one of the vocabulary");
        fuzz_expect(source->embedding(source->user, &row, &err) == ADM_OK, "an open file has what was checked");
        uint8_t sum = 0;
        for (size_t i = 0; i < (size_t)8 * 32 * 2; i++) sum |= ((const uint8_t *)row)[i];
        fuzz_expect(sum == 0, "the embedding lies in the zeros");
    }
    adm_weights_close(&weights);
    return status == ADM_OK;
}

static inline int fuzz_model(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    if (data[0] & 1) fuzz_weights(data + 1, size - 1);
    else fuzz_config(data + 1, size - 1);
    return 0;
}

#endif
