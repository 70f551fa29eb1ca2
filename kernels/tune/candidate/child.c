/* child.c: both ends of a judged process; see child.h. */
#include "kernels/tune/candidate/child.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/system/clock.h"

/* --- The child's side ----------------------------------------------------------------------------------------------- */

static adm_child_page *the_page; /* for the handler; of this process alone */

/* Says where it happened, then lets the signal do what it does. */
static void on_fault(int number, siginfo_t *info, void *context) {
    (void)context;
    the_page->signal = number;
    the_page->address = (uintptr_t)info->si_addr;
    signal(number, SIG_DFL);
    raise(number);
}

static void watch_faults(void) {
    static char stack[1 << 16];
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    const stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigaltstack(&other, NULL);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &action, NULL);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
}

static void limit_memory(uint64_t memory_bytes) {
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    const bool known = file != NULL && fscanf(file, "%llu", &pages) == 1;
    if (file != NULL) fclose(file);
    const struct rlimit limit = {pages * 4096 + memory_bytes, pages * 4096 + memory_bytes}, none = {0, 0};
    if (known && memory_bytes > 0) setrlimit(RLIMIT_AS, &limit);
    setrlimit(RLIMIT_CORE, &none);
}

bool adm_child_receive(int socket, void *request, size_t bytes) {
    ssize_t n;
    do n = recv(socket, request, bytes, 0);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)bytes;
}

bool adm_child_answer(int socket, const void *reply, size_t bytes) {
    return send(socket, reply, bytes, MSG_NOSIGNAL) == (ssize_t)bytes;
}

void adm_child_close_others(int socket) {
    if (socket > 3) close_range(3, (unsigned)socket - 1, 0);
    close_range((unsigned)socket + 1, ~0u, 0);
}

/* --- Starting ------------------------------------------------------------------------------------------------------- */

static void be_child(adm_child_serve *serve, void *user, uint64_t memory_bytes, adm_child *c, int socket, pid_t parent) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(0);
    const int nothing = open("/dev/null", O_RDONLY);
    dup2(nothing, 0);
    dup2(c->log, 1);
    dup2(c->log, 2);
    close(c->socket);
    the_page = c->page;
    watch_faults();
    limit_memory(memory_bytes);
    _exit(serve(user, socket, c->page));
}

