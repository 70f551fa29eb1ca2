/* squeeze.c: leaves out of a view's markup what HTML does not need. */
#include "analysis/report/squeeze.h"

#include <stdbool.h>
#include <string.h>

/* Columns beyond these keep their classes; styles.css has a rule per column. */
enum { MAX_COLUMNS = 16 };

/* Where in a table the markup is. Bit c: the c-th column's heading is of text. */
typedef struct place {
    bool in_head;
    unsigned column, text_columns;
} place;

static void keep(adm_text *out, const char *from, const char *to) {
    if (to > from) adm_text_markup(out, (adm_markup){from, (size_t)(to - from)});
}

static bool begins(const char *at, const char *end, const char *word) {
    const size_t n = strlen(word);
    return (size_t)(end - at) >= n && strncmp(at, word, n) == 0;
}

/* End tags that HTML lets out where the next cell, row or list entry, or the end of the table, says it all. */
static size_t needless(const char *at, const char *end) {
    static const char *const tags[] = {"</td>", "</th>", "</tr>", "</tbody>", "</thead>", "</li>", "</dt>", "</dd>"};
    if (begins(at, end, "\n<")) return 1;
    for (size_t i = 0; i < sizeof tags / sizeof tags[0]; i++)
        if (begins(at, end, tags[i])) return strlen(tags[i]);
    return 0;
}

/* Whether a value needs no quotes. A '/' at its end would look like the end of the tag. */
static bool is_plain(const char *value, const char *end) {
    for (const char *at = value; at < end; at++)
        if (strchr(" \t\n\f\r\"'=<>`/", *at) != NULL) return false;
    return end > value;
}

/* How many bytes of a cell's attribute to leave out: all of it, or none. */
static size_t spared(const char *at, const char *end, const place *p, bool is_heading) {
    const bool is_known = p->column >= 2 && p->column <= MAX_COLUMNS && (p->text_columns >> p->column & 1) != 0;
    if (p->in_head) return 0;
    if (is_heading) return p->column == 1 && begins(at, end, " scope=\"row\"") ? strlen(" scope=\"row\"") : 0;
    return is_known && begins(at, end, " class=\"text\"") ? strlen(" class=\"text\"") : 0;
}

/* The attributes of a tag, from behind its name to its '>'. */
static void squeeze_attributes(adm_text *out, const char *at, const char *end, const place *p, bool is_cell, bool is_heading) {
    while (at < end) {
        const size_t n = is_cell ? spared(at, end, p, is_heading) : 0;
        const char *open = memchr(at, '"', (size_t)(end - at));
        const char *close = open != NULL ? memchr(open + 1, '"', (size_t)(end - open - 1)) : NULL;
        if (n > 0) {
            at += n;
        } else if (close == NULL) {
            keep(out, at, end);
            at = end;
        } else {
            const bool plain = is_plain(open + 1, close);
            keep(out, at, open + !plain);
            keep(out, open + 1, close + !plain);
            at = close + 1;
        }
    }
}

/* Where a tag ends: at the '>' that is in no quotes. */
static const char *tag_end(const char *at, const char *end) {
    bool quoted = false;
    for (; at < end && (*at != '>' || quoted); at++) quoted ^= *at == '"';
    return at;
}

/* Follows the table that a tag is of. */
static void follow(place *p, const char *tag, const char *end, bool is_cell) {
    if (begins(tag, end, "<table")) *p = (place){0};
    else if (begins(tag, end, "<thead")) p->in_head = true;
    else if (begins(tag, end, "<tbody")) p->in_head = false;
    else if (begins(tag, end, "<tr")) p->column = 0;
    if (!is_cell) return;
    p->column++;
    bool is_text = false;
    for (const char *at = tag; at < end && !is_text; at++) is_text = begins(at, end, " class=\"text");
    if (p->in_head && is_text && p->column <= MAX_COLUMNS) p->text_columns |= 1u << p->column;
}

/* The class of a body: the columns that are of text. The first is a heading, and of text anyway. */
static void write_text_columns(adm_text *out, const place *p) {
    bool any = false;
    for (unsigned c = 2; c <= MAX_COLUMNS; c++) {
        if ((p->text_columns >> c & 1) == 0) continue;
        adm_text_markup(out, any ? ADM_MARKUP(" ") : ADM_MARKUP(" class=\""));
        adm_text_format(out, "t%u", c);
        any = true;
    }
    if (any) adm_text_add(out, "\"");
}

static const char *squeeze_tag(adm_text *out, const char *at, const char *end, place *p) {
    const char *close = tag_end(at, end);
    const bool is_heading = begins(at, close, "<th ") || begins(at, end, "<th>");
    const bool is_cell = is_heading || begins(at, close, "<td ") || begins(at, end, "<td>");
    const char *name_end = at;
    while (name_end < close && *name_end != ' ') name_end++;
    follow(p, at, close, is_cell);
    keep(out, at, name_end);
    if (begins(at, end, "<tbody>")) write_text_columns(out, p);
    squeeze_attributes(out, name_end, close, p, is_cell, is_heading);
    if (close < end) adm_text_add(out, ">");
    return close < end ? close + 1 : end;
}

void adm_squeeze(adm_text *out, const adm_text *markup) {
    const char *at = markup->data, *end = markup->data + markup->length;
    place p = {0};
    while (at < end) {
        const size_t n = needless(at, end);
        if (n > 0) {
            at += n;
        } else if (*at == '<') {
            at = squeeze_tag(out, at, end, &p);
        } else {
            const char *words = at;
            while (at < end && *at != '<' && needless(at, end) == 0) at++;
            keep(out, words, at);
        }
    }
}
