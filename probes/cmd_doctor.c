/* cmd_doctor.c: `adamas doctor`: what this machine has, what it lacks, what then does not work, and the cure. */
#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/system/clock.h"
#include "core/base/print.h"
#include "core/cli/command.h"
#include "core/system/hostinfo.h"
#include "core/system/interrupt.h"
#include "core/system/remove_tree.h"
#include "core/stats/stats.h"
#include "core/store/store.h"
#include "core/base/version.h"
#include "kernels/gpu/device.h"
#include "probes/cupti/cupti_host.h"
#include "probes/cupti/cupti_load.h"
#include "probes/nvml_probe.h"
#include "probes/nvtx_probe.h"
#include "probes/perf_probe.h"

typedef enum verdict { HAVE, LACK } verdict;

typedef struct finding {
    const char *what;
    verdict verdict;
    char text[1024];  /* what was found, or why it is missing */
    char needs[256];  /* LACK: what does not work without it, and the cure */
} finding;

/* --- The checks: each fills in one finding ------------------------------------------------------------------------ */

static void check_program(finding *f) {
    f->what = "program";
    snprintf(f->text, sizeof f->text, "adamas %s, commit %.12s%s, %s", adm_version(), adm_git_commit(),
             adm_git_dirty() == 1 ? " (modified)" : "", adm_compiler());
}

static void check_host(finding *f) {
    adm_host_info host;
    adm_host_info_read(&host);
    f->what = "host";
    snprintf(f->text, sizeof f->text, "%s, %" PRId64 " CPUs, %.1f GiB, %s", host.cpu_model, host.n_cpus,
             (double)host.memory_bytes / 0x1p30, host.os);
}

static void check_database(finding *f) {
    adm_store *store = NULL;
    adm_error err;
    char folder[] = "adamas-doctor-XXXXXX", path[sizeof folder + 8];
    f->what = "database";
    if (mkdtemp(folder) == NULL) {
        f->verdict = LACK;
        snprintf(f->text, sizeof f->text, "this folder cannot be written: %s", strerror(errno));
        snprintf(f->needs, sizeof f->needs, "runs are stored in ./adamas.db unless told otherwise: change folder, or use --db");
        return;
    }
    const int slot = adm_interrupt_remove(folder); /* with the journals */
    snprintf(path, sizeof path, "%s/x.db", folder);
    if (adm_store_open(path, ADM_STORE_WRITE, &store, &err) == ADM_OK) {
        snprintf(f->text, sizeof f->text, "can be written here, schema version %d", adm_schema_version());
    } else {
        f->verdict = LACK;
        snprintf(f->text, sizeof f->text, "%.1000s", err.text);
        snprintf(f->needs, sizeof f->needs, "runs are stored in ./adamas.db unless told otherwise: change folder, or use --db");
    }
    adm_store_close(&store);
    adm_remove_tree(folder);
    adm_interrupt_keep(slot);
}

static void check_perf_events(finding *f) {
    adm_perf_probe perf;
    adm_perf_probe_open(&perf, NULL, 0, NULL);
    f->what = "host counters";
    snprintf(f->text, sizeof f->text, "Linux perf events count for this user");
    for (size_t i = perf.n_counters; i-- > 0;) {
        if (perf.counter[i].reason == NULL) continue;
        f->verdict = LACK;
        snprintf(f->text, sizeof f->text, "%s", perf.counter[i].reason);
        snprintf(f->needs, sizeof f->needs, "cycles, instructions and cache misses of host stages (replay --counters host)");
    }
    adm_perf_probe_close(&perf);
}

static void check_gpu(finding *f) {
    adm_device_info device[8];
    adm_error err;
    int n = 0;
    f->what = "GPU";
    if (adm_device_list(device, 8, &n, &err) != ADM_OK) {
        f->verdict = LACK;
        snprintf(f->text, sizeof f->text, "%.1000s", err.text);
        snprintf(f->needs, sizeof f->needs, "GPU profiles; replay, report and the rest work without");
        return;
    }
    size_t length = 0;
    for (int i = 0; i < n && i < 8 && length < sizeof f->text; i++)
        length += (size_t)snprintf(f->text + length, sizeof f->text - length, "%s%s (%d.%d, %d SMs, L2 %.0f MiB, %.1f GiB, %s)",
                                   i > 0 ? "; " : "", device[i].name, device[i].compute_major, device[i].compute_minor,
                                   device[i].n_sms, (double)device[i].l2_bytes / 0x1p20,
                                   (double)device[i].memory_bytes / 0x1p30, device[i].uuid);
}

/* A library that is looked for at run time, so that the program starts without it. */
static void check_library(finding *f, const char *what, const char *const *names, const char *needs) {
    f->what = what;
    for (const char *const *name = names; *name != NULL; name++) {
        void *library = dlopen(*name, RTLD_LAZY | RTLD_LOCAL);
        if (library == NULL) continue;
        dlclose(library);
        snprintf(f->text, sizeof f->text, "%s loads", *name);
        return;
    }
    f->verdict = LACK;
    snprintf(f->text, sizeof f->text, "%s is not found", names[0]);
    snprintf(f->needs, sizeof f->needs, "%s", needs);
}

