/* trace_file.c: from named tensors to an adm_trace. */
#include "traces/format/trace_file.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/printable.h"
#include "traces/format/safetensors.h"

/* Token numbers fit an int32 so that sums of two do not overflow. */
static const uint64_t max_tokens = 1u << 30;

enum { ROLE_K, ROLE_V, ROLE_Q, ROLE_O, N_ROLES };
static const char role_letter[N_ROLES + 1] = "kvqo";

typedef struct layer_tensors {
    uint32_t index;
    const adm_st_tensor *role[N_ROLES];
} layer_tensors;

typedef struct trace_file {
    adm_trace view; /* first, so that a view leads back to its file */
    adm_safetensors *st;
    const char *label;
    char *path;
    size_t n_layers;
    layer_tensors *found; /* by index */
    adm_trace_layer *layers;
    int64_t *positions;
    pthread_t hasher;     /* sets the next three, which are its own while is_hashing */
    char xxh128[33];
    adm_status hash_status;
    adm_error hash_err;
    bool is_hashing, is_hashed;
} trace_file;

static adm_status copy_text(const char *text, char **out, adm_error *err) {
    size_t n = strlen(text) + 1;
    adm_status status = adm_alloc(out, n, 1, "a path", err);
    if (status == ADM_OK) memcpy(*out, text, n);
    return status;
}

/* --- Metadata ----------------------------------------------------------------------------------------------------- */

static const char *metadata(const trace_file *f, const char *key) {
    for (size_t i = 0; i < f->view.n_meta; i++)
        if (strcmp(f->view.meta[i].key, key) == 0) return f->view.meta[i].value;
    return NULL;
}

static adm_status fail_metadata(const trace_file *f, const char *key, const char *value, const char *rule, adm_error *err) {
    char shown[96];
    return adm_fail(err, ADM_EINPUT, "%s: the metadata says %s '%s', %s", f->label, key,
                    adm_printable(value, shown, sizeof shown), rule);
}

static bool is_one_of(const char *text, const char *const *list) {
    while (*list != NULL && strcmp(text, *list) != 0) list++;
    return *list != NULL;
}

static adm_status read_metadata(trace_file *f, adm_error *err) {
    static const char *const frameworks[] = {"pt", "np", "tf", "flax", "jax", "mlx", "paddle", NULL};
    static const char *const kinds[] = {"real", "synthetic", NULL};
    f->view.n_meta = adm_safetensors_metadata(f->st, &f->view.meta);

    const char *format = metadata(f, "format"), *kind = metadata(f, "kind"), *model = metadata(f, "model");
    if (format != NULL && strcmp(format, ADM_TRACE_FORMAT) != 0 && !is_one_of(format, frameworks))
        return fail_metadata(f, "format", format, "this program reads " ADM_TRACE_FORMAT, err);
    if (kind != NULL && !is_one_of(kind, kinds)) return fail_metadata(f, "kind", kind, "it must be real or synthetic", err);
    f->view.kind = kind != NULL ? kind : "unlabelled";
    f->view.model = model != NULL ? model : "";
    return ADM_OK;
}

static adm_status read_softmax_scale(trace_file *f, adm_error *err) {
    f->view.softmax_scale = 1.0 / sqrt((double)f->view.shape.head_dim);
    const char *text = metadata(f, "softmax_scale");
    if (text == NULL) return ADM_OK;
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= 1e-6 && value <= 1e6))
        return fail_metadata(f, "softmax_scale", text, "it must be a number from 1e-6 to 1e6", err);
    f->view.softmax_scale = value;
    return ADM_OK;
}

/* --- Which layers there are --------------------------------------------------------------------------------------- */

/* Whether the name is layers.{i}.{role}. */
static bool parse_name(const char *name, uint32_t *index, int *role) {
    static const char prefix[] = "layers.";
    if (strncmp(name, prefix, sizeof prefix - 1) != 0) return false;
    const char *c = name + sizeof prefix - 1;
    size_t n_digits = strspn(c, "0123456789");
    if (n_digits < 1 || n_digits > 9 || (c[0] == '0' && n_digits > 1)) return false;
    *index = (uint32_t)strtoul(c, NULL, 10);
    c += n_digits;
    if (c[0] != '.' || c[1] == '\0' || c[2] != '\0') return false;
    const char *letter = strchr(role_letter, c[1]);
    if (letter == NULL) return false;
    *role = (int)(letter - role_letter);
    return true;
}

static int by_index(const void *a, const void *b) {
    uint32_t x = ((const layer_tensors *)a)->index, y = ((const layer_tensors *)b)->index;
    return (x > y) - (x < y);
}

