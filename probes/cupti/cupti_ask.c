/* cupti_ask.c: both ends of the question; see cupti_ask.h. Needs none of CUPTI's headers. */
#include "probes/cupti/cupti_ask.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/system/clock.h"

#define CHILD_NAME "adamas-cupti-ask"
enum { CHILD_PIPE = 3, DEFAULT_SECONDS = 20 };
_Static_assert(sizeof(adm_cupti_answer) <= PIPE_BUF, "an answer is written in one piece");

extern char **environ;

/* --- Loading, in either process ----------------------------------------------------------------------------------- */

static void file_of(void *library, const char *otherwise, char *path, size_t bytes) {
    struct link_map *map = NULL;
    bool known = dlinfo(library, RTLD_DI_LINKMAP, &map) == 0 && map->l_name[0] != '\0';
    snprintf(path, bytes, "%s", known ? map->l_name : otherwise);
}

/* A library beside the file `path`; it stays loaded, as CUPTI does. */
static bool load_neighbour(const char *path, const char *name) {
    char neighbour[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (slash == NULL) return false;
    int length = snprintf(neighbour, sizeof neighbour, "%.*s/%s", (int)(slash - path), path, name);
    return length < (int)sizeof neighbour && dlopen(neighbour, RTLD_NOW | RTLD_LOCAL) != NULL;
}

/* CUPTI asks the loader for these by name alone: LD_LIBRARY_PATH or the loader's cache may then give those of another
 * release. What is already loaded is found by its name, so those of CUPTI's own folder are loaded first. The folder of the
 * file behind a link counts too. */
void *adm_cupti_open(const char *library, char *path, size_t path_bytes) {
    static const char *const names[] = {"libnvperf_host.so", "libnvperf_target.so"};
    char behind[PATH_MAX];
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) return NULL;
    file_of(handle, library, path, path_bytes);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!load_neighbour(path, names[i]) && realpath(path, behind) != NULL) load_neighbour(behind, names[i]);
    return handle;
}

/* --- The child ---------------------------------------------------------------------------------------------------- */

static void tell(const adm_cupti_answer *answer) {
    if (write(CHILD_PIPE, answer, sizeof *answer) != (ssize_t)sizeof *answer) _exit(1);
}

/* A release has the functions of all before it. */
static const char *series_of(void *library) {
    static const struct {
        const char *function, *series;
    } since[] = {{"cuptiClockControlGetStatus", "13.4"},
                 {"cuptiProfilerHostSetDevicePartitionInfo", "13.3"},
                 {"cuptiActivityGetStructSize", "13.2"}};
    for (size_t i = 0; i < sizeof since / sizeof *since; i++)
        if (dlsym(library, since[i].function) != NULL) return since[i].series;
    return "13.0";
}

/* The libnvperf_host.so that this process has loaded, and its version by NVPW_QueryVersionNumber() of nvperf_target.h. */
static void describe_host(adm_cupti_answer *a) {
    struct {
        size_t size;
        void *private;
        uint64_t api;
        uint32_t version[3], release[3];
    } query = {.size = sizeof query, .api = 0x1e128b6f001423fc /* NVPW_SDK_VERSION */};
    void *host = dlopen("libnvperf_host.so", RTLD_NOW | RTLD_NOLOAD);
    if (host == NULL) return;
    file_of(host, "libnvperf_host.so", a->host_path, sizeof a->host_path);
    int (*get_version)(void *) = (int (*)(void *))dlsym(host, "NVPW_QueryVersionNumber");
    if (get_version == NULL || get_version(&query) != 0) return;
    a->host_year = query.version[0];
    a->host_release = query.version[1];
}

static void ask_chips(void *library, adm_cupti_answer *a) {
    struct {
        size_t size;
        void *private;
        size_t n;
        const char *const *names;
    } chips = {.size = sizeof chips};
    int (*get_chips)(void *) = (int (*)(void *))dlsym(library, "cuptiProfilerHostGetSupportedChips");
    a->chips_result = get_chips != NULL ? get_chips(&chips) : -1;
    a->n_chips = chips.n;
}