static void check_cupti(finding *f) {
    const char *missing = adm_cupti_missing();
    const char *const *chips;
    adm_error err;
    size_t n_chips;
    f->what = "CUPTI";
    if (missing == NULL && adm_cupti_chips(&chips, &n_chips, &err) == ADM_OK) {
        const char *note = adm_cupti_note();
        snprintf(f->text, sizeof f->text, "%.300s, version %u, knows %zu chips (adamas counters plan)%s%.600s",
                 adm_cupti_path(), adm_cupti_version(), n_chips, note != NULL ? "; " : "", note != NULL ? note : "");
        return;
    }
    f->verdict = LACK;
    snprintf(f->text, sizeof f->text, "%.1000s", missing != NULL ? missing : err.text);
    snprintf(f->needs, sizeof f->needs, "GPU counters and timelines (profile --counters, --timeline)");
}

/* CAP_SYS_ADMIN, bit 21 of the effective set. */
static bool may_administer(void) {
    char line[256];
    unsigned long long effective = 0;
    FILE *status = fopen("/proc/self/status", "r");
    while (status != NULL && fgets(line, sizeof line, status) != NULL)
        if (sscanf(line, "CapEff: %llx", &effective) == 1) break;
    if (status != NULL) fclose(status);
    return effective >> 21 & 1;
}

/* What the NVIDIA driver was told: 1 counters are for administrators, 0 for everybody, -1 it does not say. */
static int restricted_to_admins(void) {
    char line[256];
    int restricted = -1;
    FILE *parameters = fopen("/proc/driver/nvidia/params", "r");
    while (parameters != NULL && fgets(line, sizeof line, parameters) != NULL)
        if (sscanf(line, "RmProfilingAdminOnly: %d", &restricted) == 1) break;
    if (parameters != NULL) fclose(parameters);
    return restricted;
}

static void check_counters(finding *f) {
    adm_device_info device;
    adm_error err;
    int n = 0;
    f->what = "GPU counters";
    if (adm_device_list(&device, 1, &n, &err) != ADM_OK) {
        f->verdict = LACK;
        snprintf(f->text, sizeof f->text, "there is no GPU to count on; plans of passes need none (adamas counters plan)");
        snprintf(f->needs, sizeof f->needs, "profile --counters");
        return;
    }
    adm_nvml_probe *nvml = NULL;
    int mig = adm_nvml_probe_open(device.uuid, &nvml, &err) == ADM_OK ? adm_nvml_probe_mig(nvml) : -1;
    adm_nvml_probe_close(&nvml);
    int restricted = restricted_to_admins();
    if (mig == 1) {
        f->verdict = LACK;
        snprintf(f->text, sizeof f->text, "%s is split by MIG, and its counters cannot be read per instance", device.name);
        snprintf(f->needs, sizeof f->needs,
                 "profile --counters; cure: a GPU with MIG off (an administrator: nvidia-smi -mig 0)");
    } else if (restricted == 1 && !may_administer()) {
        f->verdict = LACK;
        snprintf(f->text, sizeof f->text, "the driver keeps GPU counters for administrators, and this user is none");
        snprintf(f->needs, sizeof f->needs,
                 "profile --counters; cure: root, CAP_SYS_ADMIN, or the driver option "
                 "NVreg_RestrictProfilingToAdminUsers=0 in /etc/modprobe.d and a reload");
    } else {
        snprintf(f->text, sizeof f->text, "the driver gives them to %s%s", restricted == 0 ? "everybody" : "administrators",
                 restricted == 0    ? ""
                 : may_administer() ? ", and this user is one"
                                    : " or more: it does not say");
    }
}

static void check_nvml(finding *f) {
    adm_device_info device = {.uuid = ""};
    adm_nvml_probe *nvml = NULL;
    adm_error err = {.text = "out of memory"};
    int n = 0;
    f->what = "device state";
    adm_device_list(&device, 1, &n, &err);
    const char *missing = adm_nvml_probe_open(device.uuid, &nvml, &err) == ADM_OK ? adm_nvml_probe_missing(nvml) : err.text;
    if (missing != NULL) {
        f->verdict = LACK;
        snprintf(f->text, sizeof f->text, "%s", missing);
        snprintf(f->needs, sizeof f->needs, "GPU clocks, throttling, power and temperature beside every time");
    } else {
        char throttle[128];
        adm_device_state state = adm_nvml_probe_read(nvml);
        adm_throttle_words(state.throttle, throttle, sizeof throttle);
        snprintf(f->text, sizeof f->text, "NVML: SM %.0f MHz, memory %.0f MHz, %.0f W, %.0f C, clocks held back by: %s",
                 state.sm_clock_hz / 1e6, state.memory_clock_hz / 1e6, state.power_w, state.temperature_c, throttle);
    }
    adm_nvml_probe_close(&nvml);
}

