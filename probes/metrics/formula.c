/* formula.c: evaluates a formula while it reads it, by recursive descent.
 *
 *     sum     = product { ("+" | "-") product }
 *     product = factor { ("*" | "/") factor }
 *     factor  = number | name | "(" sum ")" | "-" factor */
#include "probes/metrics/formula.h"

#include <ctype.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 64 }; /* of parentheses and signs: a set may come from anybody */

typedef struct reader {
    const char *text, *at;
    adm_formula_lookup *lookup;
    void *user;
    int depth;
    adm_error *err;
} reader;

static adm_status sum(reader *r, double *value);

static char next(reader *r) {
    while (*r->at == ' ') r->at++;
    return *r->at;
}

static adm_status refuse(reader *r, const char *wanted) {
    return adm_fail(r->err, ADM_EINPUT, "the formula '%.200s' has '%.20s' at character %zu, where %s must stand", r->text,
                    *r->at != '\0' ? r->at : "its end", (size_t)(r->at - r->text) + 1, wanted);
}

static bool in_name(char c) { return isalnum((unsigned char)c) || c == '_' || c == '.'; }

static adm_status factor(reader *r, double *value) {
    char c = next(r);
    adm_status status;
    if (r->depth == MAX_DEPTH) return refuse(r, "less nesting");
    if (c == '-' || c == '(') {
        r->at++;
        r->depth++;
        status = c == '-' ? factor(r, value) : sum(r, value);
        r->depth--;
        if (status != ADM_OK) return status;
        if (c == '-') *value = -*value;
        else if (next(r) != ')') return refuse(r, "')'");
        else r->at++;
        return ADM_OK;
    }
    const char *start = r->at;
    if (isdigit((unsigned char)c)) {
        while (isdigit((unsigned char)*r->at) || *r->at == '.') r->at++;
        char *end;
        *value = strtod(start, &end);
        if (end == r->at && !in_name(*r->at)) return ADM_OK;
        r->at = start;
        return refuse(r, "a decimal number");
    }
    if (!isalpha((unsigned char)c) && c != '_') return refuse(r, "a number, a name or '('");
    while (in_name(*r->at)) r->at++;
    return r->lookup(r->user, start, (size_t)(r->at - start), value, r->err);
}

static adm_status product(reader *r, double *value) {
    adm_status status = factor(r, value);
    for (char c; status == ADM_OK && ((c = next(r)) == '*' || c == '/');) {
        const char *operand = ++r->at;
        double right = 0;
        status = factor(r, &right);
        if (status == ADM_OK && c == '/' && right == 0)
            return adm_fail(r->err, ADM_EUNSUPPORTED, "its formula divides by %.*s, which is 0",
                            (int)(r->at - operand > 200 ? 200 : r->at - operand), operand + strspn(operand, " "));
        *value = c == '*' ? *value * right : *value / right;
    }
    return status;
}

static adm_status sum(reader *r, double *value) {
    adm_status status = product(r, value);
    for (char c; status == ADM_OK && ((c = next(r)) == '+' || c == '-');) {
        double right = 0;
        r->at++;
        status = product(r, &right);
        *value = c == '+' ? *value + right : *value - right;
    }
    return status;
}

adm_status adm_formula_evaluate(const char *formula, adm_formula_lookup *lookup, void *user, double *value, adm_error *err) {
    reader r = {.text = formula, .at = formula, .lookup = lookup, .user = user, .err = err};
    adm_status status = sum(&r, value);
    if (status == ADM_OK && next(&r) != '\0') return refuse(&r, "an operator or the end");
    if (status == ADM_OK && !isfinite(*value))
        return adm_fail(err, ADM_EUNSUPPORTED, "its formula '%.200s' gives no finite number", formula);
    return status;
}
