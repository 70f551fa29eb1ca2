/* gpu_judge.c: judges GPU implementations; see gpu_judge.h. */
#include "kernels/tune/gpu_judge.h"

#include <stdio.h>

#include "kernels/tune/child.h"

typedef struct device_answer {
    adm_status status;
    adm_device_info info;
    char text[768];
} device_answer;

static int serve_device(void *user, int socket, adm_child_page *page) {
    const int *device = user;
    adm_device_info list[16];
    adm_error err = {0};
    int n = 0;
    (void)page;
    device_answer answer = {.status = adm_device_list(list, 16, &n, &err)};
    if (answer.status == ADM_OK && *device >= n)
        answer.status = adm_fail(&err, ADM_EINPUT, "--device %d: there are devices 0 to %d", *device, n - 1);
    if (answer.status == ADM_OK) answer.info = list[*device];
    snprintf(answer.text, sizeof answer.text, "%s", err.text);
    return !adm_child_answer(socket, &answer, sizeof answer);
}

adm_status adm_tune_find_device(int device, adm_device_info *info, adm_error *err) {
    adm_child child;
    device_answer answer;
    adm_status status = adm_child_start(serve_device, &device, 60000000000u, 0, &child, err);
    if (status != ADM_OK) return status;
    status = adm_child_ask(&child, NULL, 0, &answer, sizeof answer, err);
    adm_child_end(&child);
    if (status != ADM_OK) return status;
    *info = answer.info;
    return answer.status == ADM_OK ? ADM_OK : adm_fail(err, answer.status, "%s", answer.text);
}

adm_status adm_gpu_judge_run(const adm_tune_options *o, int device, const adm_candidate *c, size_t n, adm_tune_result *results,
                             uint64_t *seed, adm_error *err) {
    (void)o, (void)device, (void)c, (void)n, (void)results, (void)seed;
    return adm_fail(err, ADM_EUNSUPPORTED, "not yet");
}
