/* check_run.c: starts the processes of a check in turn and gathers their runs. */
#include "analysis/regress/check_run.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/print.h"
#include "core/cli/command.h"
#include "core/base/mem.h"
#include "core/store/merge/merge.h"
#include "core/system/interrupt.h"
#include "core/system/remove_tree.h"
#include "core/store/track.h"

enum { FILE_BYTES = sizeof(((adm_check *)NULL)->folder) + 32 };

static const char *const side_name[2] = {"baseline", "candidate"};

/* --- The scratch folder ------------------------------------------------------------------------------------------- */

/* A check holds the lock of its folder for as long as it runs; the kernel gives it back however the check ends. A folder whose
 * lock is free was left behind by kill -9 or a loss of power. */
static int lock_folder(const char *folder) {
    char path[FILE_BYTES];
    snprintf(path, sizeof path, "%s/lock", folder);
    int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0) return lock;
    if (lock >= 0) close(lock);
    return -1;
}

/* Removes what earlier checks of this user left behind in `parent`. */
static void remove_left_behind(const char *parent) {
    static const char prefix[] = "adamas-check-";
    DIR *dir = opendir(parent);
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        char folder[1024], path[FILE_BYTES];
        struct stat info;
        if (strncmp(entry->d_name, prefix, sizeof prefix - 1) != 0) continue;
        if (snprintf(folder, sizeof folder, "%s/%s", parent, entry->d_name) >= (int)sizeof folder) continue;
        snprintf(path, sizeof path, "%s/lock", folder); /* not there yet: another check begins at this moment */
        if (lstat(folder, &info) != 0 || !S_ISDIR(info.st_mode) || info.st_uid != geteuid() || access(path, F_OK) != 0)
            continue;
        int lock = lock_folder(folder);
        if (lock < 0) continue;
        adm_remove_tree(folder);
        close(lock);
    }
    if (dir != NULL) closedir(dir);
}

adm_status adm_check_start(adm_check *check, adm_error *err) {
    const char *parent = getenv("TMPDIR");
    if (parent == NULL || *parent == '\0') parent = "/tmp";
    remove_left_behind(parent);
    int length = snprintf(check->folder, sizeof check->folder, "%s/adamas-check-XXXXXX", parent);
    errno = ENAMETOOLONG;
    if (length >= (int)sizeof check->folder || mkdtemp(check->folder) == NULL) {
        adm_status status = adm_fail(err, ADM_EENVIRONMENT, "no scratch folder %s for a check: %s", check->folder,
                                     strerror(errno));
        check->folder[0] = '\0';
        return status;
    }
    check->slot = adm_interrupt_remove(check->folder);
    check->lock = lock_folder(check->folder);
    if (check->lock < 0) return adm_fail(err, ADM_EENVIRONMENT, "no lock in %s: %s", check->folder, strerror(errno));
    return adm_new_uuid(check->uuid, err);
}

void adm_check_end(adm_check *check) {
    adm_free(&check->only);
    if (check->folder[0] == '\0') return;
    adm_remove_tree(check->folder);
    adm_interrupt_keep(check->slot);
    if (check->lock >= 0) close(check->lock);
    check->folder[0] = '\0';
}

static void file_in(const adm_check *check, int side, const char *suffix, char out[FILE_BYTES]) {
    snprintf(out, FILE_BYTES, "%s/%s.%s", check->folder, side_name[side], suffix);
}

/* --- A process ---------------------------------------------------------------------------------------------------- */

/* The last line that a process wrote to standard error, without our prefix. */
static void last_words(int log, char *out, size_t out_bytes) {
    char tail[1024];
    off_t n_bytes = lseek(log, 0, SEEK_END), max_bytes = sizeof tail - 1;
    ssize_t n = pread(log, tail, sizeof tail - 1, n_bytes > max_bytes ? n_bytes - max_bytes : 0);
    tail[n > 0 ? n : 0] = '\0';
    size_t end = strlen(tail);
    while (end > 0 && (tail[end - 1] == '\n' || tail[end - 1] == '\r')) tail[--end] = '\0';
    const char *line = strrchr(tail, '\n');
    line = line != NULL ? line + 1 : tail;
    if (strncmp(line, "adamas: ", 8) == 0) line += 8;
    snprintf(out, out_bytes, "%s", line[0] != '\0' ? line : "it said nothing");
}

