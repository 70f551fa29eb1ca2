/* cupti_load.c: chooses and loads CUPTI, and says what its errors mean. Needs none of its headers.
 *
 * Every candidate is asked in a process of its own first (cupti_ask.h); one that will not do is left out with a sentence,
 * and the next is asked. Nothing is loaded here that has not answered there. */
#include "probes/cupti/cupti_load.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "probes/cupti/cupti_ask.h"
#include "probes/cupti/cupti_find.h"

enum { OLDEST = 130000, MAX_ASKED = 16 };

static struct {
    void *library;
    char path[PATH_MAX], note[1024];
    unsigned version;
    adm_error error;                  /* why the first candidate that was there will not do */
    char asked[MAX_ASKED][PATH_MAX];  /* files asked so far: one toolkit is found in several ways */
    size_t n_asked;
} cupti;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* --- Whether a candidate will do ---------------------------------------------------------------------------------- */

/* "13.5" from the version, or by its symbols "13.4 or newer". */
static const char *release_of(const adm_cupti_answer *a, char text[32]) {
    if (a->version > 0) snprintf(text, 32, "%u.%u", a->version / 10000, a->version / 100 % 100);
    else if (strcmp(a->series, "13.4") == 0) snprintf(text, 32, "13.4 or newer");
    else if (strcmp(a->series, "13.0") == 0) snprintf(text, 32, "13.1 or older");
    else snprintf(text, 32, "%s", a->series);
    return text;
}

/* The libnvperf_host.so that a CUPTI release comes with; false: not known here. */
static bool host_release(unsigned version, unsigned *year, unsigned *release) {
    static const unsigned known[][2] = {{2025, 4}, {2025, 5}, {2026, 1}, {2026, 2}, {2026, 3}, {2026, 4}}; /* 13.0 on */
    const unsigned minor = version / 100 % 100;
    if (version / 10000 != 13 || minor >= sizeof known / sizeof *known) return false;
    *year = known[minor][0];
    *release = known[minor][1];
    return true;
}

static adm_status check_host(const adm_cupti_answer *a, adm_error *err) {
    unsigned year, release;
    if (a->host_year == 0 || !host_release(a->version, &year, &release)) return ADM_OK;
    if (a->host_year == year && a->host_release == release) return ADM_OK;
    return adm_fail(
        err, ADM_EUNSUPPORTED,
        "%.300s is CUPTI %u.%u and would use %.300s, which is release %u.%u and not its own %u.%u, so plans and values "
        "would be wrong: put the libnvperf_host.so of CUPTI's package beside it",
        a->path, a->version / 10000, a->version / 100 % 100, a->host_path, a->host_year, a->host_release, year, release);
}

/* What the child found, as a verdict; library: as the candidate was called. */
static adm_status judge(const char *library, const adm_cupti_answer *a, adm_error *err) {
    char release[32];
    const char *path = a->path[0] != '\0' ? a->path : library;
    release_of(a, release);
    if (a->timed_out)
        return adm_fail(err, ADM_EUNSUPPORTED, "%.300s (CUPTI %s) gave no answer within %g s in a process of its own", path,
                        a->series[0] != '\0' ? release : "of unknown release", a->seconds);
    if (a->signal != 0)
        return adm_fail(err, ADM_EUNSUPPORTED, "%.300s (CUPTI %s) ended the process that asked it, by signal %d", path,
                        a->series[0] != '\0' ? release : "of unknown release", a->signal);
    if (a->stage == ADM_CUPTI_ASKED_NOTHING)
        return adm_fail(err, ADM_EUNSUPPORTED, "CUPTI cannot be loaded: %s",
                        a->error[0] != '\0' ? a->error : "the process that asked it said nothing");
    if (a->is_silent || (a->version_result != 0 && !a->has_driver))
        return adm_fail(err, ADM_EUNSUPPORTED,
                        "%.300s is CUPTI %s, which does not answer without an NVIDIA driver (13.0 and 13.1 do)", path, release);
    if (a->version_result != 0)
        return adm_fail(err, ADM_EUNSUPPORTED, "%.300s (CUPTI %s) does not say its version: error %d", path, release,
                        a->version_result);
    if (a->version < OLDEST)
        return adm_fail(err, ADM_EUNSUPPORTED, "%.300s is CUPTI %u; 13.0 or newer is needed", path, a->version);
    if (a->chips_result != 0 && !a->has_driver)
        return adm_fail(err, ADM_EUNSUPPORTED, "%.300s (CUPTI %s) lists no chips, error %d: is libnvperf_host.so beside it?",
                        path, release, a->chips_result);
    return check_host(a, err);
}

