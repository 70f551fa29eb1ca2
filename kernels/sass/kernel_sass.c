/* kernel_sass.c: `adamas kernel sass`: what machine instructions a kernel is made of, through cuobjdump. */
#include <errno.h>
#include <glob.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/sass/kernel_resources.h"
#include "core/base/print.h"
#include "kernels/sass/sass_mix.h"
#include "kernels/sass/static.h"

/* The kernels of a stage, as parts of mangled names: "12topk_cluster". */
typedef struct stage_kernels {
    const char *stage;
    char part[64][80];
    size_t n;
} stage_kernels;

typedef struct sass_command {
    adm_common common;
    const char *path, *kernel, *against, *stage;
    stage_kernels kernels;
} sass_command;

enum { KEY_KERNEL = 0x6600, KEY_AGAINST, KEY_STAGE };

static const struct argp_option options[] = {
    {"stage", KEY_STAGE, "STAGE", 0, "Only this program's kernels of this stage (default: of every stage)", 1},
    {"kernel", KEY_KERNEL, "TEXT", 0, "Only kernels whose (mangled) name contains this, topk_cluster for instance", 1},
    {"against", KEY_AGAINST, "TEXT", 0, "Compare with the kernels whose name contains this", 1},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    sass_command *c = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &c->common; return 0;
    case KEY_STAGE: c->stage = arg; return 0;
    case KEY_KERNEL: c->kernel = arg; return 0;
    case KEY_AGAINST: c->against = arg; return 0;
    case ARGP_KEY_ARG:
        if (c->path != NULL) argp_error(state, "kernel sass takes one file, and '%s' is a second", arg);
        c->path = arg;
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&adm_argp_output, 0, NULL, 0}, {0}};
static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "[FILE]",
    .children = children,
    .doc = "Counts the machine instructions of kernels by kind: in this program, or in FILE, a .cubin or a shared object.\v"
           "Needs cuobjdump and nvdisasm: a CUDA toolkit's, on the PATH or with CUOBJDUMP naming the first, or those that "
           "`./configure.py --setup` installs with the private toolkit. Without them the exit code is 77. The counts are of "
           "the code "
           "as it stands, not of what runs.",
};

/* $CUOBJDUMP, the PATH's, or the private toolkit's. */
static bool find_cuobjdump(char *out, size_t bytes) {
    char self[PATH_MAX] = "", pattern[PATH_MAX + 64];
    const char *asked = getenv("CUOBJDUMP"), *path = getenv("PATH");
    if (asked != NULL && *asked != '\0') {
        snprintf(out, bytes, "%s", asked);
        return access(out, X_OK) == 0;
    }
    while (path != NULL && *path != '\0') {
        const size_t length = strcspn(path, ":");
        snprintf(out, bytes, "%.*s/cuobjdump", (int)length, path);
        if (access(out, X_OK) == 0) return true;
        path += length + (path[length] == ':');
    }
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash = n > 0 ? strrchr(self, '/') : NULL;
    if (slash == NULL) return false;
    *slash = '\0';
    glob_t found = {0};
    snprintf(pattern, sizeof pattern, "%s/../deps/cuda*/nvidia/cu13/bin/cuobjdump", self);
    const bool is_there = glob(pattern, 0, NULL, &found) == 0 && found.gl_pathc > 0;
    if (is_there) snprintf(out, bytes, "%s", found.gl_pathv[0]);
    globfree(&found);
    return is_there;
}

/* The disassembly, as a stream to read. */
static adm_status start(const char *program, const char *path, FILE **out, pid_t *pid, adm_error *err) {
    int ends[2];
    if (pipe(ends) != 0) return adm_fail(err, ADM_EENVIRONMENT, "a pipe: %s", strerror(errno));
    *pid = fork();
    if (*pid == 0) {
        dup2(ends[1], 1);
        close(ends[0]);
        close(ends[1]);
        execl(program, program, "-sass", path, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    *out = *pid > 0 ? fdopen(ends[0], "r") : NULL;
    if (*out != NULL) return ADM_OK;
    close(ends[0]);
    return adm_fail(err, ADM_EENVIRONMENT, "%s could not be started: %s", program, strerror(errno));
}

/* --- The kernels of a stage ------------------------------------------------------------------------------------------ */

static void add_kernel(void *user, const adm_static_kernel *k) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
    stage_kernels *s = user;
    char part[80];
    const int length = (int)strspn(k->kernel, letters);
    if (strcmp(k->stage, s->stage) != 0 || s->n == sizeof s->part / sizeof *s->part) return;
    snprintf(part, sizeof part, "%d%.*s", length, length < 70 ? length : 70, k->kernel);
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->part[i], part) == 0) return;
    memcpy(s->part[s->n++], part, sizeof part);
}

static bool is_of_stage(void *user, const char *name) {
    const stage_kernels *s = user;
    for (size_t i = 0; i < s->n; i++)
        if (strstr(name, s->part[i]) != NULL) return true;
    return false;
}

/* Before a tool is looked for, which another machine may have. */
static adm_status check_input(const sass_command *c, adm_error *err) {
    const char *names[ADM_N_STAGES];
    bool found[ADM_N_STAGES] = {false};
    struct stat file;
    adm_stage_names(names);
    adm_status status = c->stage != NULL ? adm_parse_words("--stage", c->stage, names, ADM_N_STAGES, found, err) : ADM_OK;
    if (status == ADM_OK && c->stage != NULL && c->path != NULL)
        status = adm_fail(err, ADM_EINPUT, "--stage is about this program's kernels: leave it out with a file, or the file");
    if (status != ADM_OK || c->path == NULL) return status;
    if (access(c->path, R_OK) != 0 || stat(c->path, &file) != 0)
        return adm_fail(err, ADM_EINPUT, "%s: %s", c->path, strerror(errno));
    return S_ISREG(file.st_mode) ? ADM_OK : adm_fail(err, ADM_EINPUT, "%s: is not a regular file", c->path);
}

