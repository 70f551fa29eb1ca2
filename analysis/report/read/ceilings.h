/* ceilings.h: how much arithmetic a GPU can do at most, by its data sheet. */
#ifndef ADM_ANALYSIS_REPORT_READ_CEILINGS_H
#define ADM_ANALYSIS_REPORT_READ_CEILINGS_H

/* Operations per second at this clock, a fused multiply-add as two. Computed, not measured. */
typedef struct adm_ceilings {
    double fp32_flops_per_s;   /* ordinary cores */
    double tensor_flops_per_s; /* tensor cores, 16-bit inputs, dense */
    int n_sms;
} adm_ceilings;

/* Of the GPU of this name at this clock; zeros if the name or the clock (0) is not known. */
adm_ceilings adm_ceilings_of(const char *gpu, double sm_clock_hz);

#endif
