/* asym4.c: centre and scale of keys, and queries of 4 bits: exact, since every sum that decides something is of integers. */
#include "core/contract/asym4.h"

#include <math.h>
#include <string.h>

#include "core/contract/stage.h"

/* --- Keys ----------------------------------------------------------------------------------------------------------- */

void adm_asym4_learn(const float *y, size_t n_rows, uint32_t d, float *centre, float *scale) {
    double sum[ADM_MAX_HEAD_DIM] = {0}, squares[ADM_MAX_HEAD_DIM] = {0};
    const double n = n_rows > 0 ? (double)n_rows : 1;
    for (size_t r = 0; r < n_rows; r++)
        for (uint32_t c = 0; c < d; c++) sum[c] += y[r * d + c];
    for (uint32_t c = 0; c < d; c++) sum[c] /= n;
    for (size_t r = 0; r < n_rows; r++)
        for (uint32_t c = 0; c < d; c++) {
            const double rest = y[r * d + c] - sum[c];
            squares[c] += rest * rest;
        }
    for (uint32_t c = 0; c < d; c++) {
        centre[c] = (float)sum[c];
        scale[c] = (float)sqrt(squares[c] / n);
    }
}

/* The product of two float32 is exact in double precision. */
void adm_asym4_thresholds(const float *centre, const float *scale, uint32_t d, const float z[3], float *t) {
    for (uint32_t l = 0; l < 3; l++)
        for (uint32_t c = 0; c < d; c++) t[l * d + c] = (float)(centre[c] + (double)z[l] * (double)scale[c]);
}

/* --- Queries -------------------------------------------------------------------------------------------------------- */

static int8_t quantised(float x, float inverse_step) {
    const float q = rintf(x * inverse_step);
    return (int8_t)(q < ADM_ASYM4_LEAST ? ADM_ASYM4_LEAST : q > ADM_ASYM4_LARGEST ? ADM_ASYM4_LARGEST : (int)q);
}

/* q [d], and its error, of x with |x| <= ADM_ASYM4_GRID. */
static uint32_t try_step(const float *x, uint32_t d, uint32_t step, int8_t *q) {
    const float inverse = (float)(1.0 / step);
    uint32_t error = 0;
    for (uint32_t c = 0; c < d; c++) {
        q[c] = quantised(x[c], inverse);
        const int rest = (int)rintf(x[c]) - (int)step * q[c];
        error += (uint32_t)(rest * rest);
    }
    return error;
}

void adm_asym4_quantise(const float *y, const float *scale, uint32_t d, int8_t *q) {
    static const uint32_t steps[ADM_ASYM4_N_STEPS] = ADM_ASYM4_STEPS;
    float x[ADM_MAX_HEAD_DIM], largest = 0;
    int8_t tried[ADM_MAX_HEAD_DIM];
    uint32_t min_error = UINT32_MAX;
    memset(q, 0, d);
    for (uint32_t c = 0; c < d; c++) {
        x[c] = y[c] * scale[c];
        largest = fabsf(x[c]) > largest ? fabsf(x[c]) : largest;
    }
    if (!(largest >= ADM_ASYM4_SMALLEST_W && largest <= ADM_ASYM4_LARGEST_W)) return;
    const float unit = (float)ADM_ASYM4_GRID / largest;
    for (uint32_t c = 0; c < d; c++) x[c] *= unit;
    for (uint32_t s = 0; s < ADM_ASYM4_N_STEPS; s++) {
        const uint32_t error = try_step(x, d, steps[s], tried);
        if (error >= min_error) continue;
        min_error = error;
        memcpy(q, tried, d);
    }
}

void adm_asym4_planes(const int8_t *q, uint32_t d, uint8_t *planes) {
    memset(planes, 0, adm_asym4_query_bytes(d));
    for (uint32_t p = 0; p < ADM_ASYM4_PLANES; p++)
        for (uint32_t c = 0; c < d; c++) {
            uint8_t *byte = &planes[p * (d / 8) + c / 8];
            *byte = (uint8_t)(*byte | ((uint8_t)q[c] >> p & 1) << c % 8);
        }
}

void adm_asym4_query(const float *y, const float *scale, uint32_t d, uint8_t *planes) {
    int8_t q[ADM_MAX_HEAD_DIM];
    adm_asym4_quantise(y, scale, d, q);
    adm_asym4_planes(q, d, planes);
}

/* --- Scores --------------------------------------------------------------------------------------------------------- */

uint32_t adm_asym4_largest(const uint8_t *planes, uint32_t d) {
    uint32_t sum = 0;
    for (uint32_t i = 0; i < d; i++) {
        const int q = adm_asym4_element(planes, d, i);
        sum += q > 0 ? 3 * (uint32_t)q : 0;
    }
    return sum;
}

int32_t adm_asym4_score(const uint8_t *planes, const uint8_t *key, uint32_t d) {
    int32_t sum = 0;
    for (uint32_t i = 0; i < d; i++) sum += adm_asym4_element(planes, d, i) * (key[i / 4] >> 2 * (i % 4) & 3);
    return sum;
}
