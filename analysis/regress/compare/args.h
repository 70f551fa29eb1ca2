/* args.h: what `adamas compare` and `adamas check` have in common on the command line, and the files they leave. */
#ifndef ADM_ANALYSIS_REGRESS_COMPARE_ARGS_H
#define ADM_ANALYSIS_REGRESS_COMPARE_ARGS_H

#include <argp.h>

#include "analysis/regress/compare/compare.h"

enum { ADM_MAX_TOLERANCES = 32 };

/* Zero-initialise; give it to adm_argp_compare as child input. */
typedef struct adm_compare_args {
    const char *margin, *seed, *markdown, *junit, *benchmark_json;
    const char *tolerance[ADM_MAX_TOLERANCES];
    size_t n_tolerances;
    bool across_machines, ignore_missing, all;
    const char *against; /* the registry's row that a kernel is compared with; NULL: the fastest */
} adm_compare_args;

extern const struct argp adm_argp_compare;

/* Checks the values and fills in the options. */
adm_status adm_compare_args_parse(const adm_compare_args *args, adm_compare_options *options, adm_error *err);

/* Writes the files that were asked for, each whole or not at all. They are written before the exit code is known to anyone,
 * also when the comparison failed as a whole. */
adm_status adm_compare_args_write(const adm_compare_args *args, const adm_comparison *comparison, adm_error *err);

/* Prints to standard output: text, or with json one document. */
adm_status adm_compare_print(const adm_comparison *comparison, bool json, bool quiet, bool all, adm_error *err);

#endif