static adm_status find_stage(sass_command *c, adm_error *err) {
    if (c->stage == NULL) return ADM_OK;
    c->kernels.stage = c->stage;
    adm_status status = adm_static_each(add_kernel, &c->kernels, err);
    if (status == ADM_OK && c->kernels.n == 0)
        status = adm_fail(err, ADM_EUNSUPPORTED, "this build has no CUDA kernels of the stage %s", c->stage);
    return status;
}

/* --- Counting --------------------------------------------------------------------------------------------------------- */

static adm_status count(sass_command *c, adm_sass_mix mix[2], adm_error *err) {
    char program[PATH_MAX], self[PATH_MAX] = "", line[1024];
    FILE *file = NULL;
    pid_t pid = -1;
    int status_word = 0;
    if (c->path == NULL && readlink("/proc/self/exe", self, sizeof self - 1) <= 0)
        return adm_fail(err, ADM_EENVIRONMENT, "this program's own file cannot be found");
    adm_status status = check_input(c, err);
    if (status == ADM_OK && !find_cuobjdump(program, sizeof program))
        status = adm_fail(err, ADM_EUNSUPPORTED,
                          "no cuobjdump: put a CUDA toolkit's bin on the PATH, name it in CUOBJDUMP, or let `./configure.py "
                          "--setup` install one");
    if (status == ADM_OK) status = find_stage(c, err);
    if (status == ADM_OK) status = start(program, c->path != NULL ? c->path : self, &file, &pid, err);
    if (status != ADM_OK) return status;
    adm_sass_reader reader = {
        .kernel = {c->kernel, c->against}, .takes = c->stage != NULL ? is_of_stage : NULL, .user = &c->kernels, .mix = mix};
    while (fgets(line, sizeof line, file) != NULL) adm_sass_read(&reader, line);
    fclose(file);
    waitpid(pid, &status_word, 0);
    if (mix[0].n_kernels == 0 && WIFEXITED(status_word) && WEXITSTATUS(status_word) != 0 && WEXITSTATUS(status_word) != 255)
        return adm_fail(err, ADM_EUNSUPPORTED, "%s ended with %d; it needs nvdisasm beside it or on the PATH", program,
                        WEXITSTATUS(status_word));
    if (mix[0].n_kernels == 0)
        return adm_fail(err, c->path != NULL || c->kernel != NULL ? ADM_EINPUT : ADM_EUNSUPPORTED,
                        "%s has no kernel%s%s that cuobjdump shows", c->path != NULL ? c->path : "this program",
                        c->kernel != NULL ? " with a name like " : "", c->kernel != NULL ? c->kernel : "");
    if (c->against != NULL && mix[1].n_kernels == 0)
        return adm_fail(err, ADM_EINPUT, "--against: no kernel's name contains '%s'", c->against);
    return ADM_OK;
}

static double share(const adm_sass_mix *m, int kind) { return m->n > 0 ? (double)m->count[kind] / (double)m->n : 0; }

static adm_status print_text(const sass_command *c, const adm_sass_mix mix[2], adm_error *err) {
    adm_print("%zu kernels, %zu instructions", mix[0].n_kernels, mix[0].n);
    if (c->against != NULL) adm_print("; against %zu kernels, %zu instructions", mix[1].n_kernels, mix[1].n);
    adm_print("\n\n%-12s %9s %7s", "kind", "count", "share");
    if (c->against != NULL) adm_print(" %9s %7s %9s", "against", "share", "more");
    adm_print("  instructions\n");
    for (int k = 0; k < ADM_SASS_KINDS; k++) {
        if (mix[0].count[k] + mix[1].count[k] == 0) continue;
        adm_print("%-12s %9zu %6.1f%%", adm_sass_kind_name(k), mix[0].count[k], share(&mix[0], k) * 100);
        if (c->against != NULL)
            adm_print(" %9zu %6.1f%% %+9lld", mix[1].count[k], share(&mix[1], k) * 100,
                      (long long)mix[0].count[k] - (long long)mix[1].count[k]);
        adm_print("  %s\n", adm_sass_kind_words(k));
    }
    return adm_finish_output(err);
}

static json_t *mix_as_json(const adm_sass_mix *m) {
    json_t *counts = json_object();
    for (int k = 0; k < ADM_SASS_KINDS; k++)
        json_object_set_new(counts, adm_sass_kind_name(k), json_integer((json_int_t)m->count[k]));
    return json_pack("{s:I, s:I, s:o}", "kernels", (json_int_t)m->n_kernels, "instructions", (json_int_t)m->n, "counts",
                     counts);
}

static int run(int argc, char **argv) {
    sass_command c = {.path = NULL};
    adm_sass_mix mix[2] = {{.n = 0}, {.n = 0}};
    adm_error err = {0};
    adm_argp_parse(&argp, argc, argv, &c);
    adm_status status = count(&c, mix, &err);
    if (status == ADM_OK && c.common.json)
        status = adm_print_json(json_pack("{s:o, s:o}", "mix", mix_as_json(&mix[0]), "against",
                                          c.against != NULL ? mix_as_json(&mix[1]) : json_null()),
                                &err);
    else if (status == ADM_OK) status = print_text(&c, mix, &err);
    return status == ADM_OK ? 0 : adm_report_error(&err);
}

const adm_command adm_kernel_sass = {"sass", "the instruction mix of kernels, and the difference between two", run};
