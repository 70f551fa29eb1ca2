/* module.h: a compiled kernel, .cubin or .ptx, with a manifest that says how it is launched: how a Triton or CuTe kernel comes.
 *
 *   {"stage": "topk", "module": "topk_{BLOCK}.cubin", "kernel": "topk_kernel",
 *    "grid": ["select_rows", 1, 1], "block": [128, 1, 1], "shared_bytes": 2048,
 *    "arguments": ["distance", "index", "n_selected", "i32: capacity", "i32: budget", "pointer: 0"],
 *    "head_dim": [128], "dtype": ["f16"], "parameters": {"BLOCK": [1024, 2048]}}
 *
 * grid, block, shared_bytes, workspace_bytes (left out: none) and the numbers among the arguments are formulas (expression.h)
 * of
 *
 *   n_q_heads n_kv_heads head_dim batch capacity page_size max_pages budget sinks recent group select_rows (batch * S)
 *
 * and the parameters. An argument is the name of a buffer of adamas_gpu_buffers; or "TYPE: FORMULA" with TYPE i32, i64 or
 * pointer; or "f32: scale", "f32: threshold0" to "f32: threshold2". "{BLOCK}" in the names of module and kernel stands for the
 * parameter's value. "requires": formulas that must not be 0, or the shape is not taken. The module lies beside its
 * manifest. */
#ifndef ADM_KERNELS_TUNE_CANDIDATE_MODULE_H
#define ADM_KERNELS_TUNE_CANDIDATE_MODULE_H

#include "kernels/tune/candidate/candidate.h"
#include "kernels/tune/candidate/launch.h"

/* Reads the manifest of a candidate: limits and parameters; its module must be there. ADM_EINPUT: what is wrong with it. */
adm_status adm_module_read(adm_candidate *c, adm_error *err);

/* The manifest as it is launched, in the candidate's process. */
typedef struct adm_module adm_module;

/* Opens the manifest for the chosen parameters; `path` and `kernel` are then what adm_tune_module_load() (launch.h) takes. */
adm_status adm_module_open(const adm_candidate *c, adm_module **out, const char **path, const char **kernel, adm_error *err);
void adm_module_close(adm_module **module);

/* The launch for a shape: arguments point into *launch. ADM_EUNSUPPORTED: a shape that a `requires` rules out. */
adm_status adm_module_launch(const adm_module *module, const adm_gpu_shape *shape, const adm_gpu_buffers *buffers,
                             adm_tune_launch *launch, adm_error *err);

/* Bytes of workspace for a shape. */
adm_status adm_module_workspace(const adm_module *module, const adm_gpu_shape *shape, size_t *bytes, adm_error *err);

#endif
