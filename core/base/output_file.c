/* output_file.c: files that are there whole or not at all. */
#include "core/base/output_file.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/mem.h"

static adm_status open_part(adm_output *output, adm_error *err) {
    size_t size = strlen(output->path) + 16;
    adm_status status = adm_alloc(&output->part, size, 1, "a file name", err);
    if (status != ADM_OK) return status;
    snprintf(output->part, size, "%s.part-XXXXXX", output->path);
    int fd = mkstemp(output->part);
    if (fd < 0) {
        status = adm_fail(err, ADM_EINPUT, "%s: cannot be written: %s", output->path, strerror(errno));
        adm_free(&output->part);
        return status;
    }
    mode_t mask = umask(0);
    umask(mask);
    fchmod(fd, 0666 & ~mask); /* as a file made the plain way would be */
    output->file = fdopen(fd, "w");
    if (output->file != NULL) return ADM_OK;
    status = adm_fail(err, ADM_EENVIRONMENT, "%s: cannot be written: %s", output->path, strerror(errno));
    close(fd);
    adm_output_discard(output);
    return status;
}

adm_status adm_output_open(adm_output *output, const char *option, const char *path, adm_error *err) {
    struct stat there;
    *output = (adm_output){.path = path};
    if (path[0] == '\0') return adm_fail(err, ADM_EINPUT, "%s: '' is no file name", option);
    bool exists = stat(path, &there) == 0;
    if (exists && S_ISDIR(there.st_mode))
        return adm_fail(err, ADM_EINPUT, "%s: %s is a directory; name a file in it", option, path);
    if (!exists || S_ISREG(there.st_mode)) return open_part(output, err);
    output->file = fopen(path, "we");
    return output->file != NULL ? ADM_OK : adm_fail(err, ADM_EINPUT, "%s: cannot be written: %s", path, strerror(errno));
}

adm_status adm_output_commit(adm_output *output, adm_error *err) {
    bool written = !ferror(output->file);
    written = fclose(output->file) == 0 && written;
    output->file = NULL;
    if (written && (output->part == NULL || rename(output->part, output->path) == 0)) {
        adm_free(&output->part);
        return ADM_OK;
    }
    adm_status status = adm_fail(err, ADM_EENVIRONMENT, "%s: writing failed: %s", output->path, strerror(errno));
    adm_output_discard(output);
    return status;
}

void adm_output_discard(adm_output *output) {
    if (output->file != NULL) fclose(output->file);
    if (output->part != NULL) unlink(output->part);
    output->file = NULL;
    adm_free(&output->part);
}
