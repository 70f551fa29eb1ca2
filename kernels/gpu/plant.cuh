/* plant.cuh: a slowdown on purpose in one kernel, for the tests of `adamas check`. Nothing unless ADM_PLANT_PERCENT is defined,
 * as it is for tests/adamas-planted alone (configure.py --plant-kernel); the host's stage is planted in tests/bench/plant.c. */
#ifndef ADM_KERNELS_GPU_PLANT_CUH
#define ADM_KERNELS_GPU_PLANT_CUH

#ifdef ADM_PLANT_PERCENT
/* Each thread burns that share of the clock cycles since ADM_PLANT_BEGIN. */
#define ADM_PLANT_BEGIN const long long adm_plant_start = clock64();
#define ADM_PLANT_END                                        \
    for (const long long took = clock64() - adm_plant_start; \
         (clock64() - adm_plant_start) * 100 < took * (100 + ADM_PLANT_PERCENT);) {}
#else
#define ADM_PLANT_BEGIN
#define ADM_PLANT_END
#endif

#endif
