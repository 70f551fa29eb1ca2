/* kernel_resources.h: `adamas kernel resources`. */
#ifndef ADM_KERNELS_SASS_KERNEL_RESOURCES_H
#define ADM_KERNELS_SASS_KERNEL_RESOURCES_H

#include "core/cli/command.h"

extern const adm_command adm_kernel_resources, adm_kernel_sass;

#endif