/* Sorted by name, the tensors of one layer lie together, except that others may lie between them. */
static adm_status find_layers(trace_file *f, adm_error *err) {
    size_t n = adm_safetensors_count(f->st);
    adm_status status = adm_alloc(&f->found, n, sizeof *f->found, "the layers of a trace", err);
    if (status != ADM_OK) return status;
    for (size_t i = 0; i < n; i++) {
        const adm_st_tensor *tensor = adm_safetensors_tensor(f->st, i);
        uint32_t index;
        int role;
        if (!parse_name(tensor->name, &index, &role)) continue;
        if (f->n_layers == 0 || f->found[f->n_layers - 1].index != index) f->found[f->n_layers++].index = index;
        f->found[f->n_layers - 1].role[role] = tensor;
    }
    if (f->n_layers == 0)
        return adm_fail(err, ADM_EINPUT,
                        "%s: none of its %zu tensors is named layers.{i}.k, .v or .q, so this is not "
                        "an attention trace",
                        f->label, n);
    qsort(f->found, f->n_layers, sizeof *f->found, by_index);
    for (size_t i = 0; i < f->n_layers; i++)
        for (int role = 0; role < ROLE_O; role++)
            if (f->found[i].role[role] == NULL)
                return adm_fail(err, ADM_EINPUT, "%s: tensor 'layers.%u.%c' is missing; each layer needs k, v and q", f->label,
                                f->found[i].index, role_letter[role]);
    return ADM_OK;
}

/* --- Shapes and dtypes -------------------------------------------------------------------------------------------- */

/* "[9, 4096, 64]" */
static const char *show_shape(const adm_st_tensor *t, char *out, size_t out_bytes) {
    size_t used = (size_t)snprintf(out, out_bytes, "[");
    for (size_t i = 0; i < t->n_dims && i < ADM_ST_DIMS_KEPT; i++)
        used += (size_t)snprintf(out + used, out_bytes - used, "%s%" PRIu64, i > 0 ? ", " : "", t->shape[i]);
    snprintf(out + used, out_bytes - used, "%s]", t->n_dims > ADM_ST_DIMS_KEPT ? ", ..." : "");
    return out;
}

enum { SHAPE_TEXT_BYTES = 24 * ADM_ST_DIMS_KEPT + 8 };

static adm_status check_dims(const trace_file *f, const adm_st_tensor *t, size_t n_dims, const char *dims, adm_error *err) {
    char shown[SHAPE_TEXT_BYTES];
    if (t->n_dims != n_dims)
        return adm_fail(err, ADM_EINPUT, "%s: tensor '%s' has the shape %s, it must be %s", f->label, t->name,
                        show_shape(t, shown, sizeof shown), dims);
    for (size_t i = 0; i < n_dims; i++)
        if (t->shape[i] < 1 || t->shape[i] > max_tokens)
            return adm_fail(err, ADM_EINPUT, "%s: tensor '%s' has the shape %s, each dimension must be 1 to %" PRIu64, f->label,
                            t->name, show_shape(t, shown, sizeof shown), max_tokens);
    return ADM_OK;
}

/* The first layer's K and Q say what every tensor must look like. */
static adm_status read_shape(trace_file *f, adm_error *err) {
    const adm_st_tensor *k = f->found[0].role[ROLE_K], *q = f->found[0].role[ROLE_Q];
    adm_status status = check_dims(f, k, 3, "[n_kv_heads, n_tokens, head_dim]", err);
    if (status == ADM_OK) status = check_dims(f, q, 3, "[n_steps, n_q_heads, head_dim]", err);
    if (status != ADM_OK) return status;
    f->view.shape =
        (adm_shape){.n_q_heads = (uint32_t)q->shape[1], .n_kv_heads = (uint32_t)k->shape[0], .head_dim = (uint32_t)k->shape[2]};
    f->view.n_tokens = k->shape[1];
    f->view.n_steps = q->shape[0];
    adm_error shape_error;
    status = adm_shape_check(&f->view.shape, &shape_error);
    if (status != ADM_OK) return adm_fail(err, status, "%s: %s", f->label, shape_error.text);
    return ADM_OK;
}

static bool float_dtype(const char *name, adm_dtype *dtype) {
    static const adm_dtype readable[] = {ADM_F16, ADM_BF16, ADM_F32};
    for (size_t i = 0; i < sizeof readable / sizeof readable[0]; i++) {
        if (strcmp(name, adm_dtype_name(readable[i])) != 0) continue;
        *dtype = readable[i];
        return true;
    }
    return false;
}

