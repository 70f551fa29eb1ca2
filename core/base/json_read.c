/* json_read.c: a recursive reader; one buffer as long as the text holds the strings that are being read. */
#include "core/base/json_read.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/mem.h"
#include "core/base/printable.h"

typedef struct reader {
    const char *text, *at, *end;
    char *strings; /* [end - text + 1]: a decoded string is shorter than its source with quotes */
    size_t n_strings;
    int depth;
    adm_json_fault *fault;
} reader;

static void *fail(reader *r, const char *what) {
    if (r->fault->text[0] == '\0') snprintf(r->fault->text, sizeof r->fault->text, "%s", what);
    return NULL;
}

static void *no_memory(reader *r) {
    r->fault->no_memory = true;
    return fail(r, "out of memory");
}

static char peek(reader *r) {
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\t' || *r->at == '\r')) r->at++;
    return r->at < r->end ? *r->at : '\0';
}

static bool take(reader *r, char c) {
    if (r->at == r->end || *r->at != c) return false;
    r->at++;
    return true;
}

/* --- Strings ------------------------------------------------------------------------------------------------------ */

static bool read_hex(reader *r, uint32_t *code) {
    *code = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        const char *digits = "0123456789abcdef0123456789ABCDEF";
        const char *found = r->at < r->end && *r->at != '\0' ? strchr(digits, *r->at) : NULL;
        if (found == NULL) return false;
        *code = *code << 4 | (uint32_t)((found - digits) & 15);
    }
    return true;
}

static void put_code(reader *r, uint32_t c) {
    char *out = r->strings + r->n_strings;
    size_t n = 0;
    if (c < 0x80) {
        out[n++] = (char)c;
    } else if (c < 0x800) {
        out[n++] = (char)(0xc0 | c >> 6);
    } else if (c < 0x10000) {
        out[n++] = (char)(0xe0 | c >> 12);
        out[n++] = (char)(0x80 | (c >> 6 & 0x3f));
    } else {
        out[n++] = (char)(0xf0 | c >> 18);
        out[n++] = (char)(0x80 | (c >> 12 & 0x3f));
        out[n++] = (char)(0x80 | (c >> 6 & 0x3f));
    }
    if (c >= 0x80) out[n++] = (char)(0x80 | (c & 0x3f));
    r->n_strings += n;
}

/* Behind "\u". */
static bool read_unicode(reader *r) {
    uint32_t code, low;
    if (!read_hex(r, &code)) return fail(r, "an escape of four hexadecimal digits is expected") != NULL;
    if (code >= 0xd800 && code < 0xdc00) {
        if (!take(r, '\\') || !take(r, 'u') || !read_hex(r, &low) || low < 0xdc00 || low > 0xdfff)
            return fail(r, "half of a surrogate pair") != NULL;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code >= 0xdc00 && code < 0xe000) {
        return fail(r, "half of a surrogate pair") != NULL;
    }
    if (code == 0) return fail(r, "\\u0000 is not taken") != NULL;
    put_code(r, code);
    return true;
}

static bool read_escape(reader *r) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (take(r, 'u')) return read_unicode(r);
    const char *found = r->at < r->end && *r->at != '\0' ? strchr(from, *r->at) : NULL;
    if (found == NULL) return fail(r, "an unknown escape") != NULL;
    r->strings[r->n_strings++] = to[found - from];
    r->at++;
    return true;
}

static bool copy_character(reader *r) {
    char bytes[5] = {0};
    size_t left = (size_t)(r->end - r->at);
    memcpy(bytes, r->at, left < 4 ? left : 4);
    size_t n = (unsigned char)bytes[0] < 0x20 ? 0 : adm_utf8_length(bytes);
    if (n == 0) return fail(r, (unsigned char)bytes[0] < 0x20 ? "a control character in a string" : "invalid UTF-8") != NULL;
    memcpy(r->strings + r->n_strings, bytes, n);
    r->n_strings += n;
    r->at += n;
    return true;
}

