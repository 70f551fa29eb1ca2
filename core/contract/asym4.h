/* asym4.h: the definition of the metric `asym4`: a 4-bit query against 2-bit keys that are centred and scaled by channel.
 *
 *   prompt  y [n][d]  -- learn -->     centre, scale [d]   mean and standard deviation of each channel
 *   key     y [d]     -- code -->      z = (y - centre) / scale;  code = (z > z0) + (z > z1) + (z > z2), by default -1, 0, 1
 *   query   y [d]     -- quantise -->  w = y scale;  q = clamp(round(w / delta), -8, 7);  planes [4][d/8]
 *
 *   score = sum of q_c code_c, larger is nearer;  distance = the query's largest possible score - score, 0 .. 24 d
 *
 * The centre is the same for all keys of a query's ranking, and the scale is in the query, so a key still takes d/4 bytes. All
 * of it is exact: the same floats give the same integers on every machine, whatever the order of summation, so a GPU's scores
 * equal the host's. Vectors y are transformed (Hadamard) or not, as the caller likes. */
#ifndef ADM_CORE_CONTRACT_ASYM4_H
#define ADM_CORE_CONTRACT_ASYM4_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/api.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { ADM_ASYM4_PLANES = 4, ADM_ASYM4_LEAST = -8, ADM_ASYM4_LARGEST = 7 };

/* The query's largest |w| is ADM_ASYM4_GRID units; delta is one of these many units, tried in this order: from max/7, which
 * clips nothing, down to a clip at 0.66 of the largest. Clipping more never has the smaller error, even with heavy tails, since
 * the error of the clipped element grows with its square. These six leave 0.0082 of a query's energy as error, a search in
 * steps of 4 units 0.0080 (bundled trace). */
enum { ADM_ASYM4_GRID = 2048, ADM_ASYM4_N_STEPS = 6 };
#define ADM_ASYM4_STEPS {292, 272, 252, 232, 212, 192}

/* Queries whose largest |w| is outside these get zeros: then every key is equally near. */
#define ADM_ASYM4_SMALLEST_W 0x1p-100f
#define ADM_ASYM4_LARGEST_W 0x1p100f

/* Bytes of a quantised query: plane p's bit of element i is bit i % 8 of byte p d/8 + i/8; q = p0 + 2 p1 + 4 p2 - 8 p3. */
static inline size_t adm_asym4_query_bytes(uint32_t head_dim) { return ADM_ASYM4_PLANES * (size_t)head_dim / 8; }

/* centre, scale [d]: mean and standard deviation (over n_rows, not n_rows - 1) of each channel of y [n_rows][d], summed in
 * double precision in the order of the rows. n_rows 0 gives zeros. Finite y. */
ADM_API void adm_asym4_learn(const float *y, size_t n_rows, uint32_t head_dim, float *centre, float *scale);

/* Where y crosses z: centre + z scale, rounded to float32 once. Keys are coded by comparing y with this, y > t, as
 * adm_encode_fn does: t [3][d]. A channel that never changes has scale 0 and adds nothing to a score. */
ADM_API void adm_asym4_thresholds(const float *centre, const float *scale, uint32_t head_dim, const float z[3], float *t);

/* q [d], -8 .. 7, of the query y [d]. In float32, each operation rounded to nearest even by itself:
 *
 *   w_c = y_c * scale_c;  m = largest |w_c|;  x_c = w_c * (2048 / m)
 *   for each step D: q_c = clamp(rint(x_c * float32(1 / D)), -8, 7);  error = sum of (rint(x_c) - D q_c)^2, an integer < 2^31
 *
 * The step with the smallest error is taken, the first of equals. */
ADM_API void adm_asym4_quantise(const float *y, const float *scale, uint32_t head_dim, int8_t *q);

/* planes [4][d/8], as adm_distance_fn takes it for asym4. */
ADM_API void adm_asym4_planes(const int8_t *q, uint32_t head_dim, uint8_t *planes);

/* Both in one: what a query's keys are compared with. */
ADM_API void adm_asym4_query(const float *y, const float *scale, uint32_t head_dim, uint8_t *planes);

/* The element's q from planes. */
static inline int adm_asym4_element(const uint8_t *planes, uint32_t head_dim, uint32_t i) {
    const size_t stride = head_dim / 8, byte = i / 8;
    const uint32_t bit = i % 8;
    const int p0 = planes[byte] >> bit & 1, p1 = planes[stride + byte] >> bit & 1;
    const int p2 = planes[2 * stride + byte] >> bit & 1, p3 = planes[3 * stride + byte] >> bit & 1;
    return p0 + 2 * p1 + 4 * p2 - 8 * p3;
}

/* The largest score that any key can have: 3 times the sum of the positive q. */
ADM_API uint32_t adm_asym4_largest(const uint8_t *planes, uint32_t head_dim);

/* The score of a packed key [d/4], element by element. */
ADM_API int32_t adm_asym4_score(const uint8_t *planes, const uint8_t *key, uint32_t head_dim);

/* No distance of a query is larger: 3 times 8 for every element. */
static inline uint32_t adm_asym4_max_distance(uint32_t head_dim) { return 3 * 8 * head_dim; }

#ifdef __cplusplus
}
#endif

#endif
