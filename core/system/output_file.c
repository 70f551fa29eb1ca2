/* output_file.c: files that are there whole or not at all. */
#include "core/system/output_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/system/interrupt.h"
#include "core/base/mem.h"

enum { PART_BYTES = sizeof ".part-XXXXXX" - 1 };

/* The folder of a file, "" for one in the working directory, into `folder`, which has room for the path and two bytes more. */
static void folder_of(const char *path, char *folder) {
    const char *slash = strrchr(path, '/');
    size_t n = slash == NULL ? 0 : (size_t)(slash - path) + 1;
    memcpy(folder, path, n);
    strcpy(folder + n, ".");
}

/* A file without a name, which nothing leaves behind, or, where the file system has none (NFS, say), one that a signal
 * removes. -1 with errno if there is neither. */
static int open_nameless_or_part(adm_output *output) {
    folder_of(output->path, output->part);
    int fd = open(output->part, O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
    output->is_nameless = fd >= 0;
    if (fd >= 0) return fd;
    sprintf(output->part, "%s.part-XXXXXX", output->path);
    fd = mkstemp(output->part);
    if (fd < 0) return fd;
    output->slot = adm_interrupt_remove(output->part);
    mode_t mask = umask(0);
    umask(mask);
    fchmod(fd, 0666 & ~mask); /* as a file made the plain way would be */
    return fd;
}

static adm_status open_part(adm_output *output, adm_error *err) {
    const char *slash = strrchr(output->path, '/'), *name = slash != NULL ? slash + 1 : output->path;
    if (strlen(name) + PART_BYTES > NAME_MAX)
        return adm_fail(err, ADM_EINPUT, "%s: cannot be written: %s", output->path, strerror(ENAMETOOLONG));
    adm_status status = adm_alloc(&output->part, strlen(output->path) + 16, 1, "a file name", err);
    if (status != ADM_OK) return status;
    int fd = open_nameless_or_part(output);
    if (fd < 0) {
        status = adm_fail(err, ADM_EINPUT, "%s: cannot be written: %s", output->path, strerror(errno));
        adm_free(&output->part);
        return status;
    }
    output->file = fdopen(fd, "w");
    if (output->file != NULL) return ADM_OK;
    status = adm_fail(err, errno == ENOMEM ? ADM_EENVIRONMENT : ADM_EINPUT, "%s: cannot be written: %s", output->path,
                      strerror(errno));
    close(fd);
    adm_output_discard(output);
    return status;
}

/* The document alone goes to standard output: from here on what the program says of it goes to standard error. */
static adm_status open_standard_output(adm_output *output, adm_error *err) {
    fflush(stdout);
    const int fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    output->path = "standard output";
    output->file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (output->file != NULL && dup2(STDERR_FILENO, STDOUT_FILENO) >= 0) return ADM_OK;
    const adm_status status = adm_fail(err, ADM_EENVIRONMENT, "standard output cannot be written: %s", strerror(errno));
    if (output->file != NULL) fclose(output->file);
    else if (fd >= 0) close(fd);
    output->file = NULL;
    return status;
}

adm_status adm_output_open(adm_output *output, const char *option, const char *path, adm_error *err) {
    struct stat there;
    *output = (adm_output){.path = path, .slot = -1};
    if (path[0] == '\0') return adm_fail(err, ADM_EINPUT, "%s: '' is no file name", option);
    if (strcmp(path, "-") == 0) return open_standard_output(output, err);
    bool exists = stat(path, &there) == 0;
    if (exists && S_ISDIR(there.st_mode))
        return adm_fail(err, ADM_EINPUT, "%s: %s is a directory; name a file in it", option, path);
    if (!exists || S_ISREG(there.st_mode)) return open_part(output, err);
    output->file = fopen(path, "we");
    return output->file != NULL ? ADM_OK : adm_fail(err, ADM_EINPUT, "%s: cannot be written: %s", path, strerror(errno));
}

/* Gives the nameless file a name, for as long as it takes to rename it over the one that is there. */
static bool name_it(adm_output *output) {
    char source[64];
    snprintf(source, sizeof source, "/proc/self/fd/%d", fileno(output->file));
    for (unsigned i = 0; i < 100; i++) {
        sprintf(output->part, "%s.part-%06x", output->path, ((unsigned)getpid() * 100 + i) & 0xffffff);
        output->slot = adm_interrupt_remove(output->part); /* before it is there, so that no signal comes between */
        if (linkat(AT_FDCWD, source, AT_FDCWD, output->part, AT_SYMLINK_FOLLOW) == 0) {
            output->is_nameless = false;
            return true;
        }
        const int error = errno;
        adm_interrupt_keep(output->slot);
        output->slot = -1;
        errno = error;
        if (errno != EEXIST) return false;
    }
    return false;
}

/* Nothing is wrong with an output that nobody reads to its end. */
static void end_without_reader(const adm_output *output) {
    if (output->file != NULL && output->part == NULL && adm_reader_has_gone(fileno(output->file))) adm_end_without_reader();
}

const char *adm_output_why(FILE *file, int flush_errno) {
    if (flush_errno != 0) return strerror(flush_errno);
    errno = 0;
    if (write(fileno(file), "\n", 1) != 1 && errno != 0) return strerror(errno);
    return "an earlier write did not succeed";
}

adm_status adm_output_commit(adm_output *output, adm_error *err) {
    errno = 0;
    bool written = fflush(output->file) == 0 && !ferror(output->file);
    if (written && output->is_nameless) written = name_it(output);
    int cause = errno;
    end_without_reader(output);
    const char *why = written ? NULL : adm_output_why(output->file, cause);
    if (fclose(output->file) != 0 && written) {
        written = false;
        why = strerror(errno);
    }
    output->file = NULL;
    if (written && output->part != NULL && rename(output->part, output->path) != 0) {
        written = false;
        why = strerror(errno);
    }
    if (written) {
        adm_interrupt_keep(output->slot);
        adm_free(&output->part);
        return ADM_OK;
    }
    adm_status status = adm_fail(err, ADM_EENVIRONMENT, "%s: writing failed: %s", output->path, why);
    adm_output_discard(output);
    return status;
}

void adm_output_discard(adm_output *output) {
    end_without_reader(output);
    if (output->file != NULL) fclose(output->file);
    if (output->part != NULL && !output->is_nameless) {
        unlink(output->part);
        adm_interrupt_keep(output->slot);
    }
    output->file = NULL;
    adm_free(&output->part);
}
