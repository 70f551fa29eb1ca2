/* margin.c: the margin of a time: forced, calibrated on this machine, or the default. */
#include "analysis/regress/compare/margin.h"

static const char margin_sql[] =
    "SELECT g.margin_ratio FROM margin g JOIN config c USING (config_id) JOIN metric k USING (metric_id)"
    " WHERE g.config_id = ?1 AND g.source = ?2 AND ifnull(g.stage, '') = ?3 AND k.name = ?4 AND g.host_name = ?5 AND"
    " g.cpu_model = ?6 AND ifnull(g.gpu_name, '') = ?7 ORDER BY g.measured_utc DESC LIMIT 1";

adm_status adm_compare_margin(const adm_series_set *base, const adm_compare_options *o, adm_compare_row *row, adm_error *err) {
    row->margin = o->margin;
    if (o->margin_is_forced) return ADM_OK;
    const adm_series *s = row->base;
    const adm_series_run *machine = &base->run[0];
    adm_query *q = NULL;
    bool there = false;
    adm_status status = adm_query_open(base->store, margin_sql, &q, err, "issssss", s->config->id, s->source, s->stage,
                                       s->metric->name, machine->host_name, machine->cpu_model, machine->gpu_name);
    if (status == ADM_OK) status = adm_query_next(q, &there, err);
    if (status == ADM_OK && there) row->margin = adm_query_double(q, 0);
    adm_query_close(&q);
    return status;
}
