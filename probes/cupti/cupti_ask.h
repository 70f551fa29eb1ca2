/* cupti_ask.h: asks a CUPTI library what it is, in a process of its own with a time limit, because some releases do not
 * answer: without a driver 13.2 never returns from cuptiGetVersion(), and 13.3 to 13.5 answer every call with error 999.
 *
 *     this process                      the child: this program again, started as "adamas-cupti-ask"
 *     spawn ------------------------->  dlopen, libnvperf_* of its folder, symbols       -> answer, ASKED_LOADED
 *     wait for the pipe, 20 s at most   cuptiGetVersion                                  -> answer, ASKED_VERSION
 *     kill, reap                        cuptiProfilerHostGetSupportedChips               -> answer, ASKED_CHIPS
 *
 * The child answers before main() runs, so every program that is linked with this file can ask. */
#ifndef ADM_PROBES_CUPTI_CUPTI_ASK_H
#define ADM_PROBES_CUPTI_CUPTI_ASK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How far the child came. */
typedef enum adm_cupti_stage {
    ADM_CUPTI_ASKED_NOTHING, /* it did not start or could not load the library: `error` says which */
    ADM_CUPTI_ASKED_LOADED,  /* path, series and has_driver are known */
    ADM_CUPTI_ASKED_VERSION, /* version and version_result are known */
    ADM_CUPTI_ASKED_CHIPS,   /* and the rest */
} adm_cupti_stage;

typedef struct adm_cupti_answer {
    adm_cupti_stage stage;
    bool has_driver;       /* the NVIDIA driver's libcuda.so.1 loads */
    bool is_silent;        /* a release known to hang without a driver, hence not asked */
    char path[1024];       /* the file, as the loader found it */
    char error[512];       /* ASKED_NOTHING: why */
    char series[16];       /* the release by its symbols: "13.0", "13.2", "13.3", "13.4"; each may be a later one as well */
    unsigned version;      /* of cuptiGetVersion(), 130001 for 13.0 Update 1; 0: it gave none */
    int version_result;    /* its CUptiResult */
    int chips_result;      /* CUptiResult of the host interface's simplest call */
    uint64_t n_chips;
    char host_path[1024];  /* the libnvperf_host.so that this CUPTI uses; "": it loaded none */
    unsigned host_year, host_release; /* its version, 2025 and 4 for that of 13.0; 0: it does not tell */
    bool timed_out;        /* it had to be stopped after `seconds` */
    int signal;            /* that ended the child; 0: none */
    double seconds;        /* the limit */
} adm_cupti_answer;

/* Asks a file, or a name for the loader to find. The limit is 20 s, or ADAMAS_CUPTI_SECONDS. */
void adm_cupti_ask(const char *library, adm_cupti_answer *answer);

/* Loads a library and the libnvperf_* of its own folder; returns what dlopen() does, and the file in path. */
void *adm_cupti_open(const char *library, char *path, size_t path_bytes);

#endif
