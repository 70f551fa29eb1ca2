/* source.c: candidates that come as source; see source.h. */
#include "kernels/tune/candidate/source.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/system/clock.h"
#include "core/base/embedded.h"
#include "core/base/mem.h"
#include "core/system/interrupt.h"
#include "core/system/read_room.h"
#include "core/system/remove_tree.h"
#include "kernels/tune/candidate/ptxas.h"

#define HEADER "kernels/tune/candidate/adamas_plugin.h"
enum { MAX_SOURCE_BYTES = 16 << 20, BUILD_LIMIT_S = 120, MAX_FLAGS = 24 };

void adm_candidate_refuse(adm_candidate *c, adm_status status, const char *format, ...) {
    va_list list;
    if (c->status != ADM_OK) return;
    va_start(list, format);
    vsnprintf(c->reason, sizeof c->reason, format, list);
    va_end(list);
    c->status = status;
}

/* --- The scratch folder --------------------------------------------------------------------------------------------- */

static adm_status write_file(const char *path, const char *text, size_t bytes, adm_error *err) {
    FILE *file = fopen(path, "w");
    const bool wrote = file != NULL && fwrite(text, 1, bytes, file) == bytes;
    if (file != NULL && fclose(file) == 0 && wrote) return ADM_OK;
    return adm_fail(err, ADM_EENVIRONMENT, "%s could not be written: %s", path, strerror(errno));
}

adm_status adm_tune_scratch_open(adm_tune_scratch *s, adm_error *err) {
    const char *parent = getenv("TMPDIR");
    char path[320];
    snprintf(s->folder, sizeof s->folder, "%.200s/adamas-tune-XXXXXX", parent != NULL && *parent ? parent : "/tmp");
    if (mkdtemp(s->folder) == NULL) {
        adm_status status = adm_fail(err, ADM_EENVIRONMENT, "no scratch folder %s: %s", s->folder, strerror(errno));
        s->folder[0] = '\0';
        return status;
    }
    s->slot = adm_interrupt_remove(s->folder);
    snprintf(path, sizeof path, "%s/adamas_plugin.h", s->folder);
    const adm_embedded_file *header = adm_embedded(HEADER);
    return write_file(path, header->data, header->n_bytes, err);
}

void adm_tune_scratch_close(adm_tune_scratch *s) {
    if (s->folder[0] == '\0') return;
    adm_remove_tree(s->folder);
    adm_interrupt_keep(s->slot);
    s->folder[0] = '\0';
}

/* --- Directives ----------------------------------------------------------------------------------------------------- */

static adm_status read_all(const char *path, char **text, size_t *bytes, adm_error *err) {
    FILE *file = adm_open_to_read(path);
    struct stat info;
    *text = NULL;
    if (file == NULL || fstat(fileno(file), &info) != 0 || !S_ISREG(info.st_mode)) {
        adm_status status = adm_fail(err, file == NULL ? adm_status_of_read(errno) : ADM_EINPUT, "%s: %s", path,
                                     file == NULL ? strerror(errno) : "is no plain file");
        if (file != NULL) fclose(file);
        return status;
    }
    adm_status status = info.st_size > MAX_SOURCE_BYTES ? adm_fail(err, ADM_EINPUT, "%s: is larger than 16 MiB", path) : ADM_OK;
    *bytes = (size_t)info.st_size;
    if (status == ADM_OK) status = adm_alloc(text, *bytes + 1, 1, "a source file", err);
    if (status == ADM_OK && fread(*text, 1, *bytes, file) != *bytes)
        status = adm_fail(err, ferror(file) ? adm_status_of_read(errno) : ADM_EINPUT, "%s cannot be read: %s", path,
                          ferror(file) ? strerror(errno) : "it has become shorter");
    fclose(file);
    return status;
}

