/* trace_file.h: opens an attention trace (format adamas-trace/1, a .safetensors file) as an adm_trace, and checks it.
 *
 *   layers.{i}.k, layers.{i}.v   [n_kv_heads, T, d]          F16, BF16 or F32; i without leading zeros
 *   layers.{i}.q                 [n_steps, n_q_heads, d]     "
 *   layers.{i}.o                 [n_steps, n_q_heads, d]     ", optional: the model's dense attention output
 *   positions                    [n_steps]                   I64 or I32, optional: strictly increasing, below T;
 *                                                            default: the last n_steps tokens
 *   tokens                       [T]                         I64 or I32, optional
 *
 *   __metadata__, all optional:
 *     format         "adamas-trace/1"; the tag of a framework ("pt", "np", ...), as others write it, says nothing
 *     kind           "real" or "synthetic". Without it a file is "unlabelled": it may be either, and what is measured
 *                    on it must not be mixed with either.
 *     model          the model's name
 *     softmax_scale  a number from 1e-6 to 1e6; default 1/sqrt(d)
 *     others are handed through.
 *
 * Tensors of other names are ignored, so a file may carry more. Values are not looked at until asked:
 * adm_trace_check_finite(), adm_trace_verify(). */
#ifndef ADM_TRACES_FORMAT_TRACE_FILE_H
#define ADM_TRACES_FORMAT_TRACE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/contract/trace.h"

#define ADM_TRACE_FORMAT "adamas-trace/1"

/* Opens and checks everything but the values. *out is closed with adm_trace_close(), or NULL on failure; all that it
 * points to lives until then. Reads the whole file once, for its hash. Errors as adm_safetensors_open(), and
 * ADM_EINPUT with the tensor, the value and the limit for what breaks the format. */
adm_status adm_trace_open(const char *path, const adm_trace **out, adm_error *err);

/* The same without the hash: xxh128 is empty until adm_trace_wait_for_hash(). beside: a thread computes it from now on, which
 * adm_trace_close() waits for too. */
adm_status adm_trace_open_early(const char *path, bool beside, const adm_trace **out, adm_error *err);

/* Sets xxh128, if it is not set. ADM_EINPUT if the file changed until now. Not from two threads at once. */
adm_status adm_trace_wait_for_hash(const adm_trace *trace, adm_error *err);

/* Closes and nulls; NULL is fine. The trace must come from adm_trace_open() or adm_trace_open_early(). */
void adm_trace_close(const adm_trace **trace);

/* The path in a form fit for an error sentence: printable, and cut at its front if long. Lives as long as the trace. */
const char *adm_trace_label(const adm_trace *trace);

/* ADM_EINPUT if the file changed since it was opened: a reader that takes long asks now and then, since access to what
 * another process has cut off is a SIGBUS. The two checks below ask once a layer. */
adm_status adm_trace_check_unchanged(const adm_trace *trace, adm_error *err);

/* ADM_EINPUT at the first NaN or infinity in any K, V, Q or o, naming the tensor, its index and the value. */
adm_status adm_trace_check_finite(const adm_trace *trace, adm_error *err);

/* "Worst" is the output nearest to its limit, or farthest beyond. */
typedef struct adm_trace_report {
    size_t n_checked;      /* (layer, step, query head) outputs that were recomputed */
    size_t n_outside;      /* of these, beyond their limit, which follows from dtypes and values: trace_check.c */
    double worst_of_limit; /* its error over its limit */
    double worst_rel_l2;   /* its ||o - o'|| / ||o'||; both may be infinite */
    uint32_t worst_layer;
    size_t worst_step;
    uint32_t worst_head;
} adm_trace_report;

/* Recomputes o' = softmax(q K^T * softmax_scale) V in double precision over tokens 0 .. position, and compares it with
 * layers.{i}.o of the layers that have it. max_steps > 0 takes only that many steps a layer, evenly spread and with
 * the last one. ADM_EINPUT, naming the worst, if any is beyond its limit; *report is filled then too. A file
 * without any o has n_checked 0. Takes about 5 multiply-adds a layer, step, query head, token and
 * element, and T * d * 8 bytes. */
adm_status adm_trace_verify(const adm_trace *trace, size_t max_steps, adm_trace_report *report, adm_error *err);

#endif
