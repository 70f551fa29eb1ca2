/* ptxas.h: what the CUDA assembler says of kernels (`nvcc -Xptxas -v`). */
#ifndef ADM_KERNELS_TUNE_CANDIDATE_PTXAS_H
#define ADM_KERNELS_TUNE_CANDIDATE_PTXAS_H

#include "kernels/tune/candidate/candidate.h"

/* Registers, static shared memory and local memory (spill_bytes): of each the largest over the kernels in the text.
 * What the text does not say is left alone. */
void adm_ptxas_read(const char *text, adm_tune_resources *resources);

#endif
