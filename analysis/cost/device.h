/* device.h: the limits of a GPU that times are set against: measured where the database has them, else of the data sheet. */
#ifndef ADM_ANALYSIS_COST_DEVICE_H
#define ADM_ANALYSIS_COST_DEVICE_H

typedef struct adm_cost_device {
    char name[96];
    double read_bytes_per_s;  /* what a plain read reaches: measured by a profile */
    double flops_per_s;       /* dense 16-bit matrix products: the data sheet's peak; 0: unknown */
    double memory_bytes;      /* of the device; 0: unknown */
    double copy_bytes_per_s;  /* to a neighbour GPU, one direction: the data sheet's; 0: unknown */
} adm_cost_device;

/* Fills in flops, memory and copy rate by the device's name as the driver spells it ("NVIDIA H200"); leaves 0 for a device that
 * is in no table. */
void adm_cost_device_sheet(adm_cost_device *device);

#endif
