/* merge_sound.c: whether a row of another file may be copied. */
#include "core/store/merge/merge_sound.h"

#include <ctype.h>
#include <string.h>

#include "core/base/printable.h"
#include "core/store/file/bounds.h"

/* --- Texts -------------------------------------------------------------------------------------------------------- */

static void is_sound_text(sqlite3_context *context, int n, sqlite3_value **value) {
    const char *text = sqlite3_value_type(value[0]) == SQLITE_TEXT ? (const char *)sqlite3_value_text(value[0]) : NULL;
    const size_t bytes = (size_t)sqlite3_value_bytes(value[0]);
    (void)n;
    sqlite3_result_int(context,
                       text != NULL && bytes <= ADM_STORE_MAX_TEXT_BYTES && strlen(text) == bytes && adm_is_utf8(text));
}

int adm_merge_sound_functions(sqlite3 *db) {
    return sqlite3_create_function_v2(db, "adm_is_sound_text", 1, SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_DIRECTONLY, NULL,
                                      is_sound_text, NULL, NULL, NULL);
}

/* --- Rows --------------------------------------------------------------------------------------------------------- */

/* A column whose CHECK lists its values needs no other test. Of a number in a column of the other type nothing is left to test:
 * the INSERT takes none. */
void adm_merge_sound_sql(sqlite3_str *text, const adm_merge_table *t) {
    for (int i = 0; i < t->n_columns; i++) {
        const adm_merge_column *c = &t->column[i];
        const adm_bounds b = adm_bounds_of(c->name);
        if (i > 0) sqlite3_str_appendall(text, " AND ");
        if (c->is_listed) {
            sqlite3_str_appendall(text, "1");
            continue;
        }
        sqlite3_str_appendf(text, c->is_never_null ? "(" : "(o.\"%w\" IS NULL OR ", c->name);
        if (c->is_text) sqlite3_str_appendf(text, "adm_is_sound_text(o.\"%w\"))", c->name);
        else if (c->is_real)
            sqlite3_str_appendf(text, "o.\"%w\" BETWEEN -1.7976931348623157e308 AND 1.7976931348623157e308)", c->name);
        else sqlite3_str_appendf(text, "o.\"%w\" BETWEEN %lld AND %lld)", c->name, (long long)b.low, (long long)b.high);
    }
    if (t->checks[0] != '\0') sqlite3_str_appendf(text, " AND %s", t->checks);
}

/* The bounds leave nothing but numbers in a column of reals, and is_sound_text() nothing but texts in one of texts. */
void adm_merge_exact_sql(sqlite3_str *text, const adm_merge_table *t) {
    for (int i = 0; i < t->n_columns; i++)
        if (!t->column[i].is_text && !t->column[i].is_real)
            sqlite3_str_appendf(text, " AND typeof(o.\"%w\") %s'integer'%s", t->column[i].name,
                                t->column[i].is_never_null ? "= " : "IN (", t->column[i].is_never_null ? "" : ", 'null')");
}

/* --- CHECKs of a schema ------------------------------------------------------------------------------------------- */

/* Behind the token that begins here: a text in quotes, a comment, a word, or one character. */
static const char *behind(const char *s) {
    if (*s == '\'' || *s == '"') {
        const char *end = strchr(s + 1, *s);
        return end != NULL ? end + 1 : s + strlen(s);
    }
    if (s[0] == '-' && s[1] == '-') return s + strcspn(s, "\n");
    if (!isalpha((unsigned char)*s)) return s + 1;
    while (isalnum((unsigned char)*s) || *s == '_') s++;
    return s;
}

/* The parenthesis that closes the one here. */
static const char *closing(const char *s) {
    int depth = 0;
    for (; *s != '\0'; s = behind(s)) {
        depth += (*s == '(') - (*s == ')');
        if (depth == 0) return s;
    }
    return NULL;
}

bool adm_merge_read_checks(const char *sql, char *out, size_t out_bytes) {
    size_t used = 0;
    out[0] = '\0';
    for (const char *next; *sql != '\0'; sql = next) {
        next = behind(sql);
        if (next - sql != 5 || strncmp(sql, "CHECK", 5) != 0) continue;
        const char *open = next + strspn(next, " \n"), *close = *open == '(' ? closing(open) : NULL;
        if (close == NULL) return false;
        const int length = (int)(close + 1 - open);
        if (used + (size_t)length + 32 > out_bytes) return false;
        sqlite3_snprintf((int)(out_bytes - used), out + used, "%s%.*s IS NOT FALSE", used > 0 ? " AND " : "", length, open);
        used += strlen(out + used);
        next = close + 1;
    }
    return true;
}
