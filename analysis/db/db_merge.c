/* db_merge.c: `adamas db merge`: the runs of other databases into this one, and the shards of sweeps into one run each. */
#include "analysis/db/db_merge.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "analysis/db/shards_show.h"
#include "core/base/mem.h"
#include "core/base/print.h"
#include "core/base/printable.h"
#include "core/fleet/collect.h"
#include "core/store/merge/merge.h"
#include "core/store/store.h"

typedef struct merge_command {
    adm_common common;
    bool across_builds, across_machines;
    char **given; /* borrowed from argv */
    size_t n_given;
    char **path;  /* [n_paths] of databases: folders are replaced by what they hold */
    size_t n_paths;
    int64_t n_bytes;
    adm_progress progress; /* by bytes of files: each is looked at, and then merged, which takes longer */
    uint64_t n_done;
    uint64_t n_before, n_merging; /* bytes of the database when the file that is being merged began, and of that file */
} merge_command;

enum { KEY_BUILDS = 0x6100, KEY_MACHINES };

static const struct argp_option options[] = {
    {"across-builds", KEY_BUILDS, NULL, 0, "Join shards that different builds measured; the run then says so", 1},
    {"across-machines", KEY_MACHINES, NULL, 0, "Join shards of different processors or GPUs; the run then says so", 1},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    merge_command *c = state->input;
    (void)arg;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = state->child_inputs[1] = &c->common; return 0;
    case KEY_BUILDS: c->across_builds = true; return 0;
    case KEY_MACHINES: c->across_machines = true; return 0;
    case ARGP_KEY_ARGS:
        c->given = state->argv + state->next;
        c->n_given = (size_t)(state->argc - state->next);
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* --- Files -------------------------------------------------------------------------------------------------------- */

static adm_status add_path(merge_command *c, const char *folder, const char *name, adm_error *err) {
    char **larger = NULL;
    struct stat file, ours;
    adm_status status = adm_alloc(&larger, c->n_paths + 1, sizeof *larger, "databases", err);
    if (status != ADM_OK) return status;
    adm_copy(larger, c->path, c->n_paths * sizeof *larger);
    adm_free(&c->path);
    c->path = larger;
    const size_t bytes = strlen(folder) + strlen(name) + 2;
    status = adm_alloc(&larger[c->n_paths], bytes, 1, "a database's name", err);
    if (status != ADM_OK) return status;
    snprintf(larger[c->n_paths], bytes, "%s%s%s", folder, folder[0] != '\0' ? "/" : "", name);
    const bool is_there = stat(larger[c->n_paths], &file) == 0;
    /* A folder may hold the database that everything goes to. */
    if (folder[0] != '\0' && is_there && stat(c->common.db_path, &ours) == 0 && file.st_ino == ours.st_ino &&
        file.st_dev == ours.st_dev) {
        adm_free(&larger[c->n_paths]);
        return ADM_OK;
    }
    /* One of a shard that was killed at its start stops nobody: the shard is missing, and named. */
    if (folder[0] != '\0' && is_there && adm_store_is_blank(larger[c->n_paths])) {
        char shown[512];
        if (!c->common.json && !c->common.quiet)
            adm_print("%s is empty, and left out\n", adm_printable(larger[c->n_paths], shown, sizeof shown));
        adm_free(&larger[c->n_paths]);
        return ADM_OK;
    }
    if (is_there) c->n_bytes += file.st_size;
    c->n_paths++;
    return ADM_OK;
}

static int is_database(const struct dirent *entry) {
    const size_t n = strlen(entry->d_name);
    return n > 3 && entry->d_name[0] != '.' && strcmp(entry->d_name + n - 3, ".db") == 0;
}

/* Every .db of a folder, in the order of their names. */
static adm_status add_folder(merge_command *c, const char *folder, adm_error *err) {
    struct dirent **entry = NULL;
    char shown[256];
    const int n = scandir(folder, &entry, is_database, versionsort);
    adm_status status = ADM_OK;
    if (n < 0)
        return adm_fail(err, ADM_EINPUT, "%s cannot be read: %s", adm_printable(folder, shown, sizeof shown), strerror(errno));
    if (n == 0)
        status = adm_fail(err, ADM_EINPUT, "%s holds no database: no name ends in .db",
                          adm_printable(folder, shown, sizeof shown));
    for (int i = 0; i < n; i++) {
        if (status == ADM_OK) status = add_path(c, folder, entry[i]->d_name, err);
        free(entry[i]);
    }
    free(entry);
    return status;
}

static adm_status find_paths(merge_command *c, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < c->n_given; i++) {
        struct stat info;
        const bool is_folder = stat(c->given[i], &info) == 0 && S_ISDIR(info.st_mode);
        status = is_folder ? add_folder(c, c->given[i], err) : add_path(c, "", c->given[i], err);
    }
    return status;
}

enum { LOOK = 1, MERGE = 4 }; /* what a byte takes */

static uint64_t file_bytes(const char *path) {
    struct stat file;
    return stat(path, &file) == 0 ? (uint64_t)file.st_size : 0;
}

static void step(merge_command *c, const char *path, uint64_t weight) {
    c->n_done += weight * file_bytes(path);
    adm_progress_step(&c->progress, c->n_done);
}

/* While one file is merged, the database grows by about its size. */
static void step_within(void *user) {
    merge_command *c = user;
    const uint64_t now = file_bytes(c->common.db_path), grown = now > c->n_before ? now - c->n_before : 0;
    adm_progress_step(&c->progress, c->n_done + MERGE * (grown < c->n_merging ? grown : c->n_merging));
}

/* --- Merging ------------------------------------------------------------------------------------------------------ */

