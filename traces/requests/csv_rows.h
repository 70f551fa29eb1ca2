/* csv_rows.h: request traces as CSV: Azure, BurstGPT, vidur. Columns are found by name; those not known are ignored. */
#ifndef ADM_TRACES_REQUESTS_CSV_ROWS_H
#define ADM_TRACES_REQUESTS_CSV_ROWS_H

#include "traces/requests/builder.h"

enum { ADM_CSV_ROLES = 4 };

typedef struct adm_csv {
    const struct adm_csv_format *format; /* NULL: no header was read */
    size_t n_columns, role_column[ADM_CSV_ROLES];
} adm_csv;

/* Reads the header, which it cuts up. ADM_EINPUT: it is that of no format known; the sentence names them all. */
adm_status adm_csv_header(adm_csv *csv, const adm_lines *lines, char *line, const char **format, adm_error *err);

adm_status adm_csv_row(const adm_csv *csv, const adm_lines *lines, char *line, adm_builder *builder, adm_error *err);

#endif
