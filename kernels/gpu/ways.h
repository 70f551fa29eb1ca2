/* ways.h: other ways to cut the work of a row of the GPU registry: launch parameters that a search may choose (`adamas tune
 * --search-rows`). A row by itself chooses by the shape. */
#ifndef ADM_KERNELS_GPU_WAYS_H
#define ADM_KERNELS_GPU_WAYS_H

#include "kernels/gpu/gpu.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { ADM_GPU_WAY_PARAMETERS = 4, ADM_GPU_WAY_VALUES = 6 };

typedef struct adm_gpu_way_parameter {
    const char *name; /* NULL: there are no more */
    int64_t value[ADM_GPU_WAY_VALUES];
    size_t n_values;
} adm_gpu_way_parameter;

/* As adm_gpu_launch_fn, with a value for each parameter. ADM_EUNSUPPORTED with a sentence also for values that do not go
 * together. */
typedef adm_status adm_gpu_way_fn(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, const int64_t *value,
                                  adm_gpu_stream stream, adm_error *err);

typedef struct adm_gpu_ways {
    adm_stage stage;
    const char *row; /* its name in the registry */
    adm_gpu_way_parameter parameter[ADM_GPU_WAY_PARAMETERS];
    adm_gpu_way_fn *launch;
} adm_gpu_ways;

/* The ways of a row; NULL: it has no parameters. */
const adm_gpu_ways *adm_gpu_ways_of(const adm_gpu_impl *row);

/* The table itself [adm_gpu_n_ways], in kernels/gpu_ways.c; only registry.c reads it. */
extern const adm_gpu_ways adm_gpu_way_rows[];
extern const size_t adm_gpu_n_ways;

#ifdef __cplusplus
}
#endif

#endif