/* "128, 256 512" -> numbers; false where it is anything else. */
static bool numbers_of(const char *text, int64_t *value, size_t max, size_t *n) {
    *n = 0;
    for (;;) {
        char *end;
        while (*text == ' ' || *text == ',' || *text == '\t') text++;
        if (*text == '\0' || *text == '\r' || strncmp(text, "*/", 2) == 0) return *n > 0;
        if (*n == max) return false;
        value[*n] = strtoll(text, &end, 0);
        if (end == text || (*end != '\0' && strchr(" ,\t\r*", *end) == NULL)) return false;
        ++*n;
        text = end;
    }
}

static bool dtypes_of(const char *text, uint32_t *mask) {
    static const char *const names[] = {"f32", "f16", "bf16"}; /* by adm_dtype */
    *mask = 0;
    while (*text != '\0') {
        const size_t length = strcspn(text, " ,\t\r");
        bool found = length == 0;
        for (uint32_t i = 0; i < 3 && length > 0; i++)
            if (strlen(names[i]) == length && strncasecmp(names[i], text, length) == 0) *mask |= 1u << i, found = true;
        if (!found) return false;
        text += length + (text[length] != '\0');
    }
    return *mask != 0;
}

static adm_status add_parameter(adm_candidate *c, const char *name, const char *value, size_t line, adm_error *err) {
    if (c->n_parameters == ADM_TUNE_MAX_PARAMETERS)
        return adm_fail(err, ADM_EINPUT, "%s, line %zu: more than %d parameters", c->path, line, ADM_TUNE_MAX_PARAMETERS);
    adm_tune_parameter *p = &c->parameter[c->n_parameters++];
    snprintf(p->name, sizeof p->name, "%s", name);
    if (numbers_of(value, p->value, ADM_TUNE_MAX_VALUES, &p->n_values)) {
        c->chosen[c->n_parameters - 1] = p->value[0];
        return ADM_OK;
    }
    return adm_fail(err, ADM_EINPUT, "%s, line %zu: '%.80s' is no list of up to %d numbers for the parameter %s", c->path, line,
                    value, ADM_TUNE_MAX_VALUES, name);
}

/* "NAME = value" behind "adamas:". */
static adm_status read_directive(adm_candidate *c, char *text, size_t line, adm_error *err) {
    char name[48] = "";
    size_t n = 0;
    int64_t value[3];
    while (*text == ' ' || *text == '\t') text++;
    while (n < sizeof name - 1 && (isalnum((unsigned char)text[n]) || text[n] == '_')) name[n] = text[n], n++;
    char *at = text + n;
    while (*at == ' ' || *at == '\t') at++;
    if (n == 0 || *at != '=') return ADM_OK; /* prose that mentions us */
    for (at++; *at == ' ' || *at == '\t';) at++;
    if (strcmp(name, "flags") == 0) return ADM_OK; /* read when it is compiled */
    if (strcmp(name, "dtype") == 0) {
        if (dtypes_of(at, &c->limits.dtypes)) return ADM_OK;
        return adm_fail(err, ADM_EINPUT, "%s, line %zu: dtype is a list of f16, bf16 and f32, not '%.60s'", c->path, line, at);
    }
    if (strcmp(name, "head_dim") != 0) return add_parameter(c, name, at, line, err);
    c->limits.head_dims = 0;
    bool is_right = numbers_of(at, value, 3, &n);
    for (size_t i = 0; is_right && i < n; i++) {
        is_right = value[i] == 64 || value[i] == 128 || value[i] == 256;
        if (is_right) c->limits.head_dims |= (uint32_t)value[i];
    }
    if (is_right) return ADM_OK;
    return adm_fail(err, ADM_EINPUT, "%s, line %zu: head_dim is a list of 64, 128 and 256, not '%.60s'", c->path, line, at);
}

