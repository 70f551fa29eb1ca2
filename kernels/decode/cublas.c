/* cublas.c: finds and calls cuBLAS; see cublas.h. Its few functions are declared here, so that no header of it is needed. */
#include "kernels/decode/cublas.h"

#include <dlfcn.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"

/* cublas_api.h and library_types.h, 12 and 13. */
enum { OP_N = 0, OP_T = 1, TYPE_F32 = 0, TYPE_F16 = 2, COMPUTE_F32 = 68, ALGORITHM_DEFAULT = -1 };
typedef struct cublasContext *handle_t;

struct adm_cublas {
    void *library;
    handle_t handle;
    int (*create)(handle_t *);
    int (*destroy)(handle_t);
    int (*set_stream)(handle_t, adm_gpu_stream);
    int (*set_workspace)(handle_t, void *, size_t);
    int (*get_version)(handle_t, int *);
    const char *(*status_string)(int);
    int (*gemm)(handle_t, int, int, int, int, int, const void *, const void *, int, int, const void *, int, int, const void *,
                void *, int, int, int, int);
    char version[320];
};

static const char *const sonames[] = {"libcublas.so.13", "libcublas.so.12"};

/* Opens the library that it needs beside it first: not every build of it says that it lies there. */
static void *open_at(const char *path) {
    char beside[1024];
    const char *name = strstr(path, "libcublas.so");
    if (name != NULL && name != path) {
        snprintf(beside, sizeof beside, "%.*slibcublasLt%s", (int)(name - path), path, name + strlen("libcublas"));
        dlopen(beside, RTLD_NOW | RTLD_GLOBAL);
    }
    return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

static void *open_matching(const char *pattern, char *found, size_t capacity) {
    glob_t matches;
    void *library = NULL;
    if (glob(pattern, 0, NULL, &matches) != 0) return NULL;
    for (size_t i = matches.gl_pathc; library == NULL && i-- > 0;)
        if ((library = open_at(matches.gl_pathv[i])) != NULL) snprintf(found, capacity, "%s", matches.gl_pathv[i]);
    globfree(&matches);
    return library;
}

static void *find(char *found, size_t capacity) {
    static const char *const places[] = {"VIRTUAL_ENV:lib/python3*/site-packages/nvidia/*/lib",
                                         "CUDA_HOME:lib64",
                                         ":/usr/local/cuda/lib64",
                                         ":/usr/local/cuda-1[23]*/lib64",
                                         "HOME:.local/lib/python3*/site-packages/nvidia/*/lib",
                                         ":/usr/local/lib/python3*/*-packages/nvidia/*/lib",
                                         ":/usr/lib/python3*/*-packages/nvidia/*/lib"};
    char pattern[1024];
    void *library = NULL;
    for (size_t i = 0; i < sizeof sonames / sizeof sonames[0]; i++)
        if ((library = dlopen(sonames[i], RTLD_NOW | RTLD_LOCAL)) != NULL) {
            snprintf(found, capacity, "%s", sonames[i]);
            return library;
        }
    for (size_t s = 0; s < sizeof sonames / sizeof sonames[0]; s++)
        for (size_t i = 0; library == NULL && i < sizeof places / sizeof places[0]; i++) {
            const char *colon = strchr(places[i], ':');
            char variable[32];
            snprintf(variable, sizeof variable, "%.*s", (int)(colon - places[i]), places[i]);
            const char *top = variable[0] != '\0' ? getenv(variable) : "";
            if (top == NULL) continue;
            snprintf(pattern, sizeof pattern, "%s%s%s/%s", top, top[0] != '\0' ? "/" : "", colon + 1, sonames[s]);
            library = open_matching(pattern, found, capacity);
        }
    return library;
}

static adm_status load(adm_cublas *c, char *found, size_t capacity, adm_error *err) {
    const char *named = getenv("ADAMAS_CUBLAS");
    if (named != NULL && named[0] != '\0') {
        snprintf(found, capacity, "%s", named);
        c->library = open_at(named);
        if (c->library == NULL)
            return adm_fail(err, ADM_EUNSUPPORTED, "ADAMAS_CUBLAS=%s cannot be loaded: %s", named, dlerror());
    } else c->library = find(found, capacity);
    if (c->library == NULL)
        return adm_fail(err, ADM_EUNSUPPORTED,
                        "cuBLAS was not found: install the toolkit's, or the wheel nvidia-cublas, and name the file with "
                        "ADAMAS_CUBLAS=/path/to/libcublas.so.13");
    const struct {
        const char *name;
        void *function;
    } symbols[] = {{"cublasCreate_v2", &c->create},
                   {"cublasDestroy_v2", &c->destroy},
                   {"cublasSetStream_v2", &c->set_stream},
                   {"cublasSetWorkspace_v2", &c->set_workspace},
                   {"cublasGetVersion_v2", &c->get_version},
                   {"cublasGetStatusString", &c->status_string},
                   {"cublasGemmEx", &c->gemm}};
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
        void *symbol = dlsym(c->library, symbols[i].name);
        if (symbol == NULL) return adm_fail(err, ADM_EUNSUPPORTED, "%s has no %s: is it cuBLAS?", found, symbols[i].name);
        memcpy(symbols[i].function, &symbol, sizeof symbol);
    }
    return ADM_OK;
}

