/* cupti_find.c: the places where a CUPTI may lie; see cupti_find.h. */
#include "probes/cupti/cupti_find.h"

#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct search {
    adm_cupti_visit *visit;
    void *user;
} search;

/* Files under a folder that fit a pattern such as "lib/python3*". The libraries of an installed toolkit lie in one of
 * three places, and NVIDIA's Python packages have two of their own. */
static bool try_pattern(const search *s, const char *folder, const char *pattern) {
    char text[PATH_MAX];
    glob_t found;
    bool done = false;
    if (folder == NULL || folder[0] == '\0') return false;
    if (snprintf(text, sizeof text, "%s/%s/" ADM_CUPTI_LIBRARY, folder, pattern) >= (int)sizeof text) return false;
    if (glob(text, 0, NULL, &found) != 0) return false;
    for (size_t i = found.gl_pathc; i-- > 0 && !done;)
        done = s->visit(s->user, found.gl_pathv[i]); /* the newest Python first */
    globfree(&found);
    return done;
}

static bool try_toolkit(const search *s, const char *top) {
    return try_pattern(s, top, "lib64") || try_pattern(s, top, "extras/CUPTI/lib64") || try_pattern(s, top, "lib");
}

/* top: what holds lib/python3.x. */
static bool try_python(const search *s, const char *top) {
    return try_pattern(s, top, "lib/python3*/site-packages/nvidia/cu13/lib") ||
           try_pattern(s, top, "lib/python3*/site-packages/nvidia/cuda_cupti/lib") ||
           try_pattern(s, top, "lib/python3*/dist-packages/nvidia/cu13/lib");
}

/* The folder above bin/ of the python3 that the PATH names; links stay, since a virtual environment's is one. */
static bool try_python_on_path(const search *s) {
    const char *path = getenv("PATH");
    for (const char *item = path; item != NULL && *item != '\0';) {
        char program[PATH_MAX];
        size_t length = strcspn(item, ":");
        if (length > 4 && memcmp(item + length - 4, "/bin", 4) == 0 && length < sizeof program - 16) {
            snprintf(program, sizeof program, "%.*s/python3", (int)length, item);
            bool is_there = access(program, X_OK) == 0;
            program[length - 4] = '\0';
            if (is_there && try_python(s, program)) return true;
        }
        item += length + (item[length] == ':');
    }
    return false;
}

/* build/PROFILE/adamas and build/deps/cuda, or CUPTI 13.0 alone, or cuda-13.5 and the like. */
static bool try_build_tree(const search *s) {
    char program[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0) return false;
    program[length] = '\0';
    for (int up = 0; up < 3; up++) { /* a test is one folder deeper */
        char *slash = strrchr(program, '/');
        if (slash == NULL) return false;
        *slash = '\0';
        if (try_pattern(s, program, "deps/cuda/nvidia/cu13/lib") || try_pattern(s, program, "deps/cupti/nvidia/cu13/lib") ||
            try_pattern(s, program, "deps/cuda-*/nvidia/cu13/lib"))
            return true;
    }
    return false;
}

bool adm_cupti_find(adm_cupti_visit *visit, void *user) {
    const search s = {visit, user};
    const char *named = getenv("ADAMAS_CUPTI");
    if (named != NULL && named[0] != '\0') return visit(user, named);
    return visit(user, ADM_CUPTI_LIBRARY) || try_build_tree(&s) || try_toolkit(&s, getenv("CUDA_HOME")) ||
           try_toolkit(&s, getenv("CUDA_PATH")) || try_toolkit(&s, "/usr/local/cuda") ||
           try_toolkit(&s, "/usr/local/cuda-13.0") || try_python(&s, getenv("VIRTUAL_ENV")) || try_python_on_path(&s) ||
           try_python(&s, "/usr/local") || try_python(&s, "/usr");
}