static _Noreturn void become(const char *program, char **argv, int log, pid_t parent, const sigset_t *before) {
    int null = open("/dev/null", O_RDWR);
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* we do not outlive the check, however it ends */
    if (getppid() == parent && null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(null, STDOUT_FILENO) >= 0 &&
        dup2(log, STDERR_FILENO) >= 0) {
        static const int defaults[] = {SIGPIPE, SIGXFSZ, SIGINT, SIGTERM, SIGHUP, SIGALRM};
        for (size_t i = 0; i < sizeof defaults / sizeof defaults[0]; i++) signal(defaults[i], SIG_DFL);
        sigprocmask(SIG_SETMASK, before, NULL);
        execv(program, argv);
        adm_print_to(stderr, "%s: %s\n", program, strerror(errno));
        fflush(stderr);
    }
    _exit(126);
}

/* Starts a program, waits, and gives its wait status. An interrupt between fork and exec must reach the program, not the
 * handler that it has from us for that moment: hence the blocking. One that reaches us alone is passed on. */
static adm_status run_process(const char *program, char **argv, int log, int *wait_status, adm_error *err) {
    sigset_t interrupts, before;
    const pid_t self = getpid();
    bool told = false;
    sigemptyset(&interrupts);
    sigaddset(&interrupts, SIGINT);
    sigaddset(&interrupts, SIGTERM);
    fflush(NULL);
    sigprocmask(SIG_BLOCK, &interrupts, &before);
    pid_t child = fork();
    if (child == 0) become(program, argv, log, self, &before);
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (child < 0) return adm_fail(err, ADM_EENVIRONMENT, "%s cannot be started: %s", program, strerror(errno));
    while (waitpid(child, wait_status, 0) < 0) { /* EINTR again at every tick after an interrupt */
        if (errno != EINTR) return adm_fail(err, ADM_EENVIRONMENT, "waiting for %s: %s", program, strerror(errno));
        if (adm_interrupted() && !told) kill(child, SIGINT);
        told = adm_interrupted();
        if (adm_interrupt_is_urgent()) kill(child, SIGKILL); /* what it flushed stays, and goes with the scratch folder */
    }
    return ADM_OK;
}

static adm_status judge_exit(const adm_check *check, int side, int wait_status, int log, adm_error *err) {
    char said[512];
    size_t number = check->n_run[side] + 1;
    if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0) return ADM_OK;
    if (adm_interrupted() || (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 130))
        return adm_fail(err, ADM_EINTERRUPTED, "interrupted at process %zu of the %s", number, side_name[side]);
    last_words(log, said, sizeof said);
    if (WIFSIGNALED(wait_status))
        return adm_fail(err, ADM_EENVIRONMENT, "the %s crashed: process %zu was ended by signal %d (%s): %s", side_name[side],
                        number, WTERMSIG(wait_status), strsignal(WTERMSIG(wait_status)), said);
    int code = WEXITSTATUS(wait_status);
    adm_status status = code == 2 ? ADM_EINPUT : code == 77 ? ADM_EUNSUPPORTED : ADM_EENVIRONMENT;
    return adm_fail(err, status, "the %s failed: process %zu ended with %d: %s", side_name[side], number, code, said);
}

/* The command line of a process of a side, with room for two more; to be released with adm_free(). */
static adm_status make_argv(const adm_check *check, int side, char ***out, int *n, adm_error *err) {
    char **argv;
    adm_status status = adm_alloc(&argv, (size_t)check->n_arguments + 7, sizeof *argv, "a command line", err);
    *out = argv;
    *n = 0;
    if (status != ADM_OK) return status;
    argv[(*n)++] = (char *)check->program[side]->path;
    for (int i = 0; i < check->n_arguments; i++) argv[(*n)++] = check->arguments[i];
    if (check->only != NULL) {
        argv[(*n)++] = "--only-times";
        argv[(*n)++] = check->only;
    }
    argv[(*n)++] = "--quiet";
    return ADM_OK;
}

static adm_status open_log(int *log, adm_error *err) {
    *log = memfd_create("words", MFD_CLOEXEC); /* a full disk takes it too */
    if (*log < 0) return adm_fail(err, ADM_EENVIRONMENT, "no room for what a process says: %s", strerror(errno));
    return ADM_OK;
}

