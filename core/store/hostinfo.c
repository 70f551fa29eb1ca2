/* hostinfo.c: the machine a run happens on. */
#include "core/store/hostinfo.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "core/base/version.h"

/* The value of the first line "key<separator>value", without the blanks or quotes around it; false if there is none. */
static bool value_of(const char *path, const char *key, char separator, char *out, size_t out_bytes) {
    FILE *file = fopen(path, "re");
    if (file == NULL) return false;
    char line[1024];
    bool found = false;
    size_t key_length = strlen(key);
    while (!found && fgets(line, sizeof line, file) != NULL) {
        char *value = strchr(line, separator);
        if (value == NULL || strncmp(line, key, key_length) != 0) continue;
        if (strspn(line + key_length, " \t") != (size_t)(value - line) - key_length) continue;
        value += 1 + strspn(value + 1, " \t\"'");
        size_t length = strlen(value);
        while (length > 0 && strchr(" \t\r\n\"'", value[length - 1]) != NULL) length--;
        found = length > 0;
        if (found) snprintf(out, out_bytes, "%.*s", (int)length, value);
    }
    fclose(file);
    return found;
}

void adm_host_cpu_model(const char *cpuinfo_path, char *out, size_t out_bytes) {
    char implementer[32], part[32];
    if (value_of(cpuinfo_path, "model name", ':', out, out_bytes) || value_of(cpuinfo_path, "Model", ':', out, out_bytes) ||
        value_of(cpuinfo_path, "Hardware", ':', out, out_bytes))
        return;
    if (value_of(cpuinfo_path, "CPU implementer", ':', implementer, sizeof implementer) &&
        value_of(cpuinfo_path, "CPU part", ':', part, sizeof part))
        snprintf(out, out_bytes, "implementer %s part %s", implementer, part);
    else snprintf(out, out_bytes, "unknown");
}

static int64_t cpus_allowed(void) {
    cpu_set_t set; /* holds 1024 processors; with more the call fails */
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? n : 0;
}

void adm_host_info_read(adm_host_info *host) {
    memset(host, 0, sizeof *host);
    struct utsname kernel;
    bool named = uname(&kernel) == 0;
    char system[128] = "unknown";
    if (!value_of("/etc/os-release", "PRETTY_NAME", '=', system, sizeof system))
        value_of("/usr/lib/os-release", "PRETTY_NAME", '=', system, sizeof system);
    if (named)
        snprintf(host->os, sizeof host->os, "%s, %.64s %.64s %.64s", system, kernel.sysname, kernel.release, kernel.machine);
    else snprintf(host->os, sizeof host->os, "%s", system);
    snprintf(host->host_name, sizeof host->host_name, "%s", named && kernel.nodename[0] ? kernel.nodename : "unknown");
    adm_host_cpu_model("/proc/cpuinfo", host->cpu_model, sizeof host->cpu_model);
    host->n_cpus = cpus_allowed();
    long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    if (pages > 0 && page_bytes > 0) host->memory_bytes = (int64_t)pages * page_bytes;
}

void adm_run_info_host(adm_run_info *info, const adm_host_info *host) {
    info->host_name = host->host_name;
    info->os = host->os;
    info->cpu_model = host->cpu_model;
    info->n_cpus = host->n_cpus;
    info->memory_bytes = host->memory_bytes;
    info->compiler = adm_compiler();
}
