/* fake_gpu.h: what the files of the fake GPU share. */
#ifndef ADM_TESTS_SUPPORT_FAKE_GPU_H
#define ADM_TESTS_SUPPORT_FAKE_GPU_H

#include "kernels/gpu/gpu.h"

/* Runs run(arguments) at once, or, where a graph is being captured, makes it a node: the arguments are copied. */
typedef adm_status adm_fake_gpu_call(const void *arguments, adm_error *err);
adm_status adm_fake_gpu_do(adm_fake_gpu_call *run, const void *arguments, size_t bytes, adm_error *err);

/* Adds a made-up duration to the graph that is being captured, if one is. */
void adm_fake_gpu_spend(double ns);

/* Whether ADAMAS_FAKE_GPU asks for this fault in this stage. */
bool adm_fake_gpu_faulty(const char *fault, adm_stage stage);

/* The context of the first device: launches have no other way to it. */
bool adm_fake_gpu_is_alive(void);
void adm_fake_gpu_lose(void);

#define BIT(stage) (1u << ADM_STAGE_##stage) /* of a set of stages */

/* Encodes every key that the case begins with. */
void adm_fake_gpu_encode_prompt(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers);

/* Byte offset of token t's row of K or V. */
size_t adm_fake_gpu_kv_at(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, uint32_t b, uint32_t h, uint32_t t);

/* What the device has, and no allocation may exceed. */
uint64_t adm_fake_gpu_bytes(void);

/* Zeros; the process ends without. */
void *adm_fake_gpu_memory(size_t n_bytes);
void adm_fake_gpu_release(void *memory);

#endif
