/* identity.c: what a sweep's hashes are made of. */
#include "core/fleet/identity.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "core/base/mem.h"
#include "core/base/printable.h"
#include "core/base/version.h"
#include "core/system/read_room.h"

/* --- Folding ------------------------------------------------------------------------------------------------------ */

static void to_hex(XXH128_hash_t hash, char out[ADM_HASH_BYTES]) {
    snprintf(out, ADM_HASH_BYTES, "%016" PRIx64 "%016" PRIx64, (uint64_t)hash.high64, (uint64_t)hash.low64);
}

/* The hash of what was there and of n more bytes. */
static void fold(char hash[ADM_HASH_BYTES], const void *data, size_t n) {
    char both[ADM_HASH_BYTES - 1 + 32 + 1];
    char own[ADM_HASH_BYTES];
    to_hex(XXH3_128bits(data, n), own);
    const int length = snprintf(both, sizeof both, "%.32s%.32s", hash, own);
    to_hex(XXH3_128bits(both, (size_t)length), hash);
}

static const char *name_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

void adm_fleet_add_name(adm_fleet *s, const char *path) { fold(s->grid, name_of(path), strlen(name_of(path))); }

void adm_fleet_add_text(adm_fleet *s, const char *text) { fold(s->grid, text, strlen(text)); }

void adm_fleet_add_parts(adm_fleet *s, const uint32_t *part, size_t n) { fold(s->parts, part, n * sizeof *part); }

void adm_fleet_add_input(adm_fleet *s, const char *hash) {
    if (hash != NULL) fold(s->inputs, hash, strlen(hash));
}

static adm_status hash_file(const char *path, char out[ADM_HASH_BYTES], adm_error *err) {
    enum { CHUNK_BYTES = 1 << 16 };
    char *chunk = NULL, shown[256];
    XXH3_state_t *state = XXH3_createState();
    FILE *file = adm_open_to_read(path);
    adm_status status = state == NULL ? adm_fail(err, ADM_EENVIRONMENT, "out of memory while hashing a file")
                                      : adm_alloc(&chunk, CHUNK_BYTES, 1, "a part of a file", err);
    if (status == ADM_OK && file == NULL)
        status = adm_fail(err, adm_status_of_read(errno), "%s cannot be read: %s", adm_printable(path, shown, sizeof shown),
                          strerror(errno));
    if (status == ADM_OK) {
        size_t n;
        XXH3_128bits_reset(state);
        while ((n = fread(chunk, 1, CHUNK_BYTES, file)) > 0) XXH3_128bits_update(state, chunk, n);
        if (ferror(file))
            status = adm_fail(err, adm_status_of_read(errno), "%s cannot be read: %s", adm_printable(path, shown, sizeof shown),
                              strerror(errno));
        to_hex(XXH3_128bits_digest(state), out);
    }
    if (file != NULL) fclose(file);
    XXH3_freeState(state);
    adm_free(&chunk);
    return status;
}

adm_status adm_fleet_add_file(adm_fleet *s, const char *path, adm_error *err) {
    char hash[ADM_HASH_BYTES] = "";
    if (path == NULL || s->shard.count == 0) return ADM_OK;
    adm_status status = hash_file(path, hash, err);
    if (status == ADM_OK) adm_fleet_add_input(s, hash);
    return status;
}

void adm_fleet_identify(adm_fleet *s) {
    char program[ADM_HASH_BYTES] = "";
    adm_error unused;
    /* A commit names a build, unless files were changed after it. */
    if (adm_git_dirty() != 0 && s->program != NULL) snprintf(program, sizeof program, "%s", s->program);
    else if (adm_git_dirty() != 0) hash_file("/proc/self/exe", program, &unused);
    snprintf(s->build, sizeof s->build, "%s %s%s%s", adm_version(), adm_git_commit(), program[0] ? " " : "", program);
    fold(s->parts, &s->shard.count, sizeof s->shard.count);
    memset(s->id, 0, sizeof s->id);
    fold(s->id, s->grid, strlen(s->grid));
    fold(s->id, s->parts, strlen(s->parts));
    fold(s->id, s->build, strlen(s->build));
    fold(s->id, s->inputs, strlen(s->inputs));
}

/* --- The grid's options ------------------------------------------------------------------------------------------- */

enum { MAX_OPTIONS = 128, FIRST_LONG = 256 };

/* One option of the command line: its place in the table, and its value. */
typedef struct given {
    int option;
    size_t order;
    const char *value;
} given;

static int by_option(const void *x, const void *y) {
    const given *a = x, *b = y;
    if (a->option != b->option) return a->option < b->option ? -1 : 1;
    return (a->order > b->order) - (a->order < b->order);
}

