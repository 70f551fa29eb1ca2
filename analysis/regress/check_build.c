/* check_build.c: finds or builds the program that a user names as one side of a check. */
#include "analysis/regress/check_build.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "analysis/regress/git.h"
#include "core/base/version.h"
#include "core/system/interrupt.h"

/* $1: top of the checkout, $2: folder of the work tree, $3: commit, $4 and $5: this program's options. What a build needs from
 * outside is shared with this checkout if both ask for the same packages. The options are those of the checkout's build, or
 * where it was never configured this program's. */
static const char build_script[] =
    "set -e\n"
    "cd \"$1\"\n"
    "if [ ! -e \"$2/.git\" ]; then git worktree prune; git worktree add --detach \"$2\" \"$3\"; fi\n"
    "mkdir -p \"$2/build\"\n"
    "if [ -d build/deps ] && [ ! -e \"$2/build/deps\" ] && cmp -s web-report/package-lock.json "
    "\"$2/web-report/package-lock.json\"\n"
    "then ln -s \"$1/build/deps\" \"$2/build/deps\"\n"
    "     touch -r web-report/package.json \"$2/web-report/package.json\"\n"
    "     touch -r web-report/package-lock.json \"$2/web-report/package-lock.json\"\n"
    "     if [ -e build/.ninja_log ]; then cp build/.ninja_log \"$2/build/.ninja_log\"; fi; fi\n" /* else ninja installs them */
    "options=$(sed -n 's/^  command = .*configure\\.py \\(--cuda=[^ ]* --arch=[^ ]*\\).*/\\1/p' build.ninja 2>/dev/null | "
    "head -n 1)\n"
    "cd \"$2\"\n"
    "if [ -n \"$options\" ]; then ./configure.py $options; else ./configure.py \"$4\" \"$5\"; fi\n"
    "ninja build/release/adamas\n";

static adm_status build(const char *top, const char *folder, const char *commit, const char *named, adm_error *err) {
    char log[4160];
    snprintf(log, sizeof log, "%s.log", folder);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        setpgid(0, 0); /* the shell and what it starts end together */
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (freopen(log, "w", stdout) != NULL && dup2(STDOUT_FILENO, STDERR_FILENO) >= 0)
            execlp("sh", "sh", "-c", build_script, "sh", top, folder, commit, adm_configured_cuda(), adm_configured_arch(),
                   (char *)NULL);
        _exit(126);
    }
    int wait_status = 1;
    while (child > 0 && waitpid(child, &wait_status, 0) < 0 && errno == EINTR)
        if (adm_interrupted()) kill(-child, SIGTERM);
    if (adm_interrupted()) return adm_fail(err, ADM_EINTERRUPTED, "interrupted while %s was built", named);
    if (child > 0 && WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0) return ADM_OK;
    return adm_fail(err, ADM_EENVIRONMENT, "%s (commit %.12s) could not be built: %s says why", named, commit, log);
}

static bool is_program(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode) && access(path, X_OK) == 0;
}

/* Neither a program nor a git ref, with git's own reason. */
static adm_status refuse(const char *named, const adm_error *why, const char *hint, adm_error *err) {
    const bool is_owner = strstr(why->text, "dubious ownership") != NULL;
    return adm_fail(err, ADM_EINPUT, "'%s' is neither a program nor a git ref of a checkout around this folder: %.300s%s%s",
                    named, why->text, is_owner ? "; `git config --global --add safe.directory FOLDER` allows it" : "", hint);
}

adm_status adm_check_resolve(const char *named, void (*on_build)(const char *subject, const char *folder),
                             adm_check_program *out, adm_error *err) {
    char top[2048], commit[128], ref[512], folder[4000];
    snprintf(out->subject, sizeof out->subject, "%s", named);
    if (is_program(named)) {
        if (realpath(named, out->path) != NULL) return ADM_OK;
        return adm_fail(err, ADM_EINPUT, "%s cannot be opened: %s", named, strerror(errno));
    }
    if (strchr(named, '/') != NULL && access(named, F_OK) == 0)
        return adm_fail(err, ADM_EINPUT, "%s is no program that can be run", named);
    snprintf(ref, sizeof ref, "%s^{commit}", named);
    char *const find_top[] = {"git", "rev-parse", "--show-toplevel", NULL};
    char *const find_commit[] = {"git", "rev-parse", "--verify", "--end-of-options", ref, NULL};
    adm_error why;
    if (adm_git_line(find_top, top, sizeof top, &why) != ADM_OK) return refuse(named, &why, "", err);
    if (adm_git_line(find_commit, commit, sizeof commit, &why) != ADM_OK)
        return refuse(named, &why,
                      adm_git_is_shallow()
                          ? "; this clone is shallow: `git fetch --unshallow`, or fetch-depth: 0 in a workflow, "
                            "brings the other commits"
                          : "",
                      err);
    snprintf(out->subject, sizeof out->subject, "%.120s (%.12s)", named, commit);
    snprintf(folder, sizeof folder, "%s/build", top);
    bool made = mkdir(folder, 0777) == 0 || errno == EEXIST; /* a fresh clone has none */
    snprintf(folder, sizeof folder, "%s/build/check", top);
    if (!made || (mkdir(folder, 0777) != 0 && errno != EEXIST))
        return adm_fail(err, ADM_EENVIRONMENT, "%s cannot be made: %s", folder, strerror(errno));
    snprintf(folder, sizeof folder, "%s/build/check/%.12s", top, commit);
    snprintf(out->path, sizeof out->path, "%s/build/release/adamas", folder);
    if (is_program(out->path)) return ADM_OK;
    if (on_build != NULL) on_build(out->subject, folder);
    adm_status status = build(top, folder, commit, named, err);
    if (status == ADM_OK && !is_program(out->path))
        status = adm_fail(err, ADM_EENVIRONMENT, "building %s left no program at %s", named, out->path);
    return status;
}