static adm_status take_tensor(const trace_file *f, const adm_st_tensor *t, bool is_cache, adm_dtype *dtype, const void **data,
                              adm_error *err) {
    const adm_trace *v = &f->view;
    uint64_t wanted[3] = {v->n_steps, v->shape.n_q_heads, v->shape.head_dim};
    if (is_cache) {
        wanted[0] = v->shape.n_kv_heads;
        wanted[1] = v->n_tokens;
    }
    if (t->n_dims != 3 || memcmp(t->shape, wanted, sizeof wanted) != 0) {
        char shown[SHAPE_TEXT_BYTES];
        return adm_fail(
            err, ADM_EINPUT,
            "%s: tensor '%s' has the shape %s, but layers.%u.k and .q call for [%" PRIu64 ", %" PRIu64 ", %" PRIu64 "]",
            f->label, t->name, show_shape(t, shown, sizeof shown), f->found[0].index, wanted[0], wanted[1], wanted[2]);
    }
    if (!float_dtype(t->dtype, dtype))
        return adm_fail(err, ADM_EINPUT, "%s: tensor '%s' has the dtype %s, it must be F16, BF16 or F32", f->label, t->name,
                        t->dtype);
    *data = t->data;
    return ADM_OK;
}

static adm_status take_layers(trace_file *f, adm_error *err) {
    adm_status status = adm_alloc(&f->layers, f->n_layers, sizeof *f->layers, "the layers of a trace", err);
    for (size_t i = 0; i < f->n_layers && status == ADM_OK; i++) {
        const layer_tensors *from = &f->found[i];
        adm_trace_layer *to = &f->layers[i];
        to->index = from->index;
        status = take_tensor(f, from->role[ROLE_K], true, &to->k_dtype, &to->k, err);
        if (status == ADM_OK) status = take_tensor(f, from->role[ROLE_V], true, &to->v_dtype, &to->v, err);
        if (status == ADM_OK) status = take_tensor(f, from->role[ROLE_Q], false, &to->q_dtype, &to->q, err);
        if (status == ADM_OK && from->role[ROLE_O] != NULL)
            status = take_tensor(f, from->role[ROLE_O], false, &to->o_dtype, &to->o, err);
    }
    f->view.layers = f->layers;
    f->view.n_layers = f->n_layers;
    return status;
}

/* --- Positions and tokens ----------------------------------------------------------------------------------------- */

/* A list of n whole numbers, or ADM_EINPUT. */
static adm_status check_list(const trace_file *f, const adm_st_tensor *t, size_t n, adm_error *err) {
    char shown[SHAPE_TEXT_BYTES];
    if (t->n_dims != 1 || t->shape[0] != n)
        return adm_fail(err, ADM_EINPUT, "%s: tensor '%s' has the shape %s, it must be [%zu]", f->label, t->name,
                        show_shape(t, shown, sizeof shown), n);
    if (strcmp(t->dtype, "I64") != 0 && strcmp(t->dtype, "I32") != 0)
        return adm_fail(err, ADM_EINPUT, "%s: tensor '%s' has the dtype %s, it must be I64 or I32", f->label, t->name,
                        t->dtype);
    return ADM_OK;
}

static int64_t list_item(const adm_st_tensor *t, size_t i) {
    if (strcmp(t->dtype, "I64") == 0) {
        int64_t value;
        memcpy(&value, (const char *)t->data + i * sizeof value, sizeof value);
        return value;
    }
    int32_t value;
    memcpy(&value, (const char *)t->data + i * sizeof value, sizeof value);
    return value;
}

static adm_status read_positions(trace_file *f, adm_error *err) {
    size_t n_steps = f->view.n_steps, n_tokens = f->view.n_tokens;
    const adm_st_tensor *t = adm_safetensors_find(f->st, "positions");
    if (n_steps > n_tokens)
        return adm_fail(err, ADM_EINPUT, "%s: has %zu steps but only %zu tokens; each step needs a token of its own", f->label,
                        n_steps, n_tokens);
    adm_status status = t != NULL ? check_list(f, t, n_steps, err) : ADM_OK;
    if (status == ADM_OK) status = adm_alloc(&f->positions, n_steps, sizeof *f->positions, "positions", err);
    if (status != ADM_OK) return status;
    int64_t before = -1;
    for (size_t i = 0; i < n_steps; i++) {
        int64_t position = t != NULL ? list_item(t, i) : (int64_t)(n_tokens - n_steps + i);
        if (position < 0 || (uint64_t)position >= n_tokens)
            return adm_fail(err, ADM_EINPUT, "%s: positions[%zu] is %" PRId64 ", it must be 0 to %zu", f->label, i, position,
                            n_tokens - 1);
        if (position <= before)
            return adm_fail(err, ADM_EINPUT,
                            "%s: positions[%zu] is %" PRId64 " after %" PRId64 ", positions must strictly increase", f->label,
                            i, position, before);
        f->positions[i] = before = position;
    }
    f->view.positions = f->positions;
    return ADM_OK;
}