/* Calls `each` for every line that holds "adamas:", with what follows it. */
static adm_status each_directive(adm_candidate *c, char *text, adm_status (*each)(adm_candidate *, char *, size_t, adm_error *),
                                 adm_error *err) {
    adm_status status = ADM_OK;
    size_t number = 0;
    for (char *next = text, *line; status == ADM_OK && (line = strsep(&next, "\n")) != NULL;) {
        number++;
        const char *first = line + strspn(line, " \t");
        char *found = strstr(line, "adamas:");
        if (found != NULL && strchr("/*#", *first) != NULL && *first != '\0') status = each(c, found + 7, number, err);
    }
    return status;
}

static void keep_hash(adm_candidate *c, const char *text, size_t bytes) {
    const XXH128_hash_t hash = XXH3_128bits(text, bytes);
    snprintf(c->hash, sizeof c->hash, "%016llx%016llx", (unsigned long long)hash.high64, (unsigned long long)hash.low64);
}

adm_status adm_source_hash(adm_candidate *c, adm_error *err) {
    char *text = NULL;
    size_t bytes = 0;
    adm_status status = read_all(c->path, &text, &bytes, err);
    if (status == ADM_OK) keep_hash(c, text, bytes);
    adm_free(&text);
    return status;
}

adm_status adm_source_read(adm_candidate *c, adm_error *err) {
    char *text = NULL;
    size_t bytes = 0;
    adm_status status = read_all(c->path, &text, &bytes, err);
    if (status == ADM_OK) {
        keep_hash(c, text, bytes);
        c->limits = (adm_tune_limits){ADM_TUNE_ALL_HEAD_DIMS, ADM_TUNE_ALL_DTYPES, 0};
        c->resources = ADM_TUNE_NO_RESOURCES;
        c->n_parameters = 0;
        status = each_directive(c, text, read_directive, err);
    }
    adm_free(&text);
    return status;
}

/* The words behind every "adamas: flags =", in one text. */
static void flags_of(const char *path, char *out, size_t out_bytes) {
    FILE *file = fopen(path, "r");
    char line[512];
    size_t used = 0;
    out[0] = '\0';
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        const char *found = strstr(line, "adamas: flags =");
        if (found == NULL || strchr("/*#", line[strspn(line, " \t")]) == NULL) continue;
        const int n = snprintf(out + used, out_bytes - used, " %.*s", (int)strcspn(found + 15, "\r\n"), found + 15);
        used = used + (size_t)n < out_bytes ? used + (size_t)n : out_bytes - 1;
    }
    if (file != NULL) fclose(file);
}

/* --- Compiling ------------------------------------------------------------------------------------------------------ */

/* The table for one function. */
static adm_status write_shim(const adm_candidate *c, const char *path, adm_error *err) {
    char text[1024];
    const char *stage = adm_stage_name(c->stage), *const gpu = c->on_gpu ? "gpu_" : "";
    const int n = snprintf(text, sizeof text,
                           "#include \"adamas_plugin.h\"\n"
                           "size_t adamas_gpu_workspace_bytes(const adamas_gpu_shape *shape) __attribute__((weak));\n"
                           "static const adamas_implementation rows[] = {{.stage = \"%s\", .name = \"source\", .on_gpu = %d,\n"
                           "    .run = (void (*)(void))adamas_%s%s, .workspace_bytes = adamas_gpu_workspace_bytes}};\n"
                           "const adamas_plugin adamas_plugin_table = {ADAMAS_PLUGIN_VERSION, sizeof *rows, 1, rows};\n",
                           stage, c->on_gpu, gpu, stage);
    return write_file(path, text, (size_t)n, err);
}

static bool find_program(const char *name, char *out, size_t bytes) {
    const char *path = getenv("PATH");
    if (strchr(name, '/') != NULL) {
        snprintf(out, bytes, "%s", name);
        return access(name, X_OK) == 0;
    }
    while (path != NULL && *path != '\0') {
        const size_t length = strcspn(path, ":");
        snprintf(out, bytes, "%.*s/%s", (int)length, path, name);
        if (access(out, X_OK) == 0) return true;
        path += length + (path[length] == ':');
    }
    return false;
}

