/* module.h: a compiled kernel, .cubin or .ptx, with a manifest that says how it is launched: how a Triton or CuTe kernel comes.
 *
 *   {"module": "topk.cubin", "kernel": "topk_kernel", "stage": "topk",
 *    "grid": ["select_rows", 1, 1], "block": [128, 1, 1], "shared_bytes": "2048",
 *    "arguments": ["distance", "index", "n_selected", "i32:capacity", "i32:budget", "pointer:0"],
 *    "head_dim": [128], "parameters": {"BLOCK": [1024, 2048]}}
 *
 * grid, block, shared_bytes and the numbers among the arguments are formulas (expression.h) of
 *
 *   n_q_heads n_kv_heads head_dim batch capacity page_size max_pages budget sinks recent select_rows (batch * S) and the
 *   parameters
 *
 * An argument is the name of a buffer of adamas_gpu_buffers, or TYPE:FORMULA with TYPE i32, i64, f32 or pointer. "scale" and
 * "threshold0" to "threshold2" are names too, of f32. "{BLOCK}" in the name of the module or kernel is replaced by the parameter's
 * value. "workspace_bytes" is a formula; the workspace is zeroed once. */
#ifndef ADM_KERNELS_TUNE_MODULE_H
#define ADM_KERNELS_TUNE_MODULE_H

#include "kernels/tune/candidate.h"

/* Reads the manifest of a candidate: limits and parameters. ADM_EINPUT: what is wrong with it, and where. */
adm_status adm_module_read(adm_candidate *c, adm_error *err);

#endif
