/* gpu_judge.c: judges GPU implementations; see gpu_judge.h. */
#include "kernels/tune/gpu/gpu_judge.h"

#include <stdio.h>

#include "core/base/mem.h"
#include "kernels/tune/candidate/child.h"
#include "kernels/tune/gpu/gpu_child.h"

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

/* --- Judging -------------------------------------------------------------------------------------------------------- */

static void refuse(adm_tune_result *r, adm_status status, const char *text) {
    if (r->status != ADM_OK) return;
    r->status = status;
    snprintf(r->reason, sizeof r->reason, "%s", text);
}

static void summarise(adm_tune_result *r) {
    adm_error why;
    const adm_status status = adm_tune_result_summarise(r, &why);
    if (status != ADM_OK) refuse(r, status, why.text);
}

/* What the device said while the process still lived, or how it ended. */
static bool ask(adm_child *child, const adm_gpu_request *request, adm_gpu_reply *reply, adm_tune_result *r, bool may_skip) {
    adm_error why = {0};
    const adm_status status = adm_child_ask(child, request, request != NULL ? sizeof *request : 0, reply, sizeof *reply, &why);
    if (status != ADM_OK) refuse(r, request == NULL ? ADM_EINPUT : status, why.text);
    else if (reply->status != ADM_OK && !(may_skip && reply->status == ADM_EUNSUPPORTED)) refuse(r, reply->status, reply->text);
    return r->status == ADM_OK;
}

static void check_limits(const adm_candidate *c, const adm_tune_options *o, adm_tune_result *r) {
    char text[96];
    snprintf(text, sizeof text, "does not take head_dim %u in %s", o->shape.head_dim, adm_dtype_name(o->dtype));
    if (!adm_tune_takes(&c->limits, o->shape.head_dim, o->dtype)) refuse(r, ADM_EUNSUPPORTED, text);
    snprintf(text, sizeof text, "takes up to %u tokens", c->limits.max_tokens);
    if (c->limits.max_tokens > 0 && o->n_tokens > c->limits.max_tokens) refuse(r, ADM_EUNSUPPORTED, text);
    if (o->dtype == ADM_F32) refuse(r, ADM_EUNSUPPORTED, "the GPU stages take f16 and bf16, not f32");
}

/* Keeps what was timed, unless it cannot be. */
static void keep_times(const adm_tune_options *o, const adm_gpu_reply *reply, adm_tune_result *r) {
    char text[160];
    adm_error why;
    r->resources = reply->resources;
    r->n = reply->n_samples;
    for (size_t i = 0; i < r->n; i++) r->sample_ns[i] = reply->sample_ns[i];
    summarise(r);
    r->floor_ns = reply->read_limit > 0 ? reply->bytes / reply->read_limit * 1e9 : 0;
    r->model_bytes = reply->bytes;
    if (o->count != NULL) {
        const adm_status status = adm_alloc(&r->counted, 1, sizeof *r->counted, "counters", &why);
        if (status == ADM_OK) *r->counted = reply->counted;
        else refuse(r, status, why.text);
    }
    /* What the stage before left in the L2 is read faster than from memory: 2 to 3 times on the chips measured. */
    if (r->n == 0 || r->median_ns >= (o->warm ? 0.1 : 0.3) * r->floor_ns) return;
    snprintf(text, sizeof text,
             "takes %.3g us where reading its inputs once takes %.3g: impossible, it cannot have done the work",
             r->median_ns * 1e-3, r->floor_ns * 1e-3);
    refuse(r, ADM_EINTERNAL, text);
}

static void judge(const adm_tune_options *o, int device, const adm_candidate *c, uint64_t *seed, adm_gpu_reply *reply,
                  adm_tune_result *r) {
    adm_gpu_defendant d = {.c = c, .options = o, .device = device};
    adm_child child;
    adm_error why = {0};
    const uint64_t limit_ns = o->limit_ns + o->cap_ns + 20000000000u; /* opening a device and filling its memory take seconds */
    adm_status status = adm_child_start(adm_gpu_child_serve, &d, limit_ns, 0, &child, &why);
    if (status != ADM_OK) {
        refuse(r, status, why.text);
        return;
    }
    bool goes_on = ask(&child, NULL, reply, r, false);
    if (*seed == 0) *seed = o->seed != 0 ? o->seed : adm_tune_draw_seed(); /* every candidate gets the same inputs */
    if (goes_on) goes_on = ask(&child, &(adm_gpu_request){ADM_GPU_OPEN, 0, *seed}, reply, r, false);
    child.limit_ns = o->limit_ns;
    for (uint32_t i = 0; goes_on && !o->skips_small && i < adm_gpu_n_checks(); i++)
        goes_on = ask(&child, &(adm_gpu_request){ADM_GPU_CHECK, i, *seed}, reply, r, true);
    child.limit_ns = limit_ns;
    if (goes_on && ask(&child, &(adm_gpu_request){ADM_GPU_TIME, 0, *seed}, reply, r, false)) keep_times(o, reply, r);
    adm_child_end(&child);
}

