/* suggest.c: edit distance between short words. */
#include "core/base/suggest.h"

#include <stdio.h>
#include <string.h>

#include "core/base/printable.h"

enum {
    MAX_WORD = 63,    /* longer words have no neighbour: options are short */
    MIN_BEGINNING = 3 /* letters that tell which word was begun */
};

static size_t edits(const char *a, size_t n_a, const char *b, size_t n_b) {
    size_t row[3][MAX_WORD + 1]; /* distances of a's first i - 2, i - 1 and i letters to every beginning of b */
    for (size_t j = 0; j <= n_b; j++) row[1][j] = j;
    for (size_t i = 1; i <= n_a; i++) {
        size_t *const before = row[(i + 2) % 3], *const last = row[i % 3], *const now = row[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= n_b; j++) {
            size_t best = last[j - 1] + (a[i - 1] != b[j - 1]);
            if (last[j] + 1 < best) best = last[j] + 1;
            if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
    }
    return row[(n_a + 1) % 3][n_b];
}

static size_t n_common(const char *a, const char *b) {
    size_t n = 0;
    while (a[n] != '\0' && a[n] == b[n]) n++;
    return n;
}

const char *adm_nearest(const char *typed, const char *const *known, size_t n_known) {
    const size_t length = strlen(typed);
    const char *nearest = NULL, *longer = NULL;
    size_t min_edits = 0;
    if (length == 0 || length > MAX_WORD) return NULL;
    for (size_t i = 0; i < n_known; i++) {
        if (known[i] == NULL) continue;
        const size_t n = strlen(known[i]);
        if (longer == NULL && length >= MIN_BEGINNING && n_common(typed, known[i]) == length) longer = known[i];
        if (n > MAX_WORD) continue;
        const size_t distance = edits(typed, length, known[i], n);
        if (distance > 1 && 3 * distance > n) continue;
        if (nearest != NULL && distance > min_edits) continue;
        if (nearest != NULL && distance == min_edits && n_common(typed, known[i]) <= n_common(typed, nearest)) continue;
        nearest = known[i];
        min_edits = distance;
    }
    return nearest != NULL ? nearest : longer;
}

const char *adm_did_you_mean_with(const char *prefix, const char *typed, const char *const *known, size_t n_known,
                                  char text[ADM_DID_YOU_MEAN_BYTES]) {
    const char *nearest = adm_nearest(typed, known, n_known);
    text[0] = '\0';
    if (nearest != NULL) snprintf(text, ADM_DID_YOU_MEAN_BYTES, "; did you mean '%.4s%.66s'?", prefix, nearest);
    return text;
}

const char *adm_did_you_mean(const char *typed, const char *const *known, size_t n_known, char text[ADM_DID_YOU_MEAN_BYTES]) {
    return adm_did_you_mean_with("", typed, known, n_known, text);
}

adm_status adm_refuse_word(const char *option, const char *typed, const char *const *known, size_t n_known, adm_error *err) {
    char all[400] = "", meant[ADM_DID_YOU_MEAN_BYTES], shown[80];
    for (size_t i = 0, used = 0; i < n_known && used < sizeof all; i++)
        used += (size_t)snprintf(all + used, sizeof all - used, "%s%s", i > 0 ? ", " : "", known[i]);
    adm_did_you_mean(typed, known, n_known, meant);
    return adm_fail(err, ADM_EINPUT, "%s: '%s' is not known%s%s %s", option, adm_printable(typed, shown, sizeof shown), meant,
                    meant[0] != '\0' ? " There are" : "; there are", all);
}
