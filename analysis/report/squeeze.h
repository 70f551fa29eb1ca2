/* squeeze.h: leaves out of a view's markup what HTML does not need: half of a page is tables. */
#ifndef ADM_ANALYSIS_REPORT_SQUEEZE_H
#define ADM_ANALYSIS_REPORT_SQUEEZE_H

#include "analysis/output/text.h"

/* Appends `markup` to *out without what a browser infers:
 *
 *     </td> </th> </tr> </li> ...   end tags before the next cell, row, list entry, or the end of the table
 *     class="plain"                 quotes around a value that needs none
 *     <th scope="row">              the scope of a body row's first cell, where the column has no other kind of cell
 *     <td class="text">             the class, where the column's heading has it: the body says so once, <tbody class="t2 t5">
 *
 * Words of others are escaped, so every '<' of the markup is a tag of ours. */
void adm_squeeze(adm_text *out, const adm_text *markup);

#endif
