/* gpus.h: several GPUs of this host, a process each, as `adamas profile --gpus` runs them.
 *
 *   alone      first, one GPU after the other      only with --alone
 *   together   all at once
 *
 * Each process sees its GPU alone (CUDA_VISIBLE_DEVICES) and keeps to the processors of its NUMA node. Its run is one of the
 * database, with the call's UUID and how many ran side by side. Nothing is averaged over GPUs. */
#ifndef ADM_KERNELS_PROFILE_GPUS_GPUS_H
#define ADM_KERNELS_PROFILE_GPUS_GPUS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/cli/command.h"
#include "kernels/gpu/device.h"

enum { ADM_MAX_GPUS = 16 };

typedef struct adm_gpus {
    const adm_common *common;
    char **argv;          /* [argc] of the command, as it was typed: each process gets it with more behind it */
    int argc;
    bool alone;           /* also each by itself */
    bool split;           /* each does a part of the grid, and the parts are joined */
    adm_device_info device[ADM_MAX_GPUS];
    int number[ADM_MAX_GPUS]; /* CUDA's, of the GPUs that take part */
    int n;
    char together[37];    /* UUID of this call */
} adm_gpus;

/* "all", or numbers: which of the devices that CUDA shows take part. */
adm_status adm_gpus_choose(adm_gpus *gpus, const char *text, adm_error *err);

/* Runs them, puts their runs into the database, and shows figures of each GPU: read limit and clocks, how far its times are from
 * the first GPU's, and what running together cost. */
adm_status adm_gpus_run(adm_gpus *gpus, adm_error *err);

/* --- gpus_show.c ------------------------------------------------------------------------------------------------- */

typedef struct adm_store adm_store;

adm_status adm_gpus_show(const adm_gpus *gpus, adm_store *store, adm_error *err);

#endif
