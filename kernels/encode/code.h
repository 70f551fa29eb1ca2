/* code.h: codes of 1, 2 or 3 bits under thresholds of each channel, and distances by table: what the variants of the policy
 * adamas need beyond the stages bucket, pack and distance.
 *
 *   1 bit    byte 0: elements 7 6 5 4 3 2 1 0
 *   2 bits   byte 0: elements 3 2 1 0                            the rows of kernels/encode/pack.h
 *   3 bits   bytes 2, 1, 0 as one number: elements 7 6 5 4 3 2 1 0, three bits each */
#ifndef ADM_KERNELS_ENCODE_CODE_H
#define ADM_KERNELS_ENCODE_CODE_H

#include "core/contract/stage.h"

/* As core/contract/stage.h says, element by element. */
ADM_API adm_encode_fn adm_encode_reference;

/* The same bits, eight elements at a time in a row of thresholds. */
ADM_API adm_encode_fn adm_encode_rows;

/* The codes of packed rows, a byte each: the inverse, but for the thresholds. */
ADM_API void adm_decode_reference(const uint8_t *packed, size_t n_rows, uint32_t head_dim, uint32_t bits, uint8_t *codes);

/* As core/contract/stage.h says, element by element; scratch is not used. */
ADM_API adm_scan_fn adm_scan_reference;

/* The same sums from a table per byte of the row (with 3 bits, a table every two elements), which is made first: worth it
 * from some hundred tokens on. */
ADM_API adm_scan_fn adm_scan_bytes;

/* Compulsory traffic of scanning for every query head (or, with n_scans 1 per KV head, for every group): codes of every KV head
 * and a table a scan read once, a distance written a scan and token. */
double adm_scan_bytes_moved(const adm_shape *shape, uint32_t bits, double n_scans, double n_tokens);

/* A look-up and an addition an element, scan and token. */
double adm_scan_flops(const adm_shape *shape, double n_scans, double n_tokens);

#endif