/* A result that says nothing yet, or that the candidate cannot be judged here. */
static adm_status begin(const adm_tune_options *o, const adm_candidate *c, adm_tune_result *r, adm_error *err) {
    *r = (adm_tune_result){.status = c->status, .resources = ADM_TUNE_NO_RESOURCES};
    snprintf(r->reason, sizeof r->reason, "%s", c->reason);
    adm_status status = adm_alloc(&r->sample_ns, ADM_GPU_MAX_SAMPLES, sizeof(double), "samples", err);
    if (status != ADM_OK) return status;
    check_limits(c, o, r);
    if (o->should_stop != NULL && o->should_stop()) refuse(r, ADM_EINTERRUPTED, "not judged: the session was stopped");
    return ADM_OK;
}

adm_status adm_gpu_judge_run(const adm_tune_options *o, int device, const adm_candidate *c, size_t n, adm_tune_result *results,
                             uint64_t *seed, adm_error *err) {
    adm_gpu_reply *reply = NULL;
    adm_status status = adm_alloc(&reply, 1, sizeof *reply, "an answer", err);
    for (size_t i = 0; i < n && status == ADM_OK; i++) {
        if (o->progress != NULL) o->progress(o->progress_user, i, n);
        status = begin(o, &c[i], &results[i], err);
        if (status == ADM_OK && results[i].status == ADM_OK) judge(o, device, &c[i], seed, reply, &results[i]);
    }
    adm_free(&reply);
    return status;
}

/* --- Screening ------------------------------------------------------------------------------------------------------ */

/* A process that has opened the device. */
static bool start_screening(const adm_gpu_defendant *d, uint64_t seed, adm_child *child, adm_gpu_reply *reply,
                            adm_tune_result *r) {
    const adm_tune_options *o = d->options;
    adm_error why = {0};
    adm_status status = adm_child_start(adm_gpu_child_serve, (void *)d, o->limit_ns + o->cap_ns + 20000000000u, 0, child, &why);
    if (status != ADM_OK) refuse(r, status, why.text);
    return status == ADM_OK && ask(child, NULL, reply, r, false) &&
           ask(child, &(adm_gpu_request){ADM_GPU_OPEN, 0, seed}, reply, r, false);
}

adm_status adm_gpu_judge_screen(const adm_tune_options *o, int device, const adm_candidate *c, size_t n,
                                adm_tune_result *results, uint64_t *seed, adm_error *err) {
    adm_gpu_defendant d = {.c = c, .options = o, .device = device, .screens = true};
    adm_gpu_reply *reply = NULL;
    adm_child child = {.pid = -1, .socket = -1, .log = -1};
    bool runs = false;
    adm_status status = adm_alloc(&reply, 1, sizeof *reply, "an answer", err);
    if (*seed == 0) *seed = o->seed != 0 ? o->seed : adm_tune_draw_seed();
    for (size_t i = 0; i < n && status == ADM_OK; i++) {
        adm_tune_result *r = &results[i];
        if (o->progress != NULL) o->progress(o->progress_user, i, n);
        status = begin(o, &c[i], r, err);
        if (status != ADM_OK || r->status != ADM_OK) continue;
        if (!runs) runs = start_screening(&d, *seed, &child, reply, r);
        if (runs && ask(&child, &(adm_gpu_request){ADM_GPU_SCREEN, (uint32_t)i, *seed}, reply, r, false)) {
            r->n = reply->n_samples;
            for (size_t k = 0; k < r->n; k++) r->sample_ns[k] = reply->sample_ns[k];
            summarise(r);
        }
        /* What failed may have left the device or the process in any state. */
        if (r->status != ADM_OK && r->status != ADM_EUNSUPPORTED) {
            adm_child_end(&child);
            runs = false;
        }
    }
    if (runs) adm_child_end(&child);
    adm_free(&reply);
    return status;
}