static void answer_about(const char *name) {
    static adm_cupti_answer a;
    const struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    void *library = adm_cupti_open(name, a.path, sizeof a.path);
    if (library == NULL) {
        snprintf(a.error, sizeof a.error, "%s", dlerror());
        tell(&a);
        return;
    }
    a.has_driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL) != NULL;
    snprintf(a.series, sizeof a.series, "%s", series_of(library));
    a.is_silent = !a.has_driver && strcmp(a.series, "13.2") == 0;
    a.stage = ADM_CUPTI_ASKED_LOADED;
    tell(&a);
    if (a.is_silent) return;
    int (*get_version)(unsigned *) = (int (*)(unsigned *))dlsym(library, "cuptiGetVersion");
    a.version_result = get_version != NULL ? get_version(&a.version) : -1;
    a.stage = ADM_CUPTI_ASKED_VERSION;
    tell(&a);
    ask_chips(library, &a);
    describe_host(&a);
    a.stage = ADM_CUPTI_ASKED_CHIPS;
    tell(&a);
}

/* glibc hands a constructor main()'s arguments. Nobody starts a program under this name by accident. */
__attribute__((constructor)) static void be_the_child(int argc, char **argv, char **envp) {
    (void)envp;
    if (argc != 2 || strcmp(argv[0], CHILD_NAME) != 0) return;
    answer_about(argv[1]);
    _exit(0);
}

/* --- The parent --------------------------------------------------------------------------------------------------- */

static double limit_seconds(void) {
    const char *text = getenv("ADAMAS_CUPTI_SECONDS");
    char *end = NULL;
    double seconds = text != NULL ? strtod(text, &end) : 0;
    return text != NULL && end != text && *end == '\0' && seconds > 0 && seconds <= 3600 ? seconds : (double)DEFAULT_SECONDS;
}

/* Starts the child with its end of the pipe as descriptor 3 and no other output; 0, or errno. */
static int spawn_child(const char *library, int write_end, pid_t *child) {
    posix_spawn_file_actions_t actions;
    char *argv[] = {CHILD_NAME, (char *)library, NULL};
    int failure = posix_spawn_file_actions_init(&actions);
    if (failure != 0) return failure;
    failure = posix_spawn_file_actions_adddup2(&actions, write_end, CHILD_PIPE);
    for (int fd = 0; failure == 0 && fd < 3; fd++)
        failure = posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", fd == 0 ? O_RDONLY : O_WRONLY, 0);
    if (failure == 0) failure = posix_spawn(child, "/proc/self/exe", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return failure;
}

/* Reads answers, each more complete than the one before, until the child is done or out of time. */
static void listen(int read_end, adm_cupti_answer *answer) {
    const double seconds = answer->seconds;
    const uint64_t deadline = adm_clock_ns() + (uint64_t)(seconds * 1e9);
    adm_cupti_answer next;
    size_t n_read = 0;
    bool timed_out = false;
    for (;;) {
        uint64_t now = adm_clock_ns();
        struct pollfd ready = {.fd = read_end, .events = POLLIN};
        int n = now < deadline ? poll(&ready, 1, (int)((deadline - now) / 1000000) + 1) : 0;
        if (n < 0 && errno == EINTR) continue;
        timed_out = n == 0;
        ssize_t got = n > 0 ? read(read_end, (char *)&next + n_read, sizeof next - n_read) : 0;
        if (got <= 0) break;
        n_read += (size_t)got;
        if (n_read < sizeof next) continue;
        *answer = next;
        n_read = 0;
    }
    answer->timed_out = timed_out;
    answer->seconds = seconds;
}

void adm_cupti_ask(const char *library, adm_cupti_answer *answer) {
    int ends[2], status = 0;
    pid_t child = 0;
    *answer = (adm_cupti_answer){.seconds = limit_seconds()};
    if (pipe2(ends, O_CLOEXEC) != 0) {
        snprintf(answer->error, sizeof answer->error, "a pipe cannot be made: %s", strerror(errno));
        return;
    }
    int failure = spawn_child(library, ends[1], &child);
    close(ends[1]);
    if (failure != 0)
        snprintf(answer->error, sizeof answer->error, "this program cannot be started again: %s", strerror(failure));
    else listen(ends[0], answer);
    close(ends[0]);
    if (failure != 0) return;
    kill(child, SIGKILL); /* over or not: its answer is all that counts */
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    if (WIFSIGNALED(status) && !answer->timed_out && answer->stage != ADM_CUPTI_ASKED_CHIPS) answer->signal = WTERMSIG(status);
    if (answer->signal == SIGKILL) answer->signal = 0; /* ours, while it was ending */
}