/* $NVCC, the PATH's, or the one that `./configure.py --setup` put beside the program's build. */
static bool find_nvcc(char *out, size_t bytes) {
    char self[PATH_MAX] = "", pattern[PATH_MAX + 64];
    const char *asked = getenv("NVCC");
    if (find_program(asked != NULL && *asked != '\0' ? asked : "nvcc", out, bytes)) return true;
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash = n > 0 ? strrchr(self, '/') : NULL;
    if (slash == NULL) return false;
    *slash = '\0';
    glob_t found = {0};
    snprintf(pattern, sizeof pattern, "%s/../deps/cuda*/nvidia/cu13/bin/nvcc", self);
    const bool is_there = glob(pattern, 0, NULL, &found) == 0 && found.gl_pathc > 0;
    if (is_there) snprintf(out, bytes, "%s", found.gl_pathv[0]);
    globfree(&found);
    return is_there;
}

/* Words of a text, into the argument list; spoils the text. */
static size_t add_words(char *text, const char **argument, size_t n, size_t max) {
    for (char *word; (word = strsep(&text, " \t")) != NULL;)
        if (*word != '\0' && n < max) argument[n++] = word;
    return n;
}

/* A process whose output goes to a file; -1 where none could be made. */
static pid_t spawn(const char *program, const char *const *argument, const char *log) {
    const pid_t pid = fork();
    if (pid != 0) return pid;
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* its folder goes with us */
    const int out = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600), nothing = open("/dev/null", O_RDONLY);
    setpgid(0, 0);
    dup2(nothing, 0);
    dup2(out, 1);
    dup2(out, 2);
    execv(program, (char *const *)(uintptr_t)argument);
    _exit(127);
}

static adm_status find_compiler(const adm_candidate *c, char *out, size_t bytes, adm_error *err) {
    const char *cc = getenv("CC");
    if (c->on_gpu)
        return find_nvcc(out, bytes)
                   ? ADM_OK
                   : adm_fail(err, ADM_EUNSUPPORTED,
                              "no nvcc to compile it: put a CUDA toolkit's bin on the PATH, or name nvcc in NVCC");
    if (cc != NULL && *cc != '\0' && strchr(cc, ' ') == NULL && find_program(cc, out, bytes)) return ADM_OK;
    if (find_program("cc", out, bytes) || find_program("gcc", out, bytes) || find_program("clang", out, bytes)) return ADM_OK;
    return adm_fail(err, ADM_EUNSUPPORTED, "no C compiler to compile it: install gcc, or name a compiler in CC");
}

