/* network.c: one writer per database on a network file system. */
#include "core/store/file/network.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "core/base/printable.h"

enum { PATH_BYTES = 4200 };

/* f_type of statfs(2), and of the file systems' own headers. FUSE is missing: what is behind it may be local. */
static const struct {
    unsigned long type;
    const char *name;
} networks[] = {
    {0x6969, "NFS"},      {0xff534d42, "CIFS"},  {0xfe534d42, "SMB2"},     {0x517b, "SMB"},       {0x0bd00bd0, "Lustre"},
    {0x47504653, "GPFS"}, {0x00c36400, "Ceph"},  {0x19830326, "BeeGFS"},   {0x5346414f, "AFS"},   {0x73757245, "Coda"},
    {0x01161970, "GFS2"}, {0x7461636f, "OCFS2"}, {0x20030528, "OrangeFS"}, {0xaad7aaea, "PanFS"},
};

const char *adm_network_name(const char *path) {
    char folder[PATH_BYTES];
    struct statfs info;
    const char *slash = strrchr(path, '/');
    const size_t length = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
    if (length >= sizeof folder) return NULL;
    memcpy(folder, path, length);
    folder[length] = '\0';
    if (statfs(length > 0 ? folder : ".", &info) != 0) return NULL;
    for (size_t i = 0; i < sizeof networks / sizeof networks[0]; i++)
        if (((unsigned long)info.f_type & 0xffffffff) == networks[i].type) return networks[i].name;
    return NULL;
}

static bool name_of_claim(const char *path, char out[PATH_BYTES]) {
    return snprintf(out, PATH_BYTES, "%s-writer", path) < PATH_BYTES;
}

/* "HOST PID" of the process that has it; false where it cannot be read. */
static bool read_claim(const char *claim, char host[128], long *pid) {
    char text[256];
    FILE *file = fopen(claim, "re");
    if (file == NULL) return false;
    const size_t n = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[n] = '\0';
    char *blank = strrchr(text, ' ');
    if (blank == NULL) return false;
    *blank = '\0';
    *pid = strtol(blank + 1, NULL, 10);
    adm_printable(text, host, 128);
    return *pid > 0;
}

static bool write_claim(int fd, const char *host) {
    char text[192];
    const int n = snprintf(text, sizeof text, "%.128s %ld", host, (long)getpid());
    const bool is_written = write(fd, text, (size_t)n) == n;
    return close(fd) == 0 && is_written;
}

/* Where there are no links: the claim is without its owner until that is written. Atomic on NFS since version 3. */
static bool make_claim_in_place(const char *claim, const char *host) {
    const int fd = open(claim, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) return false;
    if (write_claim(fd, host)) return true;
    const int cause = errno;
    unlink(claim);
    errno = cause;
    return false;
}

/* False with errno, which is EEXIST if there is a claim. It gets its name once its owner is in it: a process that is killed
 * before that leaves a file that is in nobody's way. */
static bool make_claim(const char *claim, const char *host) {
    char made[PATH_BYTES + 8];
    struct stat info;
    snprintf(made, sizeof made, "%s.XXXXXX", claim);
    const int fd = mkostemp(made, O_CLOEXEC);
    if (fd < 0) return false;
    fchmod(fd, 0644);
    const bool is_written = write_claim(fd, host);
    const bool is_linked = is_written && link(made, claim) == 0;
    const int cause = errno;
    /* NFS may say that the name is there when it was this process that made it, and the answer was lost: link(2). */
    const bool is_made = is_linked || (is_written && stat(made, &info) == 0 && info.st_nlink == 2);
    unlink(made);
    errno = cause;
    const bool has_no_links = cause == EPERM || cause == EOPNOTSUPP || cause == ENOSYS;
    return is_made || (is_written && has_no_links && make_claim_in_place(claim, host));
}

adm_status adm_network_claim(const char *path, bool *claimed, adm_error *err) {
    char claim[PATH_BYTES], host[128], shown[256];
    struct utsname self = {0};
    const char *network = adm_network_name(path);
    *claimed = false;
    if (network == NULL || !name_of_claim(path, claim)) return ADM_OK;
    uname(&self);
    for (int attempt = 0; attempt < 2; attempt++) {
        long pid = 0;
        *claimed = make_claim(claim, self.nodename);
        if (*claimed) return ADM_OK;
        if (errno != EEXIST)
            return adm_fail(err, ADM_EENVIRONMENT, "%s cannot be claimed for writing: %s",
                            adm_printable(path, shown, sizeof shown), strerror(errno));
        const bool is_known = read_claim(claim, host, &pid);
        const bool is_gone = is_known && strcmp(host, self.nodename) == 0 && kill((pid_t)pid, 0) != 0 && errno == ESRCH;
        if (!is_gone)
            return adm_fail(
                err, ADM_EINPUT,
                "%s is on %s, where two writers would damage it, and process %ld of host %s is writing it: give every "
                "process a database of its own and join them with `adamas db merge`; if that process is gone, remove "
                "%s-writer",
                adm_printable(path, shown, sizeof shown), network, pid, is_known ? host : "unknown", shown);
        unlink(claim);
    }
    return adm_fail(err, ADM_EINPUT, "%s is being claimed by other processes of this host",
                    adm_printable(path, shown, sizeof shown));
}

void adm_network_release(const char *path) {
    char claim[PATH_BYTES];
    if (name_of_claim(path, claim)) unlink(claim);
}
