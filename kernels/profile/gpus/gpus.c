/* gpus.c: a process per GPU. */
#include "kernels/profile/gpus/gpus.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/mem.h"
#include "core/fleet/collect.h"
#include "core/store/merge/merge.h"
#include "core/store/store.h"

/* --- Which GPUs --------------------------------------------------------------------------------------------------- */

adm_status adm_gpus_choose(adm_gpus *g, const char *text, adm_error *err) {
    adm_device_info list[ADM_MAX_GPUS];
    const bool all = strcmp(text, "all") == 0;
    uint32_t *numbers = NULL;
    size_t n_numbers = 0;
    int n = 0;
    /* What was typed comes before what is there. */
    adm_status status = all ? ADM_OK : adm_parse_u32_list("--gpus", text, 0, ADM_MAX_GPUS - 1, &numbers, &n_numbers, err);
    if (status == ADM_OK) status = adm_device_list(list, ADM_MAX_GPUS, &n, err);
    if (n > ADM_MAX_GPUS) n = ADM_MAX_GPUS;
    if (all) n_numbers = (size_t)n;
    for (size_t i = 0; status == ADM_OK && i < n_numbers; i++) {
        const uint32_t number = all ? (uint32_t)i : numbers[i];
        if (number >= (uint32_t)n)
            status = adm_fail(err, ADM_EINPUT, "--gpus: there is no GPU %" PRIu32 ": this machine's are 0 to %d", number,
                              n - 1);
        else {
            g->device[g->n] = list[number];
            g->number[g->n++] = (int)number;
        }
    }
    adm_free(&numbers);
    return status;
}

/* --- A process ---------------------------------------------------------------------------------------------------- */

/* "0-15,32-47" as a set of processors; false where it is none. */
static bool read_cpu_list(const char *path, cpu_set_t *set) {
    char text[4096];
    FILE *file = fopen(path, "re");
    CPU_ZERO(set);
    if (file == NULL) return false;
    const bool is_read = fgets(text, sizeof text, file) != NULL;
    fclose(file);
    for (char *at = text; is_read && *at >= '0' && *at <= '9';) {
        long first = strtol(at, &at, 10), last = first;
        if (*at == '-') last = strtol(at + 1, &at, 10);
        for (long cpu = first; cpu <= last && cpu < CPU_SETSIZE; cpu++) CPU_SET((size_t)cpu, set);
        if (*at == ',') at++;
    }
    return CPU_COUNT(set) > 0;
}

/* Keeps this process to the processors beside the GPU, as far as it may use them; elsewhere nothing is changed. */
static void pin(const adm_device_info *device) {
    char path[128];
    cpu_set_t near, allowed;
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/local_cpulist", device->pci);
    if (device->pci[0] == '\0' || !read_cpu_list(path, &near) || sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    CPU_AND(&near, &near, &allowed);
    if (CPU_COUNT(&near) > 0) sched_setaffinity(0, sizeof near, &near);
}

static _Noreturn void become(const adm_device_info *device, char **argv, const char *log, pid_t parent) {
    const int null = open("/dev/null", O_RDWR), out = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* we do not outlive the call, however it ends */
    if (getppid() == parent && null >= 0 && out >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(null, STDOUT_FILENO) >= 0 &&
        dup2(out, STDERR_FILENO) >= 0 && setenv("CUDA_VISIBLE_DEVICES", device->uuid, 1) == 0) {
        static const int defaults[] = {SIGPIPE, SIGXFSZ, SIGINT, SIGTERM, SIGHUP, SIGALRM};
        for (size_t i = 0; i < sizeof defaults / sizeof defaults[0]; i++) signal(defaults[i], SIG_DFL);
        pin(device);
        execv("/proc/self/exe", argv);
    }
    _exit(126);
}

/* One process that was started. */
typedef struct process {
    pid_t pid;
    char db[288], log[288], words[4][320];
    char **argv;
} process;

static adm_status make_arguments(const adm_gpus *g, int i, int n_together, const char *folder, process *p, adm_error *err) {
    enum { MORE = 8 };
    snprintf(p->db, sizeof p->db, "%s/%d.db", folder, i);
    snprintf(p->log, sizeof p->log, "%s/%d.log", folder, i);
    adm_status status = adm_alloc(&p->argv, (size_t)g->argc + MORE, sizeof *p->argv, "a command line", err);
    if (status != ADM_OK) return status;
    int n = 0;
    p->argv[n++] = (char *)"adamas";
    p->argv[n++] = (char *)"profile";
    for (int k = 1; k < g->argc; k++) p->argv[n++] = g->argv[k];
    snprintf(p->words[0], sizeof p->words[0], "--db=%s", p->db);
    snprintf(p->words[1], sizeof p->words[1], "--together=%s:%d", g->together, n_together);
    snprintf(p->words[2], sizeof p->words[2], "--shard=%d/%d", i + 1, g->n);
    p->argv[n++] = p->words[0];
    p->argv[n++] = p->words[1];
    if (g->split) p->argv[n++] = p->words[2];
    p->argv[n++] = (char *)"--gpus=";
    p->argv[n++] = (char *)"--device=0";
    p->argv[n++] = (char *)"--quiet";
    return ADM_OK;
}

static adm_status start(const adm_gpus *g, int i, process *p, adm_error *err) {
    const pid_t self = getpid();
    fflush(NULL);
    p->pid = fork();
    if (p->pid == 0) become(&g->device[i], p->argv, p->log, self);
    return p->pid > 0
               ? ADM_OK
               : adm_fail(err, ADM_EENVIRONMENT, "a process for GPU %d cannot be started: %s", g->number[i], strerror(errno));
}

/* The last line that a process wrote to standard error, without our prefix. */
static void last_words(const char *log, char *out, size_t out_bytes) {
    char line[500];
    FILE *file = fopen(log, "re");
    snprintf(out, out_bytes, "it said nothing");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] != '\0') snprintf(out, out_bytes, "%s", strncmp(line, "adamas: ", 8) == 0 ? line + 8 : line);
    }
    if (file != NULL) fclose(file);
}

