/* host_fill.h: what the calls of a host case hold, and their right answers. */
#ifndef ADM_KERNELS_TUNE_HOST_HOST_FILL_H
#define ADM_KERNELS_TUNE_HOST_HOST_FILL_H

#include "kernels/tune/host/host_case.h"

/* Bytes of a call's answer:
 *
 *   topk        uint32 number, adm_select_info, then the index
 *   all others  the output itself */
size_t adm_host_answer_bytes(const adm_host_call *call);

#endif