/* The string behind the quote that was taken; stays in the buffer until n_strings is set back. */
static char *read_string(reader *r) {
    char *string = r->strings + r->n_strings;
    while (!take(r, '"')) {
        if (r->at == r->end) return fail(r, "a string without an end");
        if (!(take(r, '\\') ? read_escape(r) : copy_character(r))) return NULL;
    }
    r->strings[r->n_strings++] = '\0';
    return string;
}

/* --- Numbers and words ---------------------------------------------------------------------------------------------- */

static size_t skip_digits(reader *r) {
    const char *start = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') r->at++;
    return (size_t)(r->at - start);
}

static json_t *number_of(reader *r, const char *digits, bool is_real) {
    errno = 0;
    json_t *value;
    if (is_real) {
        double real = strtod(digits, NULL);
        if (isinf(real)) return fail(r, "a real number that is too big");
        value = json_real(real);
    } else {
        long long whole = strtoll(digits, NULL, 10);
        if (errno == ERANGE) return fail(r, "a whole number that is too big");
        value = json_integer(whole);
    }
    return value != NULL ? value : no_memory(r);
}

static json_t *read_number(reader *r) {
    const char *start = r->at;
    char digits[ADM_JSON_MAX_NUMBER_CHARS + 1];
    bool is_real = false;
    take(r, '-');
    const char *first = r->at;
    size_t n = skip_digits(r);
    if (n == 0 || (n > 1 && *first == '0')) return fail(r, "an invalid number");
    if (take(r, '.')) {
        is_real = true;
        if (skip_digits(r) == 0) return fail(r, "an invalid number");
    }
    if (take(r, 'e') || take(r, 'E')) {
        is_real = true;
        if (!take(r, '-')) take(r, '+');
        if (skip_digits(r) == 0) return fail(r, "an invalid number");
    }
    n = (size_t)(r->at - start);
    if (n >= sizeof digits) return fail(r, "a number of too many characters");
    memcpy(digits, start, n);
    digits[n] = '\0';
    return number_of(r, digits, is_real);
}

static json_t *read_word(reader *r) {
    static const struct {
        const char *word;
        json_t *(*make)(void);
    } words[] = {{"true", json_true}, {"false", json_false}, {"null", json_null}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        size_t n = strlen(words[i].word);
        if ((size_t)(r->end - r->at) < n || memcmp(r->at, words[i].word, n) != 0) continue;
        r->at += n;
        return words[i].make();
    }
    return fail(r, "a value is expected");
}

/* --- Arrays and objects --------------------------------------------------------------------------------------------- */

static json_t *read_value(reader *r);

static bool read_elements(reader *r, json_t *array) {
    r->at++;
    if (peek(r) == ']') return take(r, ']');
    for (;;) {
        json_t *value = read_value(r);
        if (value == NULL) return false;
        if (json_array_append_new(array, value) != 0) return no_memory(r) != NULL;
        if (peek(r) == ']') return take(r, ']');
        if (!take(r, ',')) return fail(r, "',' or ']' is expected") != NULL;
    }
}

static bool read_member(reader *r, json_t *object) {
    size_t before = r->n_strings;
    peek(r);
    if (!take(r, '"')) return fail(r, "a key in quotes or '}' is expected") != NULL;
    const char *key = read_string(r);
    if (key == NULL) return false;
    if (json_object_get(object, key) != NULL) return fail(r, "a duplicate key of an object") != NULL;
    peek(r);
    if (!take(r, ':')) return fail(r, "':' is expected") != NULL;
    json_t *value = read_value(r);
    if (value == NULL) return false;
    if (json_object_set_new_nocheck(object, key, value) != 0) return no_memory(r) != NULL;
    r->n_strings = before;
    return true;
}

