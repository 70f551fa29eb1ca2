/* hostinfo.h: the machine a run happens on, as a run's row records it. */
#ifndef ADM_CORE_SYSTEM_HOSTINFO_H
#define ADM_CORE_SYSTEM_HOSTINFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the system does not say is "unknown", or 0. */
typedef struct adm_host_info {
    char host_name[256];
    char os[384];         /* "Debian GNU/Linux 12 (bookworm), Linux 6.1.0-18-amd64 x86_64" */
    char cpu_model[128];
    int64_t n_cpus;       /* that this process may run on */
    int64_t memory_bytes; /* of the machine; a container may be allowed less */
    char machine[128];    /* the environment's ADAMAS_MACHINE: a label that like machines of a pool share; "" */
    char cpu_governor[32], cpu_turbo[4], cpu_smt[4]; /* "performance" or "mixed"; "on" or "off"; "" where it is not readable */
} adm_host_info;

void adm_host_info_read(adm_host_info *host);

/* Frequency governor, boost and hyper-threading from a folder laid out like /sys/devices/system/cpu. */
void adm_host_cpu_settings(const char *folder, adm_host_info *host);

/* What of these settings makes times scatter, as a sentence for people; false if nothing does. */
bool adm_host_warning(const adm_host_info *host, char *out, size_t out_bytes);

/* The processor's name from a file laid out like /proc/cpuinfo: "model name" on x86, else "Model", "Hardware" or, on
 * most AArch64 machines, the implementer's and part's numbers; "unknown" if there is none of these. */
void adm_host_cpu_model(const char *cpuinfo_path, char *out, size_t out_bytes);

#endif
