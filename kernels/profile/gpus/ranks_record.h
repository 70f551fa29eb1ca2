/* ranks_record.h: what ranks.c measures, as rows of the database. Inside this folder. */
#ifndef ADM_KERNELS_PROFILE_GPUS_RANKS_RECORD_H
#define ADM_KERNELS_PROFILE_GPUS_RANKS_RECORD_H

#include "core/store/store.h"
#include "kernels/profile/grid/grid.h"

typedef struct adm_ranks_record {
    const adm_profile_options *o;
    adm_store *store;
    int64_t run_id;
    double link_bytes_per_s; /* of the present number of ranks; 0: not measured */
} adm_ranks_record;

/* Samples of the slowest rank, borrowed and not sorted; and the medians of the fastest and the slowest rank. */
typedef struct adm_rank_times {
    const double *sample_ns;
    size_t n;
    double fastest_ns, slowest_ns;
} adm_rank_times;

/* Each is flushed. `whole`: the configuration with all heads. n_elements: of the message, 2 bytes each. */
adm_status adm_ranks_put_link(adm_ranks_record *record, int n_ranks, size_t n_elements, const adm_rank_times *times,
                              adm_error *err);
adm_status adm_ranks_put_reduce(adm_ranks_record *record, const adm_profile_case *whole, int n_ranks, size_t n_elements,
                                const adm_rank_times *times, adm_error *err);
adm_status adm_ranks_put_step(adm_ranks_record *record, const adm_profile_case *whole, const adm_profile_unit *unit,
                              int n_ranks, const adm_rank_times *times, adm_error *err);
adm_status adm_ranks_put_total(adm_ranks_record *record, const adm_profile_case *whole, const adm_profile_unit *unit,
                               int n_ranks, const adm_rank_times *times, adm_error *err);
adm_status adm_ranks_put_reason(adm_ranks_record *record, const adm_profile_case *whole, const adm_profile_unit *unit,
                                int n_ranks, adm_status why, const char *reason, adm_error *err);

#endif