static adm_status check_tokens(const trace_file *f, adm_error *err) {
    const adm_st_tensor *t = adm_safetensors_find(f->st, "tokens");
    return t != NULL ? check_list(f, t, f->view.n_tokens, err) : ADM_OK;
}

/* --- Public ------------------------------------------------------------------------------------------------------- */

static void *hash(void *argument) {
    trace_file *f = argument;
    f->hash_status = adm_input_xxh128(adm_safetensors_file(f->st), f->xxh128, &f->hash_err);
    return NULL;
}

/* Without a thread the hash is computed when it is waited for. */
static void start_hashing(trace_file *f) {
    sigset_t blocked, before; /* as in core/system/threads.c: what asks the program to stop is not for this thread */
    sigfillset(&blocked);
    sigdelset(&blocked, SIGBUS);
    sigdelset(&blocked, SIGSEGV);
    sigdelset(&blocked, SIGFPE);
    sigdelset(&blocked, SIGILL);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    f->is_hashing = pthread_create(&f->hasher, NULL, hash, f) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

adm_status adm_trace_wait_for_hash(const adm_trace *trace, adm_error *err) {
    trace_file *f = (trace_file *)(uintptr_t)trace;
    if (f->is_hashed) return ADM_OK;
    if (f->is_hashing) pthread_join(f->hasher, NULL);
    else hash(f);
    f->is_hashing = false;
    if (f->hash_status != ADM_OK) {
        if (err != NULL) *err = f->hash_err;
        return f->hash_status;
    }
    memcpy(f->view.xxh128, f->xxh128, sizeof f->view.xxh128);
    f->is_hashed = true;
    return adm_input_check_unchanged(adm_safetensors_file(f->st), err);
}

adm_status adm_trace_open_early(const char *path, bool beside, const adm_trace **out, adm_error *err) {
    *out = NULL;
    trace_file *f = NULL;
    adm_status status = adm_alloc(&f, 1, sizeof *f, "a trace", err);
    if (status != ADM_OK) return status;
    const adm_trace *view = &f->view;
    status = copy_text(path, &f->path, err);
    if (status == ADM_OK) status = adm_safetensors_open(path, &f->st, err);
    if (status != ADM_OK) goto done;
    const char *slash = strrchr(f->path, '/');
    f->label = adm_safetensors_file(f->st)->label;
    f->view.path = f->path;
    f->view.name = slash != NULL ? slash + 1 : f->path;
    f->view.file_bytes = adm_safetensors_file(f->st)->n_bytes;
    status = read_metadata(f, err);
    if (status == ADM_OK) status = find_layers(f, err);
    if (status == ADM_OK) status = read_shape(f, err);
    if (status == ADM_OK) status = take_layers(f, err);
    if (status == ADM_OK) status = read_softmax_scale(f, err);
    if (status == ADM_OK) status = read_positions(f, err);
    if (status == ADM_OK) status = check_tokens(f, err);
    if (status == ADM_OK && beside) start_hashing(f);
done:
    if (status != ADM_OK) adm_trace_close(&view);
    *out = view;
    return status;
}

adm_status adm_trace_open(const char *path, const adm_trace **out, adm_error *err) {
    adm_status status = adm_trace_open_early(path, false, out, err);
    if (status == ADM_OK) status = adm_trace_wait_for_hash(*out, err);
    if (status != ADM_OK) adm_trace_close(out);
    return status;
}

void adm_trace_close(const adm_trace **trace) {
    trace_file *f = (trace_file *)(uintptr_t)*trace;
    if (f == NULL) return;
    if (f->is_hashing) pthread_join(f->hasher, NULL);
    adm_safetensors_close(&f->st);
    adm_free(&f->path);
    adm_free(&f->found);
    adm_free(&f->layers);
    adm_free(&f->positions);
    adm_free(&f);
    *trace = NULL;
}

adm_status adm_trace_check_unchanged(const adm_trace *trace, adm_error *err) {
    return adm_input_check_unchanged(adm_safetensors_file(((const trace_file *)trace)->st), err);
}

const char *adm_trace_label(const adm_trace *trace) { return ((const trace_file *)trace)->label; }