static adm_status wait_for(const adm_gpus *g, int i, const process *p, adm_error *err) {
    int status = 0;
    char words[512];
    while (waitpid(p->pid, &status, 0) < 0)
        if (errno == EINTR && adm_interrupted()) kill(p->pid, SIGINT);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return ADM_OK;
    last_words(p->log, words, sizeof words);
    if (adm_interrupted()) return adm_fail(err, ADM_EINTERRUPTED, "interrupted while GPU %d was profiled", g->number[i]);
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    const adm_status kind = code == 2 ? ADM_EINPUT : code == 77 ? ADM_EUNSUPPORTED : ADM_EENVIRONMENT;
    return adm_fail(err, kind, "GPU %d: %s", g->number[i], words);
}

/* --- All of them -------------------------------------------------------------------------------------------------- */

/* Puts a process's runs into the user's database; what there is, also where it failed. */
static adm_status collect(const process *p, adm_store *store, adm_error *err) {
    adm_merge_counts counts;
    return access(p->db, R_OK) == 0 ? adm_store_merge(store, p->db, &counts, err) : ADM_OK;
}

/* The parts of a grid that was split, as one run. */
static adm_status join(process *p, int n, adm_store *store, adm_error *err) {
    adm_collection parts = {0};
    adm_merge *merge = NULL;
    char *paths[ADM_MAX_GPUS];
    adm_status status = ADM_OK;
    for (int i = 0; i < n; i++) paths[i] = p[i].db;
    for (int i = 0; status == ADM_OK && i < n; i++)
        if (access(paths[i], R_OK) == 0) status = adm_collection_add(&parts, (size_t)i, paths[i], err);
    if (status == ADM_OK) status = adm_collection_plan(&parts, paths, store, false, true, err);
    if (status == ADM_OK) status = adm_merge_open(store, false, &merge, err);
    for (int i = 0; status == ADM_OK && i < n; i++) {
        adm_merge_part part[ADM_MAX_GPUS];
        adm_merge_counts counts;
        const size_t n_parts = adm_collection_parts(&parts, (size_t)i, part);
        if (n_parts > 0) status = adm_merge_file(merge, paths[i], part, n_parts, &counts, err);
    }
    if (status == ADM_OK) status = adm_collection_finish(&parts, store, err);
    adm_merge_close(&merge);
    adm_collection_free(&parts);
    return status;
}

/* Runs the GPUs from `first` on, `n` of them at once, and adds their runs. */
static adm_status run_some(const adm_gpus *g, int first, int n, const char *folder, adm_store *store, adm_error *err) {
    process *p = NULL;
    int n_started = 0;
    adm_status status = adm_alloc(&p, (size_t)n, sizeof *p, "processes", err);
    for (int i = 0; status == ADM_OK && i < n; i++) status = make_arguments(g, first + i, n, folder, &p[i], err);
    for (int i = 0; status == ADM_OK && i < n; i++) {
        status = start(g, first + i, &p[i], err);
        n_started += status == ADM_OK;
    }
    for (int i = 0; i < n_started; i++) {
        adm_error one;
        const adm_status ended = wait_for(g, first + i, &p[i], &one);
        if (status == ADM_OK && ended != ADM_OK) {
            status = ended;
            if (err != NULL) *err = one;
        }
    }
    adm_error unused;
    adm_error *said = status == ADM_OK ? err : &unused;
    adm_status kept = ADM_OK;
    if (p != NULL && g->split) kept = join(p, n, store, said);
    for (int i = 0; p != NULL && !g->split && i < n_started && kept == ADM_OK; i++) kept = collect(&p[i], store, said);
    for (int i = 0; p != NULL && i < n; i++) {
        unlink(p[i].db);
        unlink(p[i].log);
        adm_free(&p[i].argv);
    }
    adm_free(&p);
    return status != ADM_OK ? status : kept;
}

adm_status adm_gpus_run(adm_gpus *g, adm_error *err) {
    const char *parent = getenv("TMPDIR");
    char folder[256];
    adm_store *store = NULL;
    snprintf(folder, sizeof folder, "%s/adamas-gpus-XXXXXX", parent != NULL && *parent != '\0' ? parent : "/tmp");
    if (mkdtemp(folder) == NULL) return adm_fail(err, ADM_EENVIRONMENT, "no scratch folder %s: %s", folder, strerror(errno));
    adm_status status = adm_new_uuid(g->together, err);
    if (status == ADM_OK) status = adm_store_open(g->common->db_path, ADM_STORE_WRITE, &store, err);
    for (int i = 0; status == ADM_OK && g->alone && !g->split && i < g->n; i++) status = run_some(g, i, 1, folder, store, err);
    if (status == ADM_OK) status = run_some(g, 0, g->n, folder, store, err);
    if (status == ADM_OK && (!g->common->quiet || g->common->json)) status = adm_gpus_show(g, store, err);
    adm_store_close(&store);
    rmdir(folder);
    return status;
}
