/* hostinfo.c: the machine a run happens on. */
#include "core/system/hostinfo.h"

#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* Lines of a file of the kernel's, without an allocation: a machine that is short of memory is not called "unknown". */
typedef struct lines {
    int fd;
    size_t at, n;
    char buffer[1024];
} lines;

static bool next_byte(lines *l, char *c) {
    if (l->at == l->n) {
        ssize_t n = read(l->fd, l->buffer, sizeof l->buffer);
        if (n <= 0) return false;
        l->at = 0;
        l->n = (size_t)n;
    }
    *c = l->buffer[l->at++];
    return true;
}

/* The next line without its end; what does not fit is cut. False at the end of the file. */
static bool next_line(lines *l, char *line, size_t line_bytes) {
    size_t n = 0;
    char c = '\0';
    bool any = false;
    while (next_byte(l, &c) && (any = true, c != '\n'))
        if (n + 1 < line_bytes) line[n++] = c;
    line[n] = '\0';
    return any;
}

/* The value of the first line "key<separator>value", without the blanks or quotes around it; false if there is none. */
static bool value_of(const char *path, const char *key, char separator, char *out, size_t out_bytes) {
    lines file = {.fd = open(path, O_RDONLY | O_CLOEXEC)};
    if (file.fd < 0) return false;
    char line[1024];
    bool found = false;
    size_t key_length = strlen(key);
    while (!found && next_line(&file, line, sizeof line)) {
        char *value = strchr(line, separator);
        if (value == NULL || strncmp(line, key, key_length) != 0) continue;
        if (strspn(line + key_length, " \t") != (size_t)(value - line) - key_length) continue;
        value += 1 + strspn(value + 1, " \t\"'");
        size_t length = strlen(value);
        while (length > 0 && strchr(" \t\r\n\"'", value[length - 1]) != NULL) length--;
        found = length > 0;
        if (found) snprintf(out, out_bytes, "%.*s", (int)length, value);
    }
    close(file.fd);
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

/* The first word of a file; false if it cannot be read. */
static bool first_word(const char *folder, const char *name, char *out, size_t out_bytes) {
    char path[512], line[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    lines file = {.fd = open(path, O_RDONLY | O_CLOEXEC)};
    if (file.fd < 0) return false;
    const bool any = next_line(&file, line, sizeof line);
    close(file.fd);
    const char *word = line + strspn(line, " \t");
    const size_t length = any ? strcspn(word, " \t\r") : 0;
    if (length > 0) snprintf(out, out_bytes, "%.*s", (int)length, word);
    return length > 0;
}

void adm_host_cpu_settings(const char *folder, adm_host_info *host) {
    enum { MOST_CPUS = 1024 };
    char word[32], name[64];
    host->cpu_governor[0] = host->cpu_turbo[0] = host->cpu_smt[0] = '\0';
    for (int cpu = 0; cpu < MOST_CPUS; cpu++) {
        snprintf(name, sizeof name, "cpu%d/cpufreq/scaling_governor", cpu);
        if (!first_word(folder, name, word, sizeof word)) break;
        if (cpu > 0 && strcmp(host->cpu_governor, word) != 0) strcpy(word, "mixed");
        strcpy(host->cpu_governor, word);
    }
    if (first_word(folder, "intel_pstate/no_turbo", word, sizeof word))
        strcpy(host->cpu_turbo, strcmp(word, "0") == 0 ? "on" : "off");
    else if (first_word(folder, "cpufreq/boost", word, sizeof word))
        strcpy(host->cpu_turbo, strcmp(word, "0") == 0 ? "off" : "on");
    if (first_word(folder, "smt/active", word, sizeof word)) strcpy(host->cpu_smt, strcmp(word, "0") == 0 ? "off" : "on");
}

bool adm_host_warning(const adm_host_info *host, char *out, size_t out_bytes) {
    const bool governor = host->cpu_governor[0] != '\0' && strcmp(host->cpu_governor, "performance") != 0;
    const bool turbo = strcmp(host->cpu_turbo, "on") == 0, smt = strcmp(host->cpu_smt, "on") == 0;
    snprintf(out, out_bytes, "%s%s%s%s%s%s%s", governor ? "the CPU governor is " : "", governor ? host->cpu_governor : "",
             governor && (turbo || smt) ? ", " : "", turbo ? "turbo is on" : "", turbo && smt ? ", " : "",
             smt ? "two threads share a core (SMT)" : "",
             ": host times scatter more than they need to; `cpupower frequency-set -g performance` sets the governor");
    return governor || turbo || smt;
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
    adm_host_cpu_settings("/sys/devices/system/cpu", host);
    const char *machine = getenv("ADAMAS_MACHINE");
    if (machine != NULL) snprintf(host->machine, sizeof host->machine, "%s", machine);
    long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    if (pages > 0 && page_bytes > 0) host->memory_bytes = (int64_t)pages * page_bytes;
}