/* What a range costs, in ns: the median of some short series, so that an interruption does not count. */
static double range_cost_ns(void) {
    enum { N_SERIES = 201, N_RANGES = 100 };
    static double series_ns[N_SERIES];
    adm_nvtx_probe nvtx;
    adm_probes probes = {0};
    const adm_range range = {
        .kind = ADM_RANGE_STAGE, .stage = ADM_STAGE_DISTANCE, .variant = "doctor", .step = -1, .layer = -1};
    adm_nvtx_probe_init(&nvtx);
    if (adm_probes_attach(&probes, &nvtx.probe, NULL) != ADM_OK || adm_probes_start(&probes, NULL) != ADM_OK) return NAN;
    for (int i = 0; i < N_SERIES; i++) {
        uint64_t start_ns = adm_clock_ns();
        for (int j = 0; j < N_RANGES; j++) {
            adm_probes_begin(&probes, &range);
            adm_probes_end(&probes, &range);
        }
        series_ns[i] = (double)(adm_clock_ns() - start_ns) / N_RANGES;
    }
    adm_probes_stop(&probes, NULL);
    return adm_distribution_of(series_ns, N_SERIES).median;
}

static void check_nvtx(finding *f) {
    const char *injection = getenv("NVTX_INJECTION64_PATH"), *missing = adm_nvtx_missing();
    f->what = "NVTX";
    if (missing != NULL) {
        f->verdict = LACK;
        snprintf(f->text, sizeof f->text, "%s", missing);
        snprintf(f->needs, sizeof f->needs, "named ranges in Nsight Systems and Nsight Compute");
        return;
    }
    if (injection != NULL) {
        const char *const names[] = {injection, NULL};
        check_library(f, "NVTX", names, "the tool named in NVTX_INJECTION64_PATH sees no ranges: mend the path or unset it");
        if (f->verdict == LACK) return;
    }
    snprintf(f->text, sizeof f->text, "%s%s; a range costs %.1f ns", injection != NULL ? "attached to " : "",
             injection != NULL ? injection : "no tool attached", range_cost_ns());
}

/* --- Output ------------------------------------------------------------------------------------------------------- */

static void print_text(const finding *findings, size_t n) {
    size_t n_lacking = 0;
    for (size_t i = 0; i < n; i++) {
        const finding *f = &findings[i];
        adm_print("%-5s %-14s %s\n", f->verdict == HAVE ? "ok" : "lacks", f->what, f->text);
        if (f->verdict == LACK) adm_print("%-5s %-14s needed for: %s\n", "", "", f->needs);
        n_lacking += f->verdict == LACK;
    }
    adm_print("\n%zu of %zu checks found what they looked for.%s\n", n - n_lacking, n,
              n_lacking > 0 ? " What is lacking is optional unless you need what it is for." : "");
}

static adm_status print_json(const finding *findings, size_t n, adm_error *err) {
    json_t *document = json_array();
    for (size_t i = 0; i < n; i++) {
        const finding *f = &findings[i];
        json_t *entry = json_pack("{s:s, s:b, s:s}", "what", f->what, "ok", f->verdict == HAVE, "text", f->text);
        if (entry != NULL && f->verdict == LACK) json_object_set_new(entry, "needed_for", json_string(f->needs));
        json_array_append_new(document, entry);
    }
    return adm_print_json(document, err);
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    (void)arg;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = state->input; return 0;
    case ARGP_KEY_ARG: argp_error(state, "doctor takes no argument, and '%s' was given", arg); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static int run(int argc, char **argv) {
    static const struct argp_child children[] = {{&adm_argp_output, 0, NULL, 0}, {0}};
    static const struct argp argp = {.parser = parse,
                                     .children = children,
                                     .doc = "Says what this machine has and lacks, what then does not work, and the cure. "
                                            "Lacking something is no failure: the exit code is 0."};
    static void (*const checks[])(finding *) = {check_program, check_host,  check_database, check_perf_events, check_gpu,
                                                check_nvml,    check_cupti, check_counters, check_nvtx};
    enum { N_CHECKS = sizeof checks / sizeof checks[0] };
    static finding findings[N_CHECKS];
    adm_common common = ADM_COMMON_DEFAULTS;
    adm_argp_parse(&argp, argc, argv, &common);
    for (size_t i = 0; i < N_CHECKS; i++) checks[i](&findings[i]);
    adm_error err;
    adm_status status = ADM_OK;
    if (common.json) status = print_json(findings, N_CHECKS, &err);
    else if (!common.quiet) print_text(findings, N_CHECKS);
    if (status == ADM_OK) status = adm_finish_output(&err);
    return status == ADM_OK ? 0 : adm_report_error(&err);
}

const adm_command adm_cmd_doctor = {"doctor", "what this machine has and lacks, and the cure", run};
