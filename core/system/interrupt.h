/* interrupt.h: SIGINT, SIGTERM and SIGHUP.
 *
 *   a command that never asks    the signal removes files in the making and ends the process at once
 *   one that asks                the first signal is an answer to adm_interrupted(); if the process is still there after
 *                                ADM_INTERRUPT_GRACE_MS, or at the second signal, it ends as above
 *
 * A database outlives both: SQLite's journal holds what was flushed. SIGHUP is left alone where it is ignored (nohup). */
#ifndef ADM_CORE_SYSTEM_INTERRUPT_H
#define ADM_CORE_SYSTEM_INTERRUPT_H

#include <stdbool.h>

enum { ADM_INTERRUPT_GRACE_MS = 800, ADM_INTERRUPT_TICK_MS = 50 };

/* Installs the handlers. Called once by the program. */
void adm_interrupt_install(void);

/* This command asks adm_interrupted() often enough to end within the grace. From the first signal on, a tick every
 * ADM_INTERRUPT_TICK_MS ends whatever system call the process waits in, with EINTR. */
void adm_interrupt_ask(void);

/* True once the user has asked to stop; false in a command that does not ask. */
bool adm_interrupted(void);

/* True once half of the grace is over: who waits inside a library, for SQLite say, gives up then. */
bool adm_interrupt_is_urgent(void);

/* Ends the process, whose output nobody reads any more (`adamas ... | head`): without a word, with the exit code of what could
 * not be written. */
void adm_end_without_reader(void);

/* Whether fd is a pipe that nobody reads any more. */
bool adm_reader_has_gone(int fd);

/* Notes a file, or a folder with all that is in it, to be removed if a signal ends the process. Returns its slot, or -1 if all
 * are taken or the path is too long: then the file would be left behind. A slot of -1 is fine for the second. */
int adm_interrupt_remove(const char *path);
void adm_interrupt_keep(int slot);

#endif