adm_status adm_child_start(adm_child_serve *serve, void *user, uint64_t limit_ns, uint64_t memory_bytes, adm_child *c,
                           adm_error *err) {
    int ends[2] = {-1, -1};
    *c = (adm_child){.pid = -1, .socket = -1, .log = memfd_create("adamas-tune-log", MFD_CLOEXEC), .limit_ns = limit_ns};
    c->page = mmap(NULL, sizeof *c->page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (c->page == MAP_FAILED) c->page = NULL;
    if (c->log < 0 || c->page == NULL || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        adm_status status = adm_fail(err, ADM_EENVIRONMENT, "a process for a candidate: %s", strerror(errno));
        adm_child_end(c);
        return status;
    }
    c->socket = ends[0];
    fflush(stdout);
    fflush(stderr);
    const pid_t parent = getpid();
    c->pid = fork();
    if (c->pid == 0) be_child(serve, user, memory_bytes, c, ends[1], parent);
    close(ends[1]);
    if (c->pid > 0) {
        setpgid(c->pid, c->pid);
        return ADM_OK;
    }
    adm_status status = adm_fail(err, ADM_EENVIRONMENT, "a process for a candidate: %s", strerror(errno));
    adm_child_end(c);
    return status;
}

void adm_child_end(adm_child *c) {
    if (c->pid > 0) {
        kill(-c->pid, SIGKILL);
        if (!c->has_ended) waitpid(c->pid, NULL, 0);
    }
    if (c->socket >= 0) close(c->socket);
    if (c->log >= 0) close(c->log);
    if (c->page != NULL) munmap(c->page, sizeof *c->page);
    *c = (adm_child){.pid = -1, .socket = -1, .log = -1};
}

/* --- Asking --------------------------------------------------------------------------------------------------------- */

void adm_child_last_words(const adm_child *c, char *out, size_t bytes) {
    char tail[1024];
    const off_t end = lseek(c->log, 0, SEEK_END), from = end > (off_t)sizeof tail - 1 ? end - (off_t)sizeof tail + 1 : 0;
    const ssize_t n = end > 0 ? pread(c->log, tail, sizeof tail - 1, from) : 0;
    out[0] = '\0';
    if (n <= 0) return;
    tail[n] = '\0';
    for (char *last = tail + n; last > tail && (last[-1] == '\n' || last[-1] == '\r'); last--) last[-1] = '\0';
    const char *line = strrchr(tail, '\n');
    snprintf(out, bytes, "%s", line != NULL ? line + 1 : tail);
    for (char *p = out; *p != '\0'; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f) *p = '?';
}

static const char *signal_words(int number) {
    switch (number) {
    case SIGSEGV: return "it touched memory that is not its own";
    case SIGBUS: return "a bus error";
    case SIGFPE: return "an arithmetic fault, such as a division by 0";
    case SIGILL: return "an instruction that this processor does not have";
    case SIGABRT: return "it called abort()";
    case SIGTRAP: return "a trap";
    case SIGKILL: return "killed, as when memory runs out";
    default: return "a signal";
    }
}

/* Why no answer came. */
static adm_status explain_end(adm_child *c, adm_error *err) {
    int status = 0;
    char words[200];
    kill(-c->pid, SIGKILL); /* what it may have started */
    waitpid(c->pid, &status, 0);
    c->has_ended = true;
    adm_child_last_words(c, words, sizeof words);
    const char *const said = words[0] != '\0' ? "; it printed: " : "";
    const int number = c->page->signal != 0 ? c->page->signal : WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    if (number != 0)
        return adm_fail(err, ADM_EINTERNAL, "crashed with %s: %s%s%s", strsignal(number), signal_words(number), said, words);
    return adm_fail(err, ADM_EINTERNAL, "its process ended with status %d instead of returning%s%s", WEXITSTATUS(status), said,
                    words);
}

static adm_status too_slow(adm_child *c, adm_error *err) {
    kill(-c->pid, SIGKILL);
    waitpid(c->pid, NULL, 0);
    c->has_ended = true;
    return adm_fail(err, ADM_EINTERNAL, "did not return within %.3g s: it hangs, or is far too slow",
                    (double)c->limit_ns * 1e-9);
}

adm_status adm_child_ask(adm_child *c, const void *request, size_t request_bytes, void *reply, size_t reply_bytes,
                         adm_error *err) {
    if (c->has_ended) return adm_fail(err, ADM_EINTERNAL, "its process has ended");
    if (request != NULL && send(c->socket, request, request_bytes, MSG_NOSIGNAL) < 0) return explain_end(c, err);
    const uint64_t deadline = adm_clock_ns() + c->limit_ns;
    for (;;) {
        const uint64_t now = adm_clock_ns();
        if (now >= deadline) return too_slow(c, err);
        struct pollfd ready = {.fd = c->socket, .events = POLLIN};
        const int n = poll(&ready, 1, (int)((deadline - now) / 1000000 + 1));
        if (n < 0 && errno != EINTR) return adm_fail(err, ADM_EENVIRONMENT, "waiting for a candidate: %s", strerror(errno));
        if (n <= 0) continue;
        const ssize_t got = recv(c->socket, reply, reply_bytes, 0);
        if (got == (ssize_t)reply_bytes) return ADM_OK;
        return explain_end(c, err);
    }
}

/* --- Watching ------------------------------------------------------------------------------------------------------- */

int adm_child_n_tasks(const adm_child *c) {
    char path[64];
    int n = 0, other;
    snprintf(path, sizeof path, "/proc/%d/task", (int)c->pid);
    DIR *folder = opendir(path);
    if (folder == NULL) return -1;
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) n += entry->d_name[0] != '.';
    closedir(folder);
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)c->pid, (int)c->pid);
    FILE *file = fopen(path, "r");
    while (file != NULL && fscanf(file, "%d", &other) == 1) n++;
    if (file != NULL) fclose(file);
    return n;
}

uint64_t adm_child_cpu_ns(const adm_child *c) {
    clockid_t clock;
    struct timespec time;
    if (clock_getcpuclockid(c->pid, &clock) != 0 || clock_gettime(clock, &time) != 0) return 0;
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}
