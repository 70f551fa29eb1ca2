/* tally.c: see tally.h. */
#include "kernels/tune/tally.h"

void adm_tune_tally_add(adm_tune_tally *t, const adm_candidate *c, const adm_tune_result *r) {
    switch (r->status) {
    case ADM_OK: t->n_right++; break;
    case ADM_EINPUT:
        if (t->n_invalid++ == 0) adm_fail(&t->invalid, ADM_EINPUT, "%s: %s", c->name, r->reason);
        break;
    case ADM_EUNSUPPORTED:
        if (t->n_skipped++ == 0) adm_fail(&t->skipped, ADM_EUNSUPPORTED, "%s: %s", c->name, r->reason);
        break;
    case ADM_EENVIRONMENT: t->n_lost++; break;
    case ADM_EINTERRUPTED:
    case ADM_EINTERNAL: t->n_wrong++; break;
    }
}

adm_status adm_tune_tally_failure(const adm_tune_tally *t, adm_error *err) {
    const size_t n = t->n_wrong + t->n_lost;
    if (n > 0)
        return adm_fail(err, t->n_wrong > 0 ? ADM_EINTERNAL : ADM_EENVIRONMENT,
                        "candidates failed at %zu of their lengths and budgets; the database says why", n);
    return t->n_invalid > 0 ? adm_fail(err, ADM_EINPUT, "%s", t->invalid.text) : ADM_OK;
}

adm_status adm_tune_tally_status(const adm_tune_tally *t, adm_error *err) {
    const adm_status status = adm_tune_tally_failure(t, err);
    return status == ADM_OK && t->n_skipped > 0 ? adm_fail(err, ADM_EUNSUPPORTED, "%s", t->skipped.text) : status;
}