static adm_status status_of(const adm_cublas *c, int result, const char *doing, adm_error *err) {
    return result == 0 ? ADM_OK : adm_fail(err, ADM_EENVIRONMENT, "cuBLAS: %s: %s", doing, c->status_string(result));
}

adm_status adm_cublas_open(void *workspace, adm_gpu_stream stream, adm_cublas **out, adm_error *err) {
    adm_cublas *c = NULL;
    char found[256] = "";
    int version = 0;
    *out = NULL;
    adm_status status = adm_alloc(&c, 1, sizeof *c, "cuBLAS", err);
    if (status == ADM_OK) status = load(c, found, sizeof found, err);
    if (status == ADM_OK) status = status_of(c, c->create(&c->handle), "making a handle", err);
    if (status == ADM_OK) status = status_of(c, c->set_stream(c->handle, stream), "setting its stream", err);
    if (status == ADM_OK)
        status = status_of(c, c->set_workspace(c->handle, workspace, ADM_CUBLAS_WORKSPACE_BYTES), "setting its workspace", err);
    if (status == ADM_OK) status = status_of(c, c->get_version(c->handle, &version), "asking for its version", err);
    if (status == ADM_OK)
        snprintf(c->version, sizeof c->version, "%d.%d.%d (%s)", version / 10000, version / 100 % 100, version % 100, found);
    if (status != ADM_OK) adm_cublas_close(&c);
    *out = c;
    return status;
}

void adm_cublas_close(adm_cublas **cublas) {
    adm_cublas *c = *cublas;
    if (c == NULL) return;
    if (c->handle != NULL) c->destroy(c->handle);
    if (c->library != NULL) dlclose(c->library);
    adm_free(cublas);
}

const char *adm_cublas_version(const adm_cublas *c) { return c->version; }

adm_status adm_cublas_product(adm_cublas *c, const adm_decode_product *p, adm_error *err) {
    const float one = 1, zero = 0;
    const int n = (int)p->n, k = (int)p->k, batch = (int)p->batch;
    /* It counts by columns: the matrix is [k][n] to it, and x and y are [k][batch] and [n][batch]. */
    return status_of(c,
                     c->gemm(c->handle, OP_T, OP_N, n, batch, k, &one, p->matrix, TYPE_F16, k, p->x, TYPE_F16, k, &zero, p->y,
                             p->wide ? TYPE_F32 : TYPE_F16, n, COMPUTE_F32, ALGORITHM_DEFAULT),
                     "a matrix product", err);
}
