/* cupti_load.c: finding and loading CUPTI, and its errors in words. Needs none of its headers. */
#include "probes/cupti/cupti_load.h"

#include <dlfcn.h>
#include <glob.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIBRARY "libcupti.so.13"
enum { OLDEST = 130000 };

static struct {
    void *library;
    char path[PATH_MAX];
    unsigned version;
    adm_error error;
} cupti;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* --- Finding ------------------------------------------------------------------------------------------------------ */

/* CUPTI asks the loader for these by name alone, which finds them where the loader's cache lists a toolkit, and not beside
 * a CUPTI from elsewhere; what is already loaded is found by its name. Those of CUPTI's own folder, so. */
static void load_neighbours(const char *path) {
    static const char *const names[] = {"libnvperf_host.so", "libnvperf_target.so"};
    const char *slash = strrchr(path, '/');
    for (size_t i = 0; slash != NULL && i < sizeof names / sizeof *names; i++) {
        char neighbour[PATH_MAX];
        int length = snprintf(neighbour, sizeof neighbour, "%.*s/%s", (int)(slash - path), path, names[i]);
        if (length < (int)sizeof neighbour) dlopen(neighbour, RTLD_NOW | RTLD_LOCAL); /* stays for good, as CUPTI does */
    }
}

static bool try_file(const char *path) {
    if (access(path, R_OK) != 0) return false;
    cupti.library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (cupti.library != NULL) {
        snprintf(cupti.path, sizeof cupti.path, "%s", path);
        load_neighbours(path);
    } else adm_fail(&cupti.error, ADM_EUNSUPPORTED, "CUPTI cannot be loaded: %s", dlerror());
    return cupti.library != NULL;
}

/* Files under a folder that fit a pattern such as "lib/python3*". The libraries of an installed toolkit lie in one of
 * three places, and NVIDIA's Python packages have two of their own. */
static bool try_pattern(const char *folder, const char *pattern) {
    char text[PATH_MAX];
    glob_t found;
    bool loaded = false;
    if (folder == NULL || folder[0] == '\0') return false;
    if (snprintf(text, sizeof text, "%s/%s/" LIBRARY, folder, pattern) >= (int)sizeof text) return false;
    if (glob(text, 0, NULL, &found) != 0) return false;
    for (size_t i = found.gl_pathc; i-- > 0 && !loaded;) loaded = try_file(found.gl_pathv[i]); /* the newest Python first */
    globfree(&found);
    return loaded;
}

static bool try_toolkit(const char *top) {
    return try_pattern(top, "lib64") || try_pattern(top, "extras/CUPTI/lib64") || try_pattern(top, "lib");
}

/* top: what holds lib/python3.x. */
static bool try_python(const char *top) {
    return try_pattern(top, "lib/python3*/site-packages/nvidia/cu13/lib") ||
           try_pattern(top, "lib/python3*/site-packages/nvidia/cuda_cupti/lib") ||
           try_pattern(top, "lib/python3*/dist-packages/nvidia/cu13/lib");
}

/* The folder above bin/ of the python3 that the PATH names; links stay, since a virtual environment's is one. */
static bool try_python_on_path(void) {
    const char *path = getenv("PATH");
    for (const char *item = path; item != NULL && *item != '\0';) {
        char program[PATH_MAX];
        size_t length = strcspn(item, ":");
        if (length > 4 && memcmp(item + length - 4, "/bin", 4) == 0 && length < sizeof program - 16) {
            snprintf(program, sizeof program, "%.*s/python3", (int)length, item);
            bool is_there = access(program, X_OK) == 0;
            program[length - 4] = '\0';
            if (is_there && try_python(program)) return true;
        }
        item += length + (item[length] == ':');
    }
    return false;
}

/* build/PROFILE/adamas and build/deps/cuda. */
static bool try_build_tree(void) {
    char program[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0) return false;
    program[length] = '\0';
    for (int up = 0; up < 3; up++) { /* a test is one folder deeper */
        char *slash = strrchr(program, '/');
        if (slash == NULL) return false;
        *slash = '\0';
        if (try_pattern(program, "deps/cuda/nvidia/cu13/lib")) return true;
    }
    return false;
}

static bool find(void) {
    const char *named = getenv("ADAMAS_CUPTI");
    if (named != NULL && named[0] != '\0') {
        if (!try_file(named) && cupti.error.status == ADM_OK)
            adm_fail(&cupti.error, ADM_EUNSUPPORTED, "ADAMAS_CUPTI names %.300s, which is not there: mend it or unset it",
                     named);
        return cupti.library != NULL;
    }
#if defined(__SANITIZE_ADDRESS__)
    adm_fail(&cupti.error, ADM_EUNSUPPORTED,
             "CUPTI binds its libraries in a way that ends a program with AddressSanitizer: use "
             "another build");
    return false;
#endif
    cupti.library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (cupti.library != NULL) snprintf(cupti.path, sizeof cupti.path, LIBRARY);
    return cupti.library != NULL || try_build_tree() || try_toolkit(getenv("CUDA_HOME")) || try_toolkit(getenv("CUDA_PATH")) ||
           try_toolkit("/usr/local/cuda") || try_toolkit("/usr/local/cuda-13.0") || try_python(getenv("VIRTUAL_ENV")) ||
           try_python_on_path() || try_python("/usr/local") || try_python("/usr");
}

static void load(void) {
    if (!find()) {
        if (cupti.error.status == ADM_OK)
            adm_fail(&cupti.error, ADM_EUNSUPPORTED,
                     "CUPTI (" LIBRARY ") is not found: install the CUDA Toolkit 13 (package "
                     "cuda-cupti-13-0) or NVIDIA's Python package nvidia-cuda-cupti, or name the file in ADAMAS_CUPTI");
        return;
    }
    int (*get_version)(unsigned *) = (int (*)(unsigned *))dlsym(cupti.library, "cuptiGetVersion");
    if (get_version == NULL || get_version(&cupti.version) != 0) cupti.version = 0;
    if (cupti.version >= OLDEST) return;
    adm_fail(&cupti.error, ADM_EUNSUPPORTED, "%.300s is CUPTI %u; 13.0 or newer is needed", cupti.path, cupti.version);
    dlclose(cupti.library);
    cupti.library = NULL;
}

adm_status adm_cupti_load(adm_error *err) {
    pthread_once(&once, load);
    if (cupti.library != NULL) return ADM_OK;
    if (err != NULL) *err = cupti.error;
    return cupti.error.status;
}

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
