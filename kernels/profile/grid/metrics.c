/* metrics.c: which metrics a profile runs, and channels for asym4; see metrics.h. */
#include "kernels/profile/grid/metrics.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/cli/command.h"
#include "core/contract/asym4.h"
#include "kernels/encode/hadamard.h"
#include "kernels/gpu/input.h"

static const adm_code_metric known[ADM_PROFILE_METRICS] = {ADM_METRIC_L1, ADM_METRIC_XOR, ADM_METRIC_DOT, ADM_METRIC_ASYM4};

/* path: of the calibration. */
static adm_status of_calibration(const adm_calibration *calibration, const char *path, bool *found, adm_error *err) {
    char what[40] = "the model";
    for (size_t i = 0; i < calibration->n_layers || i == 0; i++) {
        const adm_coding *coding = calibration->n_layers > 0 ? &calibration->layer[i].coding : &calibration->other;
        size_t m = 0;
        if (calibration->n_layers > 0) snprintf(what, sizeof what, "layer %u", calibration->layer[i].number);
        while (m < ADM_PROFILE_METRICS && known[m] != coding->metric) m++;
        if (m == ADM_PROFILE_METRICS)
            return adm_fail(err, ADM_EUNSUPPORTED,
                            "%s: the best sketch of %s is by %s, which no GPU kernel computes; `adamas calibrate --metrics "
                            "l1,dot,asym4` finds the best of those that one does",
                            path, what, adm_code_metric_name(coding->metric));
        found[m] = true;
    }
    return ADM_OK;
}

adm_status adm_profile_metrics(const char *text, const adm_calibration *calibration, const char *path,
                               adm_code_metric metric[ADM_PROFILE_METRICS], size_t *n, adm_error *err) {
    const char *names[ADM_PROFILE_METRICS];
    bool found[ADM_PROFILE_METRICS] = {false};
    adm_status status = ADM_OK;
    *n = 0;
    for (size_t m = 0; m < ADM_PROFILE_METRICS; m++) names[m] = adm_code_metric_name(known[m]);
    if (text == NULL && calibration != NULL) status = of_calibration(calibration, path, found, err);
    else status = adm_parse_words("--metric", text != NULL ? text : "l1", names, ADM_PROFILE_METRICS, found, err);
    for (size_t m = 0; status == ADM_OK && m < ADM_PROFILE_METRICS; m++)
        if (found[m]) metric[(*n)++] = known[m];
    return status;
}

/* --- Channels ------------------------------------------------------------------------------------------------------- */

void adm_profile_channels_learn(const float *y, size_t n_rows, uint32_t d, const float z[3], float *channels) {
    float centre[ADM_MAX_HEAD_DIM];
    adm_asym4_learn(y, n_rows, d, centre, channels + 3 * d);
    adm_asym4_thresholds(centre, channels + 3 * d, d, z, channels);
    for (uint32_t i = 0; i < 3 * d; i++) /* what nothing exceeds, and a zero, as gpu.h wants them */
        channels[i] = isnan(channels[i]) ? INFINITY : channels[i] == 0 ? 0 : channels[i];
}

enum { LEARNT_ROWS = 1024 };

static void random_key(const adm_gpu_shape *s, const adm_gpu_inputs *in, uint32_t b, uint32_t head, uint32_t token, float *y) {
    const uint32_t d = s->heads.head_dim;
    float row[ADM_MAX_HEAD_DIM];
    unsigned char element[ADM_MAX_HEAD_DIM * sizeof(float)];
    for (uint32_t i = 0; i < d; i++) row[i] = adm_input_value(in->seed, ADM_INPUT_K, b, head, head, token, i, d);
    adm_from_f32(s->dtype, row, d, element);
    adm_hadamard_reference(s->dtype, element, 1, d, y);
}

adm_status adm_profile_channels_random(const adm_gpu_shape *s, const adm_gpu_inputs *in, float **channels, adm_error *err) {
    static const float z[3] = {-1, 0, 1};
    const uint32_t d = s->heads.head_dim;
    uint32_t longest = 0;
    float *y = NULL;
    for (uint32_t b = 1; b < s->batch; b++)
        if (in->length[b] > in->length[longest]) longest = b;
    const uint32_t n = in->length[longest], n_rows = n < LEARNT_ROWS ? n : LEARNT_ROWS;
    adm_status status = adm_alloc(channels, (size_t)s->heads.n_kv_heads * ADM_GPU_CHANNEL_ROWS * d, sizeof **channels,
                                  "channels of keys", err);
    if (status == ADM_OK) status = adm_alloc(&y, (size_t)LEARNT_ROWS * d, sizeof *y, "channels of keys", err);
    for (uint32_t h = 0; status == ADM_OK && h < s->heads.n_kv_heads; h++) {
        for (uint32_t i = 0; i < n_rows; i++)
            random_key(s, in, longest, h, (uint32_t)((uint64_t)i * n / n_rows), y + (size_t)i * d);
        adm_profile_channels_learn(y, n_rows, d, z, *channels + (size_t)h * ADM_GPU_CHANNEL_ROWS * d);
    }
    adm_free(&y);
    if (status != ADM_OK) adm_free(channels);
    return status;
}
