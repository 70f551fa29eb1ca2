/* request.c: what request traffic holds. */
#include "core/contract/request.h"

#include "core/base/mem.h"

void adm_requests_free(adm_requests **requests) {
    if (*requests == NULL) return;
    adm_free(&(*requests)->request);
    adm_free(&(*requests)->block);
    adm_free(requests);
}