/* An argp tree's options as getopt_long() takes them. */
typedef struct table {
    const struct argp_option *option[MAX_OPTIONS];
    struct option longs[MAX_OPTIONS + 1];
    char shorts[4 * MAX_OPTIONS];
    int n;
} table;

static void collect(table *t, const struct argp *argp) {
    for (const struct argp_option *o = argp->options; o != NULL && (o->name != NULL || o->key != 0); o++) {
        if (o->name == NULL || t->n == MAX_OPTIONS) continue;
        t->longs[t->n] = (struct option){o->name, o->arg != NULL ? required_argument : no_argument, NULL, FIRST_LONG + t->n};
        if (o->key > ' ' && o->key < 127) {
            const char text[] = {(char)o->key, o->arg != NULL ? ':' : '\0', '\0'};
            strcat(t->shorts, text);
        }
        t->option[t->n++] = o;
    }
    for (const struct argp_child *child = argp->children; child != NULL && child->argp != NULL; child++)
        collect(t, child->argp);
}

static int option_of(const table *t, int c) {
    if (c >= FIRST_LONG) return c - FIRST_LONG;
    for (int i = 0; i < t->n; i++)
        if (t->option[i]->key == c) return i;
    return -1;
}

static bool is_apart(const char *name, const char *const *apart) {
    static const char *const always[] = {"shard", "dry-run", "db", "label", "threads", "quiet", "json", NULL};
    for (const char *const *word = always; *word != NULL; word++)
        if (strcmp(name, *word) == 0) return true;
    for (const char *const *word = apart; *word != NULL; word++)
        if (strcmp(name, *word) == 0) return true;
    return false;
}

static void fold_options(adm_fleet *s, const table *t, given *found, size_t n, const char *const *apart) {
    adm_sort(found, n, sizeof *found, by_option);
    for (size_t i = 0; i < n; i++) {
        const struct argp_option *o = t->option[found[i].option];
        if (is_apart(o->name, apart)) continue;
        fold(s->grid, o->name, strlen(o->name));
        if (found[i].value == NULL) continue;
        const char *value = strstr(o->arg, "FILE") != NULL ? name_of(found[i].value) : found[i].value;
        fold(s->grid, value, strlen(value));
    }
}

adm_status adm_fleet_read(adm_fleet *s, const char *command, const struct argp *argp, const char *const *apart, int argc,
                          char **argv, adm_error *err) {
    char **copy = NULL;
    given *found = NULL;
    table *t = NULL;
    size_t n = 0;
    if (s->shard_text == NULL) return ADM_OK;
    adm_status status = adm_shard_parse(s->shard_text, &s->shard, err);
    if (status == ADM_OK) status = adm_alloc(&copy, (size_t)argc + 1, sizeof *copy, "the command line", err);
    if (status == ADM_OK) status = adm_alloc(&found, (size_t)argc, sizeof *found, "the command line", err);
    if (status == ADM_OK) status = adm_alloc(&t, 1, sizeof *t, "the command line", err);
    if (status == ADM_OK) {
        for (int i = 0; i < argc; i++) copy[i] = argv[i]; /* getopt_long() sorts it */
        collect(t, argp);
        optind = 0;
        opterr = 0;
        for (int c; (c = getopt_long(argc, copy, t->shorts, t->longs, NULL)) != -1;) {
            const int option = option_of(t, c);
            if (option >= 0 && n < (size_t)argc) found[n] = (given){option, n, optarg}, n++;
        }
        fold(s->grid, command, strlen(command));
        fold_options(s, t, found, n, apart);
    }
    adm_free(&copy);
    adm_free(&found);
    adm_free(&t);
    return status;
}

/* --- The command line --------------------------------------------------------------------------------------------- */

enum { KEY_SHARD = 0x1100, KEY_DRY_RUN };

static error_t parse(int key, char *arg, struct argp_state *state) {
    adm_fleet *s = state->input;
    switch (key) {
    case KEY_SHARD: s->shard_text = arg; return 0;
    case KEY_DRY_RUN: s->dry_run = true; return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

#define SHARD_HELP \
    "Only part i of n of the grid, the same on every machine; `adamas db merge` joins the parts' databases (docs/fleet.md)"

static const struct argp_option shard_option[] = {{"shard", KEY_SHARD, "I/N", 0, SHARD_HELP, 80}, {0}};
static const struct argp_option both_options[] = {
    {"shard", KEY_SHARD, "I/N", 0, SHARD_HELP, 80},
    {"dry-run", KEY_DRY_RUN, NULL, 0, "Print what would be done, and how the shards share it; do nothing", 80},
    {0},
};

const struct argp adm_argp_shard = {.options = shard_option, .parser = parse};
const struct argp adm_argp_shard_and_dry_run = {.options = both_options, .parser = parse};
