/* expression.c: recursive descent over a manifest's formula; see expression.h. */
#include "kernels/tune/candidate/expression.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 32 };

typedef struct parser {
    const char *text, *at;
    const adm_name_value *names;
    size_t n_names;
    int depth;
    const char *wrong; /* NULL: nothing so far */
} parser;

static int64_t parse_sum(parser *p);

static void skip(parser *p) {
    while (isspace((unsigned char)*p->at)) p->at++;
}

static int64_t fail(parser *p, const char *what) {
    if (p->wrong == NULL) p->wrong = what;
    return 0;
}

static bool take(parser *p, char c) {
    skip(p);
    if (*p->at != c) return false;
    p->at++;
    return true;
}

static int64_t divide(parser *p, int64_t a, int64_t b, char how) {
    if (b == 0) return fail(p, "divides by 0");
    if (a == INT64_MIN && b == -1) return fail(p, "a number does not fit");
    if (how == '%') return a % b;
    return how == '/' ? a / b : a / b + (a % b > 0);
}

static int64_t parse_call(parser *p, const char *name, size_t length) {
    const int64_t a = parse_sum(p);
    if (!take(p, ',')) return fail(p, "a function takes two numbers");
    const int64_t b = parse_sum(p);
    if (!take(p, ')')) return fail(p, "a parenthesis is not closed");
    if (length == 3 && memcmp(name, "min", 3) == 0) return a < b ? a : b;
    if (length == 3 && memcmp(name, "max", 3) == 0) return a > b ? a : b;
    if (length == 4 && memcmp(name, "cdiv", 4) == 0) return divide(p, a, b, 'c');
    return fail(p, "the functions are min, max and cdiv");
}

static int64_t parse_name(parser *p) {
    const char *name = p->at;
    while (isalnum((unsigned char)*p->at) || *p->at == '_') p->at++;
    const size_t length = (size_t)(p->at - name);
    if (take(p, '(')) return parse_call(p, name, length);
    for (size_t i = 0; i < p->n_names; i++)
        if (strlen(p->names[i].name) == length && memcmp(p->names[i].name, name, length) == 0) return p->names[i].value;
    return fail(p, "a name is not known");
}

static int64_t parse_factor(parser *p) {
    if (++p->depth > MAX_DEPTH) return fail(p, "it is nested too deeply");
    int64_t value = 0;
    skip(p);
    if (take(p, '(')) {
        value = parse_sum(p);
        if (!take(p, ')')) fail(p, "a parenthesis is not closed");
    } else if (take(p, '-')) {
        if (__builtin_sub_overflow((int64_t)0, parse_factor(p), &value)) fail(p, "a number does not fit");
    } else if (isdigit((unsigned char)*p->at)) {
        char *end;
        value = strtoll(p->at, &end, 0);
        p->at = end;
    } else if (isalpha((unsigned char)*p->at) || *p->at == '_') value = parse_name(p);
    else fail(p, "a number or a name is missing");
    p->depth--;
    return value;
}

static int64_t parse_product(parser *p) {
    int64_t value = parse_factor(p);
    for (skip(p); p->wrong == NULL && *p->at != '\0' && strchr("*/%", *p->at) != NULL; skip(p)) {
        const char how = *p->at++;
        const int64_t other = parse_factor(p);
        if (how != '*') value = divide(p, value, other, how);
        else if (__builtin_mul_overflow(value, other, &value)) fail(p, "a number does not fit");
    }
    return value;
}

static int64_t parse_sum(parser *p) {
    int64_t value = parse_product(p);
    for (skip(p); p->wrong == NULL && (*p->at == '+' || *p->at == '-'); skip(p)) {
        const char how = *p->at++;
        const int64_t other = parse_product(p);
        if (how == '+' ? __builtin_add_overflow(value, other, &value) : __builtin_sub_overflow(value, other, &value))
            fail(p, "a number does not fit");
    }
    return value;
}

adm_status adm_expression_evaluate(const char *text, const adm_name_value *names, size_t n_names, int64_t *value,
                                   adm_error *err) {
    parser p = {.text = text, .at = text, .names = names, .n_names = n_names};
    *value = parse_sum(&p);
    skip(&p);
    if (p.wrong == NULL && *p.at != '\0') p.wrong = "something follows its end";
    return p.wrong == NULL ? ADM_OK : adm_fail(err, ADM_EINPUT, "the formula '%.120s': %s", text, p.wrong);
}