/* Whether the file has runs of shards. */
static bool has_shards(const adm_collection *collection, size_t file) {
    for (size_t i = 0; i < collection->n_runs; i++)
        if (collection->run[i].file == file) return true;
    return false;
}

static adm_status show_file(merge_command *c, const char *path, const adm_merge_counts *n, bool of_shards, json_t *document,
                            adm_error *err) {
    char shown[512];
    if (c->common.json &&
        json_array_append_new(document,
                              json_pack("{s:s, s:I, s:I, s:I, s:I}", "file", adm_printable(path, shown, sizeof shown), "n_runs",
                                        (json_int_t)n->n_runs, "n_present", (json_int_t)n->n_present, "n_unfinished",
                                        (json_int_t)n->n_unfinished, "n_parts", (json_int_t)n->n_parts)) != 0)
        return adm_fail(err, ADM_EENVIRONMENT, "out of memory");
    if (c->common.json || c->common.quiet) return ADM_OK;
    if (n->n_runs + n->n_present == 0 && of_shards) return ADM_OK; /* shards alone: the sweep's line counts them */
    adm_progress_hide(&c->progress);
    adm_print("%s: %" PRId64 " runs added, %" PRId64 " were there", adm_printable(path, shown, sizeof shown), n->n_runs,
              n->n_present);
    if (n->n_unfinished > 0) adm_print(", %" PRId64 " unfinished left out", n->n_unfinished);
    adm_print("\n");
    return ADM_OK;
}

static adm_status merge_all(merge_command *c, const adm_collection *collection, adm_store *store, json_t *document,
                            adm_error *err) {
    enum { LARGE_BYTES = 16 << 20 };
    adm_merge *merge = NULL;
    adm_merge_part *parts = NULL;
    adm_status status = adm_alloc(&parts, collection->n_runs, sizeof *parts, "parts of sweeps", err);
    if (status == ADM_OK)
        status = adm_merge_open(store, c->n_bytes / (int64_t)(c->n_paths > 0 ? c->n_paths : 1) > LARGE_BYTES, &merge, err);
    adm_store_on_look(store, step_within, c);
    for (size_t i = 0; i < c->n_paths && status == ADM_OK; i++) {
        adm_merge_counts n;
        const size_t n_parts = adm_collection_parts(collection, i, parts);
        c->n_before = file_bytes(c->common.db_path);
        c->n_merging = file_bytes(c->path[i]);
        status = adm_merge_file(merge, c->path[i], parts, n_parts, &n, err);
        if (status == ADM_OK) status = show_file(c, c->path[i], &n, has_shards(collection, i), document, err);
        step(c, c->path[i], MERGE);
    }
    if (status == ADM_OK) status = adm_collection_finish(collection, store, err);
    adm_store_on_look(store, NULL, NULL);
    adm_merge_close(&merge);
    adm_free(&parts);
    return status;
}

static adm_status merge(merge_command *c, json_t *document, bool *is_whole, adm_error *err) {
    adm_store *store = NULL;
    adm_collection collection = {0};
    adm_status status = find_paths(c, err);
    if (status == ADM_OK && c->n_paths == 0 && access(c->common.db_path, F_OK) != 0)
        status = adm_fail(err, ADM_EINPUT, "%s does not exist: name the databases to merge into it, or `adamas db create` it",
                          c->common.db_path);
    adm_progress_start(&c->progress, "merging", (uint64_t)c->n_bytes * (LOOK + MERGE), c->common.quiet);
    for (size_t i = 0; i < c->n_paths && status == ADM_OK; i++) {
        status = adm_collection_add(&collection, i, c->path[i], err);
        step(c, c->path[i], LOOK);
    }
    if (status == ADM_OK) status = adm_store_open(c->common.db_path, ADM_STORE_WRITE, &store, err);
    if (status == ADM_OK) status = adm_collection_plan(&collection, c->path, store, c->across_builds, c->across_machines, err);
    if (status == ADM_OK) status = merge_all(c, &collection, store, document, err);
    adm_progress_end(&c->progress);
    if (status == ADM_OK) status = adm_shards_show(&c->common, &collection, c->path, store, document, is_whole, err);
    if (status == ADM_OK && c->common.json) status = adm_print_json(json_incref(document), err);
    if (status == ADM_OK) status = adm_finish_output(err);
    adm_store_close(&store);
    adm_collection_free(&collection);
    return status;
}

static int run(int argc, char **argv) {
    static const struct argp_child children[] = {{&adm_argp_db, 0, NULL, 0}, {&adm_argp_output, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .children = children,
        .args_doc = "[FILE|DIR...]",
        .doc =
            "Adds the finished runs of other databases with everything that belongs to them, each file whole or not at all. "
            "Runs are told apart by UUID, so merging a file again is safe. Of a DIR every file whose name ends in .db. Without "
            "FILE it brings the database itself up to this program's schema.\v"
            "Runs that were made with --shard become one run per sweep. A shard that ran twice counts as it ran last. The exit "
            "code is 3 while shards are missing or unfinished; they are named, and a later merge adds them."};
    merge_command c = {.common = ADM_COMMON_DEFAULTS};
    adm_error err;
    bool is_whole = true;
    adm_argp_parse(&argp, argc, argv, &c);
    json_t *document = json_array();
    adm_status status = merge(&c, document, &is_whole, &err);
    json_decref(document);
    for (size_t i = 0; i < c.n_paths; i++) adm_free(&c.path[i]);
    adm_free(&c.path);
    return status != ADM_OK ? adm_report_error(&err) : is_whole ? 0 : 3;
}

const adm_command adm_db_merge = {"merge", "the runs of other databases into this one", run};