/* A candidate that was left out stays out, whichever name it has. */
static bool asked_before(const char *library) {
    char behind[PATH_MAX];
    if (strchr(library, '/') == NULL || realpath(library, behind) == NULL) return false;
    for (size_t i = 0; i < cupti.n_asked; i++)
        if (strcmp(cupti.asked[i], behind) == 0) return true;
    return false;
}

static void remember(const char *path) {
    if (cupti.n_asked < MAX_ASKED && realpath(path, cupti.asked[cupti.n_asked]) != NULL) cupti.n_asked++;
}

static bool take(void *user, const char *library) {
    static adm_cupti_answer answer;
    adm_error why = {0};
    const bool by_name = strchr(library, '/') == NULL;
    (void)user;
    if ((!by_name && access(library, R_OK) != 0) || asked_before(library)) return false;
    adm_cupti_ask(library, &answer);
    if (by_name && answer.stage == ADM_CUPTI_ASKED_NOTHING && !answer.timed_out && answer.signal == 0) return false; /* none */
    adm_status status = judge(library, &answer, &why);
    if (status == ADM_OK) {
        cupti.library = adm_cupti_open(library, cupti.path, sizeof cupti.path);
        if (cupti.library == NULL) status = adm_fail(&why, ADM_EUNSUPPORTED, "CUPTI cannot be loaded: %s", dlerror());
    }
    if (status == ADM_OK) cupti.version = answer.version;
    else if (cupti.error.status == ADM_OK) cupti.error = why;
    if (answer.path[0] != '\0') remember(answer.path);
    return status == ADM_OK;
}

/* --- Loading ------------------------------------------------------------------------------------------------------ */

static void load(void) {
    const char *named = getenv("ADAMAS_CUPTI");
    const bool is_named = named != NULL && named[0] != '\0';
#if defined(__SANITIZE_ADDRESS__)
    if (!is_named) {
        adm_fail(&cupti.error, ADM_EUNSUPPORTED,
                 "CUPTI binds its libraries in a way that ends a program with AddressSanitizer: use another build");
        return;
    }
#endif
    if (adm_cupti_find(take, NULL)) {
        if (cupti.error.status != ADM_OK)
            snprintf(cupti.note, sizeof cupti.note, "%.600s; used instead: CUPTI %u.%u, %.300s", cupti.error.text,
                     cupti.version / 10000, cupti.version / 100 % 100, cupti.path);
    } else if (cupti.error.status != ADM_OK && !is_named) {
        adm_error first = cupti.error;
        adm_fail(
            &cupti.error, ADM_EUNSUPPORTED,
            "%.600s; no other CUPTI was found: `./configure.py --setup` or `pip install nvidia-cuda-cupti==13.0.85` brings "
            "one that answers",
            first.text);
    } else if (cupti.error.status == ADM_OK && is_named) {
        adm_fail(&cupti.error, ADM_EUNSUPPORTED, "ADAMAS_CUPTI names %.300s, which is not there: mend it or unset it", named);
    } else if (cupti.error.status == ADM_OK) {
        adm_fail(&cupti.error, ADM_EUNSUPPORTED,
                 "CUPTI (" ADM_CUPTI_LIBRARY
                 ") is not found: install the CUDA Toolkit 13 (package cuda-cupti-13-0) or NVIDIA's "
                 "Python package nvidia-cuda-cupti, or name the file in ADAMAS_CUPTI");
    }
}

