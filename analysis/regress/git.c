/* git.c: runs git as a child process. Files stand between the two, so that neither side can wait for the other. */
#include "analysis/regress/git.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/mem.h"

enum { CANNOT_RUN = 126 };

static _Noreturn void become_git(char *const argv[], int in, int out, int said) {
    if (dup2(in, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0 && dup2(said, STDERR_FILENO) >= 0) {
        setenv("LC_ALL", "C", 1); /* its reasons in one language */
        execvp(argv[0], argv);
        dprintf(said, "git cannot be run: %s%s\n", strerror(errno), errno == ENOENT ? ": is it installed?" : "");
    }
    _exit(CANNOT_RUN);
}

/* The first line that git wrote to standard error, without "fatal: ". */
static void reason_of(FILE *said, char *out, size_t out_bytes) {
    char line[512] = "";
    rewind(said);
    if (fgets(line, sizeof line, said) == NULL || line[strspn(line, " \n")] == '\0')
        snprintf(line, sizeof line, "no reason given");
    line[strcspn(line, "\n")] = '\0';
    const char *words = strncmp(line, "fatal: ", 7) == 0 ? line + 7 : line;
    snprintf(out, out_bytes, "%s", words);
}

static adm_status read_all(FILE *file, char **out, adm_error *err) {
    long n = fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    if (n < 0) return adm_fail(err, ADM_EENVIRONMENT, "what git wrote cannot be read: %s", strerror(errno));
    adm_status status = adm_alloc(out, (size_t)n + 1, 1, "what git wrote", err);
    rewind(file);
    if (status == ADM_OK) (*out)[fread(*out, 1, (size_t)n, file)] = '\0';
    return status;
}

static adm_status run_git(char *const argv[], FILE *in, FILE *out, FILE *said, adm_error *err) {
    char reason[512];
    int wait_status = CANNOT_RUN << 8;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) become_git(argv, fileno(in), fileno(out), fileno(said));
    if (child < 0) return adm_fail(err, ADM_EENVIRONMENT, "git cannot be run: %s", strerror(errno));
    while (waitpid(child, &wait_status, 0) < 0 && errno == EINTR) {}
    if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0) return ADM_OK;
    reason_of(said, reason, sizeof reason);
    if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == CANNOT_RUN) return adm_fail(err, ADM_EENVIRONMENT, "%s", reason);
    return adm_fail(err, ADM_EINPUT, "git says: %s", reason);
}

adm_status adm_git(char *const argv[], const char *input, char **out, adm_error *err) {
    *out = NULL;
    FILE *in = tmpfile(), *answer = tmpfile(), *said = tmpfile();
    adm_status status = ADM_OK;
    if (in == NULL || answer == NULL || said == NULL)
        status = adm_fail(err, ADM_EENVIRONMENT, "no temporary files to run git with: %s", strerror(errno));
    if (status == ADM_OK && input != NULL && (fwrite(input, 1, strlen(input), in) < strlen(input) || fflush(in) != 0))
        status = adm_fail(err, ADM_EENVIRONMENT, "git could not be asked: %s", strerror(errno));
    if (status == ADM_OK) {
        rewind(in);
        status = run_git(argv, in, answer, said, err);
    }
    if (status == ADM_OK) status = read_all(answer, out, err);
    if (in != NULL) fclose(in);
    if (answer != NULL) fclose(answer);
    if (said != NULL) fclose(said);
    return status;
}

adm_status adm_git_line(char *const argv[], char *out, size_t out_bytes, adm_error *err) {
    char *text = NULL;
    adm_status status = adm_git(argv, NULL, &text, err);
    const char *line = text != NULL ? text : "";
    snprintf(out, out_bytes, "%.*s", (int)strcspn(line, "\n"), line);
    adm_free(&text);
    return status;
}

bool adm_git_is_shallow(void) {
    char answer[16];
    char *const argv[] = {"git", "rev-parse", "--is-shallow-repository", NULL};
    return adm_git_line(argv, answer, sizeof answer, NULL) == ADM_OK && strcmp(answer, "true") == 0;
}
