/* interrupt.c: SIGINT, SIGTERM and SIGHUP. Handlers call only what is safe in a handler. */
#include "core/system/interrupt.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "core/base/error.h"
#include "core/system/remove_tree.h"

enum { MAX_FILES = 8, PATH_BYTES = 4096 };

static volatile sig_atomic_t asks, asked_by, n_ticks;

/* A slot is used by the one thread that opens output files; `taken` is set last and cleared first. */
static struct {
    volatile sig_atomic_t taken;
    char path[PATH_BYTES];
} files[MAX_FILES];

static void remove_files(void) {
    for (int i = 0; i < MAX_FILES; i++)
        if (files[i].taken && unlink(files[i].path) != 0 && errno == EISDIR) adm_remove_tree(files[i].path);
}

static void end_by(int signal_number) {
    remove_files();
    sigset_t own;
    sigemptyset(&own);
    sigaddset(&own, signal_number);
    signal(signal_number, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, &own, NULL);
    raise(signal_number);
}

static void on_signal(int signal_number) {
    int kept = errno;
    if (!asks || asked_by != 0) end_by(signal_number);
    asked_by = signal_number;
    struct itimerval ticks = {.it_interval = {.tv_usec = ADM_INTERRUPT_TICK_MS * 1000},
                              .it_value = {.tv_usec = ADM_INTERRUPT_TICK_MS * 1000}};
    setitimer(ITIMER_REAL, &ticks, NULL);
    errno = kept;
}

static void on_tick(int signal_number) {
    (void)signal_number;
    n_ticks++;
    if (asked_by != 0 && n_ticks * ADM_INTERRUPT_TICK_MS >= ADM_INTERRUPT_GRACE_MS) end_by(asked_by);
}

static void handle(int signal_number, void (*handler)(int)) {
    struct sigaction action = {.sa_handler = handler};
    sigemptyset(&action.sa_mask);
    sigaction(signal_number, &action, NULL);
}

void adm_interrupt_install(void) {
    struct sigaction before;
    handle(SIGINT, on_signal);
    handle(SIGTERM, on_signal);
    if (sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler != SIG_IGN) handle(SIGHUP, on_signal);
}

void adm_interrupt_ask(void) {
    handle(SIGALRM, on_tick);
    asks = 1;
}

bool adm_interrupted(void) { return asked_by != 0; }

bool adm_interrupt_is_urgent(void) { return asked_by != 0 && n_ticks * ADM_INTERRUPT_TICK_MS * 2 >= ADM_INTERRUPT_GRACE_MS; }

void adm_end_without_reader(void) {
    remove_files();
    _exit(adm_exit_code(ADM_EENVIRONMENT));
}

bool adm_reader_has_gone(int fd) {
    struct pollfd pipe = {.fd = fd, .events = POLLOUT};
    return poll(&pipe, 1, 0) == 1 && (pipe.revents & POLLERR) != 0;
}

int adm_interrupt_remove(const char *path) {
    size_t n = strlen(path) + 1;
    for (int i = 0; n <= PATH_BYTES && i < MAX_FILES; i++) {
        if (files[i].taken) continue;
        memcpy(files[i].path, path, n);
        files[i].taken = 1;
        return i;
    }
    return -1;
}

void adm_interrupt_keep(int slot) {
    if (slot >= 0) files[slot].taken = 0;
}