adm_status adm_cupti_load(adm_error *err) {
    pthread_once(&once, load);
    if (cupti.library != NULL) return ADM_OK;
    if (err != NULL) *err = cupti.error;
    return cupti.error.status;
}

const char *adm_cupti_note(void) { return cupti.note[0] != '\0' ? cupti.note : NULL; }
const char *adm_cupti_path(void) { return cupti.library != NULL ? cupti.path : NULL; }
unsigned adm_cupti_version(void) { return cupti.library != NULL ? cupti.version : 0; }

void *adm_cupti_function(const char *name) { return cupti.library != NULL ? dlsym(cupti.library, name) : NULL; }

adm_status adm_cupti_functions(const char *const *names, void **functions, size_t n, adm_error *err) {
    adm_status status = adm_cupti_load(err);
    for (size_t i = 0; status == ADM_OK && i < n; i++) {
        functions[i] = adm_cupti_function(names[i]);
        if (functions[i] == NULL)
            status = adm_fail(err, ADM_EUNSUPPORTED, "%.300s (CUPTI %u) has no %s", cupti.path, cupti.version, names[i]);
    }
    return status;
}

void *adm_cuda_context(void) {
    void *context = NULL, *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (driver == NULL) return NULL;
    int (*get_current)(void **) = (int (*)(void **))dlsym(driver, "cuCtxGetCurrent");
    if (get_current == NULL || get_current(&context) != 0) context = NULL;
    dlclose(driver); /* the program that has a context keeps the driver loaded */
    return context;
}

/* --- Errors ------------------------------------------------------------------------------------------------------- */

/* By CUptiResult. What stands here is a fact of the machine, for which one skips; the rest is a failure. */
static const struct {
    int result;
    const char *sentence;
} explained[] = {
    {8, "CUPTI ran out of memory"},
    {26, "the GPU's counters are busy: another profiler or monitor (ncu, nsys, DCGM) is using them; stop it, or "
         "`dcgmi profile --pause`"},
    {27, "CUPTI's Range Profiler does not support this chip"},
    {33, "the GPU is virtual and its host does not let guests profile"},
    {35, "this user may not read GPU counters: run as root or with CAP_SYS_ADMIN, or let everybody with the driver option "
         "NVreg_RestrictProfilingToAdminUsers=0 (in /etc/modprobe.d, then reload the driver)"},
    {36, "another part of this process uses CUPTI's old profiler interface: run without it"},
    {39, "another profiler is attached to this process (ncu, nsys, compute-sanitizer or a CUPTI tool): run without it"},
    {40, "the GPU is a vGPU without the right to profile: its host must set enable_profiling=1 for this virtual machine"},
    {41, "the GPU is in confidential computing mode, which hides counters: its administrator can turn on the mode for "
         "developers"},
    {42, "the GPU is a mining processor, which has no profiling"},
    {43, "the GPU is split by MIG, which this kind of profiling does not support: use a GPU with MIG off"},
    {44, "the GPU is in an SLI group, which has no profiling"},
    {45, "WSL on this machine has no profiling: a newer Windows driver with profiling for developers may have"},
    {46, "this CUPTI does not know the GPU's chip: install a newer CUDA Toolkit"},
};

adm_status adm_cupti_fail(adm_error *err, int result, const char *doing) {
    for (size_t i = 0; i < sizeof explained / sizeof explained[0]; i++)
        if (explained[i].result == result)
            return adm_fail(err, ADM_EUNSUPPORTED, "%s (CUPTI error %d while %s)", explained[i].sentence, result, doing);
    const char *words = NULL;
    int (*get_text)(int, const char **) = (int (*)(int, const char **))adm_cupti_function("cuptiGetErrorMessage");
    if (get_text == NULL || get_text(result, &words) != 0) words = NULL;
    return adm_fail(err, ADM_EENVIRONMENT, "CUPTI failed while %s: %s (error %d)", doing,
                    words != NULL ? words : "no words for it", result);
}