static bool read_members(reader *r, json_t *object) {
    r->at++;
    if (peek(r) == '}') return take(r, '}');
    for (;;) {
        if (!read_member(r, object)) return false;
        if (peek(r) == '}') return take(r, '}');
        if (!take(r, ',')) return fail(r, "',' or '}' is expected") != NULL;
    }
}

static json_t *read_container(reader *r, char opening) {
    if (r->depth == ADM_JSON_MAX_DEPTH) return fail(r, "arrays and objects that are nested too deep");
    json_t *made = opening == '{' ? json_object() : json_array();
    if (made == NULL) return no_memory(r);
    r->depth++;
    bool done = opening == '{' ? read_members(r, made) : read_elements(r, made);
    r->depth--;
    if (done) return made;
    json_decref(made);
    return NULL;
}

static json_t *read_value(reader *r) {
    char c = peek(r);
    if (c == '{' || c == '[') return read_container(r, c);
    if (c == '-' || (c >= '0' && c <= '9')) return read_number(r);
    if (c != '"') return read_word(r);
    size_t before = r->n_strings;
    r->at++;
    const char *string = read_string(r);
    if (string == NULL) return NULL;
    json_t *value = json_string_nocheck(string);
    r->n_strings = before;
    return value != NULL ? value : no_memory(r);
}

json_t *adm_json_read(const char *text, size_t n, adm_json_fault *fault) {
    *fault = (adm_json_fault){.line = 1};
    reader r = {.text = text, .at = text, .end = text + n, .fault = fault};
    json_t *root = NULL;
    if (adm_alloc(&r.strings, n + 8, 1, "a JSON text", NULL) != ADM_OK) {
        no_memory(&r);
        return NULL;
    }
    char c = peek(&r);
    if (c != '{' && c != '[') fail(&r, "'{' or '[' is expected");
    else root = read_container(&r, c);
    if (root != NULL && (peek(&r), r.at != r.end)) {
        fail(&r, "something follows the end");
        json_decref(root);
        root = NULL;
    }
    fault->at = (size_t)(r.at - text);
    for (const char *line = text; root == NULL && line < r.at; line++) fault->line += *line == '\n';
    adm_free(&r.strings);
    return root;
}

json_t *adm_json_read_file(FILE *file, size_t n, adm_json_fault *fault) {
    char *text = NULL;
    json_t *root = NULL;
    *fault = (adm_json_fault){.line = 1};
    if (adm_alloc(&text, n + 1, 1, "a JSON file", NULL) != ADM_OK) {
        fault->no_memory = true;
        snprintf(fault->text, sizeof fault->text, "out of memory");
    } else if (fread(text, 1, n, file) != n) {
        fault->error = ferror(file) ? errno : 0;
        fault->no_memory = fault->error == ENOMEM;
        snprintf(fault->text, sizeof fault->text, "%s",
                 fault->error != 0 ? strerror(fault->error) : "it could not be read to its end");
    } else {
        root = adm_json_read(text, n, fault);
    }
    adm_free(&text);
    return root;
}

json_t *adm_json_read_path(const char *path, size_t most_bytes, adm_json_fault *fault) {
    struct stat info;
    *fault = (adm_json_fault){.line = 0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe is not waited for */
    FILE *file = fd >= 0 ? fdopen(fd, "rb") : NULL;
    json_t *root = NULL;
    if (file == NULL) {
        fault->error = errno;
        fault->no_memory = errno == ENOMEM;
        snprintf(fault->text, sizeof fault->text, "%s", strerror(errno));
        if (fd >= 0) close(fd);
        return NULL;
    }
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) snprintf(fault->text, sizeof fault->text, "is no regular file");
    else if ((uint64_t)info.st_size > most_bytes)
        snprintf(fault->text, sizeof fault->text, "has more than %zu bytes", most_bytes);
    else root = adm_json_read_file(file, (size_t)info.st_size, fault);
    fclose(file);
    return root;
}
