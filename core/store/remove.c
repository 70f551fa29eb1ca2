/* remove.c: taking back rows of a run. */
#include "core/store/remove.h"

#include "core/contract/stage.h"
#include "core/store/file/database_internal.h"

static adm_status finish(adm_store *store, int rc, const char *doing, adm_error *err) {
    if (rc == SQLITE_OK) return adm_store_flush(store, err);
    const adm_status status = adm_store_sqlite_error(store, rc, doing, err);
    adm_store_rollback(store);
    return status;
}

static adm_value number(int64_t value) { return (adm_value){.type = 'i', .i = value}; }

adm_status adm_store_remove_shard(adm_store *store, const char *sweep_id, int64_t shard, int64_t n_shards, int64_t kept,
                                  adm_error *err) {
    const adm_value values[] = {{.type = 's', .s = sweep_id}, number(shard), number(n_shards), number(kept)};
    adm_status status = adm_store_begin_batch(store, err);
    if (status != ADM_OK) return status;
    const int rc = adm_store_change(store, "DELETE FROM run WHERE sweep_id = ? AND shard = ? AND n_shards = ? AND run_id <> ?",
                                    values, 4);
    return finish(store, rc, "replacing an earlier run of a shard", err);
}

#define OF_CASE                                                                                                  \
    " AND config_id IN (SELECT config_id FROM config WHERE seq_len = ?2 AND n_kv_heads = ?3 AND batch = ?4 AND " \
    "ifnull(page_size, 0) = ?5 AND dtype = ?6 AND policy <> 'device')"

adm_status adm_store_remove_rows(adm_store *store, int64_t run_id, const adm_config *like, adm_error *err) {
    static const char *const all[] = {"DELETE FROM measurement WHERE run_id = ?", "DELETE FROM event WHERE run_id = ?",
                                      "DELETE FROM activity WHERE run_id = ?"};
    static const char *const some[] = {"DELETE FROM measurement WHERE run_id = ?1" OF_CASE,
                                       "DELETE FROM event WHERE run_id = ?1" OF_CASE,
                                       "DELETE FROM activity WHERE run_id = ?1" OF_CASE};
    adm_value values[6] = {number(run_id)};
    if (like != NULL) {
        values[1] = number(like->seq_len);
        values[2] = number(like->shape.n_kv_heads);
        values[3] = number(like->batch);
        values[4] = number(like->page_size);
        values[5] = (adm_value){.type = 's', .s = adm_dtype_name(like->dtype)};
    }
    adm_status status = adm_store_begin_batch(store, err);
    int rc = SQLITE_OK;
    if (status != ADM_OK) return status;
    for (int i = 0; rc == SQLITE_OK && i < 3; i++)
        rc = adm_store_change(store, like != NULL ? some[i] : all[i], values, like != NULL ? 6 : 1);
    return finish(store, rc, "removing rows of a run", err);
}

adm_status adm_store_remove_candidates(adm_store *store, int64_t run_id, adm_error *err) {
    const adm_value values[] = {number(run_id)};
    adm_status status = adm_store_begin_batch(store, err);
    if (status != ADM_OK) return status;
    int rc =
        adm_store_change(store,
                         "DELETE FROM measurement WHERE run_id = ?1 AND (config_id, stage) IN (SELECT config_id, stage FROM "
                         "candidate WHERE run_id = ?1)",
                         values, 1);
    if (rc == SQLITE_OK) rc = adm_store_change(store, "DELETE FROM candidate WHERE run_id = ?1", values, 1);
    return finish(store, rc, "removing candidates of a run", err);
}