adm_status adm_source_start(adm_candidate *c, const char *arch, adm_tune_scratch *scratch, adm_source_build *build,
                            adm_error *err) {
    char compiler[PATH_MAX], shim[320], folder[272], define[ADM_TUNE_MAX_PARAMETERS][96], flags[1024], of_arch[64];
    static const char *const host_flags[] = {"-std=gnu11", "-O3", "-march=native", "-shared", "-fPIC", "-g", "-Wl,-z,defs"};
    static const char *const gpu_flags[] = {"-O3",        "-std=c++17",     "-lineinfo",       "-shared", "-Xcompiler=-fPIC",
                                            "-Xptxas=-v", "-cudart=static", "-Xlinker=-z,defs"};
    const char *argument[MAX_FLAGS + ADM_TUNE_MAX_PARAMETERS + 64];
    size_t n = 0;
    *build = (adm_source_build){.pid = -1, .start_ns = adm_clock_ns()};
    adm_status status = find_compiler(c, compiler, sizeof compiler, err);
    snprintf(shim, sizeof shim, "%s/table%u.c", scratch->folder, scratch->n_built);
    snprintf(c->library, sizeof c->library, "%s/candidate%u.so", scratch->folder, scratch->n_built);
    snprintf(build->log, sizeof build->log, "%s/log%u", scratch->folder, scratch->n_built++);
    if (status == ADM_OK) status = write_shim(c, shim, err);
    if (status != ADM_OK) return status;
    argument[n++] = compiler;
    const char *const *common = c->on_gpu ? gpu_flags : host_flags;
    const size_t n_common = c->on_gpu ? sizeof gpu_flags / sizeof *gpu_flags : sizeof host_flags / sizeof *host_flags;
    for (size_t i = 0; i < n_common; i++) argument[n++] = common[i];
    snprintf(of_arch, sizeof of_arch, "-arch=%s", arch);
    if (c->on_gpu) argument[n++] = of_arch;
    snprintf(folder, sizeof folder, "-I%s", scratch->folder);
    argument[n++] = folder;
    for (size_t p = 0; p < c->n_parameters; p++) {
        snprintf(define[p], sizeof define[p], "-D%s=%lld", c->parameter[p].name, (long long)c->chosen[p]);
        argument[n++] = define[p];
    }
    flags_of(c->path, flags, sizeof flags);
    n = add_words(flags, argument, n, MAX_FLAGS + 16);
    argument[n++] = c->path;
    argument[n++] = shim;
    argument[n++] = "-o";
    argument[n++] = c->library;
    argument[n++] = "-lm";
    argument[n] = NULL;
    build->pid = spawn(compiler, argument, build->log);
    return build->pid > 0 ? ADM_OK : adm_fail(err, ADM_EENVIRONMENT, "%s could not be started: %s", compiler, strerror(errno));
}

/* The first line of the compiler's output that says "error" or "undefined reference". */
static void first_error(const char *log, char *out, size_t bytes) {
    snprintf(out, bytes, "the compiler failed without a word");
    const char *found = NULL;
    static const char *const words[] = {"undefined reference", "error"};
    for (size_t i = 0; log != NULL && i < 2 && found == NULL; i++) found = strstr(log, words[i]);
    if (found == NULL) return;
    while (found > log && found[-1] != '\n') found--;
    snprintf(out, bytes, "%.*s", (int)strcspn(found, "\n"), found);
}

/* Whether the process ended within the limit, and well. */
static bool wait_for(pid_t pid, bool *in_time) {
    int status = 0;
    for (int i = 0; i < BUILD_LIMIT_S * 200; i++) {
        if (waitpid(pid, &status, WNOHANG) == pid) return WIFEXITED(status) && WEXITSTATUS(status) == 0;
        nanosleep(&(struct timespec){0, 5000000}, NULL);
    }
    *in_time = false;
    kill(-pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return false;
}

void adm_source_finish(adm_candidate *c, adm_source_build *build, char **output) {
    char line[400];
    size_t bytes = 0;
    bool in_time = true;
    *output = NULL;
    const bool built = wait_for(build->pid, &in_time);
    c->build_s = (double)(adm_clock_ns() - build->start_ns) * 1e-9;
    if (read_all(build->log, output, &bytes, NULL) != ADM_OK) *output = NULL;
    if (built) {
        if (c->on_gpu && *output != NULL) adm_ptxas_read(*output, &c->resources);
        adm_free(output);
        return;
    }
    first_error(*output, line, sizeof line);
    if (!in_time) adm_candidate_refuse(c, ADM_EINPUT, "does not compile within %d s", BUILD_LIMIT_S);
    else if (strstr(line, "undefined reference to `adamas_") != NULL || strstr(line, "undefined reference to 'adamas_") != NULL)
        adm_candidate_refuse(c, ADM_EINPUT, "defines no function adamas_%s%s", c->on_gpu ? "gpu_" : "",
                             adm_stage_name(c->stage));
    else adm_candidate_refuse(c, ADM_EINPUT, "does not compile: %s", line);
}
