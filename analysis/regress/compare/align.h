/* align.h: processes that measured different parts of a command, on one level.
 *
 *     whole command       base  10.0 10.1 9.9      candidate  10.0 9.9 10.1      centre 10.0
 *     a few times of it   base   9.7  9.8 9.7      candidate   9.8 9.7  9.7      centre  9.74   --> moved by 10.0 / 9.74
 *
 * What ran before a stage in its process can shift its time by some percent (seen: 3% of a top-k of 3 us). Both sides have
 * equally many processes of each kind (narrow.h), so that such a shift is none between the sides; but as scatter it would hide
 * smaller ones. A kind's centre is the mean of both sides' medians: a difference between the sides does not move it. */
#ifndef ADM_ANALYSIS_REGRESS_COMPARE_ALIGN_H
#define ADM_ANALYSIS_REGRESS_COMPARE_ALIGN_H

#include "analysis/regress/compare/side.h"

/* Moves the processes of each kind to the level of the first's kind. Processes of a kind that only one side has say nothing,
 * and are left out of the side. Nothing is done where all are of one kind. ADM_EENVIRONMENT: out of memory. */
adm_status adm_compare_align(adm_compare_side *base, adm_compare_side *cand, adm_error *err);

#endif