adm_status adm_check_can_run(const adm_check *check, int side, bool *can, adm_error *err) {
    char **argv = NULL;
    int n = 0, wait_status = 0, log = -1;
    adm_status status = make_argv(check, side, &argv, &n, err);
    if (status == ADM_OK) argv[n++] = "--dry-run";
    if (status == ADM_OK) status = open_log(&log, err);
    if (status == ADM_OK) status = run_process(check->program[side]->path, argv, log, &wait_status, err);
    *can = status == ADM_OK && WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0;
    if (status == ADM_OK && adm_interrupted()) status = adm_fail(err, ADM_EINTERRUPTED, "interrupted between processes");
    if (log >= 0) close(log);
    adm_free(&argv);
    return status;
}

adm_status adm_check_next(adm_check *check, adm_error *err) {
    /* ABBA, or the candidate alone. */
    int side = check->program[0] == NULL ? 1 : check->position % 4 == 1 || check->position % 4 == 2;
    char db[FILE_BYTES], **argv = NULL;
    int n = 0, wait_status = 0, log = -1;
    if (adm_interrupted()) return adm_fail(err, ADM_EINTERRUPTED, "interrupted before process %zu", check->position + 1);
    if (check->n_run[side] == ADM_CHECK_MAX_PROCESSES)
        return adm_fail(err, ADM_EINTERNAL, "a check has at most %d processes per side", ADM_CHECK_MAX_PROCESSES);
    file_in(check, side, "db", db);
    adm_status status = make_argv(check, side, &argv, &n, err);
    if (status == ADM_OK) status = open_log(&log, err);
    if (status == ADM_OK) {
        argv[n++] = "--db";
        argv[n++] = db;
    }
    if (status == ADM_OK) status = run_process(check->program[side]->path, argv, log, &wait_status, err);
    if (status == ADM_OK) status = judge_exit(check, side, wait_status, log, err);
    if (status == ADM_OK) {
        check->order[side][check->n_run[side]++] = (int64_t)check->position;
        check->position++;
    }
    if (log >= 0) close(log);
    adm_free(&argv);
    return status;
}

/* --- Gathering ---------------------------------------------------------------------------------------------------- */

/* Records the position of each new run of a side. */
static adm_status place_runs(adm_check *check, int side, adm_store *from, adm_store *store, adm_error *err) {
    adm_query *q = NULL;
    bool row = false;
    size_t n = 0;
    adm_status status = adm_query_open(from, "SELECT run_uuid FROM run WHERE status = 'complete' ORDER BY run_id", &q, err, "");
    while (status == ADM_OK && (status = adm_query_next(q, &row, err)) == ADM_OK && row && n < check->n_run[side]) {
        if (n >= check->n_merged[side])
            status = adm_store_check_run(store, adm_query_text(q, 0), check->uuid, side_name[side], check->order[side][n],
                                         check->program[side]->subject, err);
        n++;
    }
    adm_query_close(&q);
    if (status == ADM_OK && n != check->n_run[side])
        status = adm_fail(err, ADM_EENVIRONMENT,
                          "the %s wrote %zu complete runs in %zu processes: a command to check writes one "
                          "run a process",
                          side_name[side], n, check->n_run[side]);
    if (status == ADM_OK) check->n_merged[side] = n;
    return status;
}

adm_status adm_check_merge(adm_check *check, adm_store *store, adm_error *err) {
    adm_status status = ADM_OK;
    for (int side = 0; side < 2 && status == ADM_OK; side++) {
        char db[FILE_BYTES];
        adm_merge_counts counts;
        adm_store *from = NULL;
        if (check->n_run[side] == 0) continue;
        file_in(check, side, "db", db);
        /* Open for writing, so that the database of an older program is brought up to date. */
        status = adm_store_open(db, ADM_STORE_WRITE, &from, err);
        adm_store_close(&from);
        if (status == ADM_OK) status = adm_store_merge(store, db, &counts, err);
        if (status == ADM_OK) status = adm_store_open(db, ADM_STORE_READ, &from, err);
        if (status == ADM_OK) status = place_runs(check, side, from, store, err);
        adm_store_close(&from);
        if (status == ADM_OK) status = adm_store_flush(store, err);
    }
    return status;
}
