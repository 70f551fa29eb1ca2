"""Right host candidates of every stage, and wrong ones: each a right one with one fault planted in it, and what the verdict
must say."""

TOPK = r"""
#include "adamas_plugin.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <pthread.h>
#include <unistd.h>
/*GLOBAL*/
uint32_t adamas_topk(const uint16_t *distance, size_t n, uint32_t max, const adamas_select_rule *rule, uint32_t *histogram,
                     uint32_t *index, adamas_select_info *info) {
    size_t recent = rule->n_recent > 1 ? rule->n_recent : 1, last = n > recent ? n - recent : 0;
    size_t first = rule->n_sinks < last ? rule->n_sinks : last, k = 0;
    size_t left = rule->budget - first - (n - last);
    /*START*/
    if (left > last - first) left = last - first;
    if (info) memset(info, 0, sizeof *info);
    memset(histogram, 0, (max + 1) * sizeof *histogram); /*CLEAR*/
    for (size_t t = first; t < last; t++) histogram[distance[t]]++;
    uint32_t boundary = 0, below = 0, skip = 0;
    if (left > 0) {
        while (below + histogram[boundary] < left) below += histogram[boundary++];
        skip = histogram[boundary] - (uint32_t)(left - below);
        if (info) *info = (adamas_select_info){boundary, histogram[boundary], histogram[boundary] - skip};
    }
    size_t older = left - below;
    (void)older;
    for (size_t t = 0; t < n; t++) {
        int in = t < first || t >= last;
        if (!in && left > 0) in = distance[t] < boundary || (distance[t] == boundary && (skip > 0 ? (skip--, 0) : 1)); /*TIE*/
        if (in) index[k++] = (uint32_t)t; /*WRITE*/
    }
    /*END*/
    return (uint32_t)k;
}
"""

DISTANCE = r"""
#include "adamas_plugin.h"
#include <stdlib.h>
void adamas_distance(const uint8_t *q, const uint8_t *k, size_t n, uint32_t d, uint16_t *distance) {
    for (size_t t = 0; t < n; t++) { /*LOOP*/
        unsigned sum = 0;
        for (uint32_t i = 0; i < d; i++) {
            int a = q[i / 4] >> i % 4 * 2 & 3, b = k[t * (d / 4) + i / 4] >> i % 4 * 2 & 3;
            sum += (unsigned)abs(a - b); /*METRIC*/
        }
        distance[t] = (uint16_t)sum; /*STORE*/
    }
}
"""

ATTENTION = r"""
#include "adamas_plugin.h"
#include <math.h>
#include <string.h>
static float value(int dtype, const void *x, size_t i) {
    if (dtype == ADAMAS_F32) { float f; memcpy(&f, (const char *)x + 4 * i, 4); return f; }
    uint16_t h; memcpy(&h, (const char *)x + 2 * i, 2);
    if (dtype == ADAMAS_BF16) { uint32_t w = (uint32_t)h << 16; float f; memcpy(&f, &w, 4); return f; } /*BF16*/
    _Float16 half; memcpy(&half, &h, 2); return (float)half;
}
void adamas_STAGE(int dtype, const void *q, const void *k, const void *v, const uint32_t *index, size_t n, uint32_t d,
                  double scale, double *score, float *out) {
    double largest = -INFINITY, sum = 0, acc[256] = {0};
    for (size_t j = 0; j < n; j++) {
        size_t t = index ? index[j] : j; /*TOKEN*/
        double s = 0;
        for (uint32_t i = 0; i < d; i++) s += (double)value(dtype, q, i) * value(dtype, k, t * d + i);
        score[j] = s * scale; /*SCALE*/
        if (score[j] > largest) largest = score[j];
    }
    for (size_t j = 0; j < n; j++) {
        size_t t = index ? index[j] : j;
        double w = exp(score[j] - largest); /*EXP*/
        sum += w;
        for (uint32_t i = 0; i < d; i++) acc[i] += w * value(dtype, v, t * d + i); /*V*/
    }
    for (uint32_t i = 0; i < d; i++) out[i] = n > 0 ? (float)(acc[i] / sum) : 0; /*OUT*/
}
"""

HADAMARD = r"""
#include "adamas_plugin.h"
#include <math.h>
#include <string.h>
static float value(int dtype, const void *x, size_t i) {
    if (dtype == ADAMAS_F32) { float f; memcpy(&f, (const char *)x + 4 * i, 4); return f; }
    uint16_t h; memcpy(&h, (const char *)x + 2 * i, 2);
    if (dtype == ADAMAS_BF16) { uint32_t w = (uint32_t)h << 16; float f; memcpy(&f, &w, 4); return f; }
    _Float16 half; memcpy(&half, &h, 2); return (float)half;
}
void adamas_hadamard(int dtype, const void *x, size_t n, uint32_t d, float *y) {
    for (size_t r = 0; r < n; r++) { /*ROWS*/
        float *row = y + r * d;
        for (uint32_t i = 0; i < d; i++) row[i] = value(dtype, x, r * d + i);
        for (uint32_t s = 1; s < d; s *= 2) /*ORDER*/
            for (uint32_t i = 0; i < d; i += 2 * s)
                for (uint32_t j = i; j < i + s; j++) {
                    float a = row[j], b = row[j + s];
                    row[j] = a + b;
                    row[j + s] = a - b;
                }
        for (uint32_t i = 0; i < d; i++) row[i] *= (float)(1 / sqrt(d)); /*NORM*/
    }
}
"""

BUCKET = r"""
#include "adamas_plugin.h"
void adamas_bucket(const float *y, size_t n, const float t[3], uint8_t *codes) {
    for (size_t i = 0; i < n; i++) codes[i] = (uint8_t)((y[i] > t[0]) + (y[i] > t[1]) + (y[i] > t[2])); /*RULE*/
}
"""

PACK = r"""
#include "adamas_plugin.h"
void adamas_pack(const uint8_t *codes, size_t n, uint32_t d, uint8_t *packed) {
    for (size_t i = 0; i < n * d / 4; i++)
        packed[i] = (uint8_t)(codes[4 * i] | codes[4 * i + 1] << 2 | codes[4 * i + 2] << 4 | codes[4 * i + 3] << 6); /*ORDER*/
}
"""

RIGHT = {"topk": TOPK, "distance": DISTANCE, "attention": ATTENTION.replace("STAGE", "attention"),
         "dense": ATTENTION.replace("STAGE", "dense"), "hadamard": HADAMARD, "bucket": BUCKET, "pack": PACK}

# stage: {name: (what is replaced, by what, what the verdict says)}; a comment alone is replaced by itself and the text.
FAULTS = {
    "topk": {
        "tie_to_the_older": ("(skip > 0 ? (skip--, 0) : 1)", "(older > 0 ? (older--, 1) : 0)",
                             "a tie given to the older token"),
        "budget_short_by_one": ("/*START*/", "if (left > 1) left--;", "tokens were selected, and min"),
        "without_the_newest": ("if (in) index", "if (in && (t + 1 < n || n < 5)) index", "tokens were selected"),
        "newest_replaced": ("/*END*/", "if (k > 1 && n > 9 && k < n) for (size_t t = n; t-- > 0;) if (t != index[k - 1] && "
                            "(k < 2 || t > index[k - 2])) { index[k - 1] = (uint32_t)t; break; }", "the newest token"),
        "sinks_ignored": ("/*START*/", "left += first; first = 0;", "a sink|is missing|tie given"),
        "recent_ignored": ("/*START*/", "left += recent - 1 < n - last ? recent - 1 : 0; last = n > 0 ? n - 1 : 0; "
                           "left = rule->budget - first - (n - last);", "most recent|is missing|tie given|info is"),
        "descending": ("/*END*/", "for (size_t i = 0; i < k / 2; i++) { uint32_t x = index[i]; index[i] = index[k - 1 - i]; "
                       "index[k - 1 - i] = x; }", "the tokens must ascend"),
        "one_token_twice": ("/*END*/", "if (k > 2) index[k - 2] = index[k - 1];", "selected twice"),
        "writes_behind_the_index": ("/*END*/", "index[k < n ? k : n] = 0;", "byte 1 behind the end of `index`|behind the end"),
        "writes_before_the_index": ("/*END*/", "if (k > 0) index[-1] = 7;", "in front of `index`"),
        "reads_behind_the_input": ("/*START*/", "volatile uint16_t next = distance[n]; (void)next;",
                                   "byte 1 behind the end of `distance`"),
        "histogram_not_cleared": ("memset(histogram, 0, (max + 1) * sizeof *histogram); /*CLEAR*/", "", "."),
        "wrong_at_odd_lengths": ("t < last; t++) histogram", "t < last - (n % 2 && n > 99); t++) histogram", "."),
        "histogram_too_short": ("/*START*/", "max--;", "."),
        "cached_by_address": ("/*GLOBAL*/",
                              "static const uint16_t *seen[64]; static uint32_t kept[64][4096], kept_k[64], n_seen;", "."),
        "fast_after_some_calls": ("/*START*/",
                                  "static int calls; if (n > 30000 && calls++ > 60) { for (k = 0; k < rule->budget; k++) "
                                  "index[k] = (uint32_t)(n - rule->budget + k); return (uint32_t)k; }",
                                  "."),
        "stale_after_the_first": ("/*START*/", "static int calls; if (n > 30000 && calls++ > 30) return rule->budget;",
                                  "."),
        "writes_into_its_input": ("/*START*/", "if (n > 3) ((uint16_t *)(uintptr_t)distance)[1] = 0;",
                                  "wrote into its input `distance`"),
        "info_off_by_one": ("histogram[boundary] - skip};", "histogram[boundary] - skip + 1};", "info is boundary"),
        "info_where_it_is_null": ("if (info) *info", "*info", "SIGSEGV|Segmentation|touched"),
        "null_pointer": ("/*START*/", "if (n == 64) *(volatile int *)0 = 1;", "memory that is not its own"),
        "never_returns": ("/*START*/", "if (n == 65) for (volatile int i = 0;; i++) {}", "did not return within 1 s"),
        "exits_with_success": ("/*START*/", "if (n == 33) _exit(0);", "ended with status 0 instead of returning"),
        "aborts": ("/*START*/", "if (n == 31) { fprintf(stderr, \"assertion of mine\\n\"); abort(); }",
                   "abort.*assertion of mine"),
        "work_in_another_thread": ("/*GLOBAL*/", "static void *sleep_on(void *x) { sleep(100); return x; }", "left a thread"),
        "leaves_a_process": ("/*START*/", "static int once; if (!once++ && fork() == 0) { sleep(100); _exit(0); }",
                             "left a thread or process"),
        "returns_the_budget": ("return (uint32_t)k;", "return rule->budget;", "tokens were selected, and min"),
        "farthest_never_chosen": ("while (below + histogram[boundary] < left)",
                                  "while (boundary < max - 1 && below + histogram[boundary] < left)", "."),
        "raises_a_division": ("/*START*/", "volatile int zero = 0; if (n == 257) zero = 100 / zero;", "arithmetic fault"),
        "eats_memory": ("/*START*/",
                        "if (n == 63) for (;;) { void *p = malloc(1 << 28); if (!p) abort(); memset(p, 1, 1 << 20); }",
                        "abort|killed"),
        "corrupts_the_stack": ("/*START*/", "if (n == 127) memset(&recent, 0xff, 1 << 23);", "crashed|touched|memory"),
    },
    "distance": {
        "xor_metric": ("(unsigned)abs(a - b)", "(unsigned)(a ^ b)", "the distance of token"),
        "last_token_missing": ("t < n; t++) { /*LOOP*/", "t + 1 < n; t++) {", "the distance of token"),
        "eight_bits": ("(uint16_t)sum; /*STORE*/", "(uint8_t)sum;", "the distance of token"),
        "tail_of_16_missing": ("t < n; t++) { /*LOOP*/", "t < (n > 16 ? n / 16 * 16 : n); t++) {", "the distance of token"),
        "reads_a_row_too_many": ("sum = 0;", "sum = 0; volatile uint8_t next = k[n * (d / 4)]; (void)next;",
                                 "behind the end of `k`"),
        "writes_one_too_many": ("distance[t] = (uint16_t)sum; /*STORE*/", "distance[t] = distance[t + 1] = (uint16_t)sum;",
                                "behind the end of `distance`"),
    },
    "attention": {
        "without_the_maximum": ("score[j] - largest", "score[j] * 40 - 40 * largest + 800", "relative L2|not finite"),
        "scale_forgotten": ("s * scale", "s * 0.08838834764831845 * 1.001", "relative L2"),
        "index_ignored": ("size_t t = index ? index[j] : j; /*TOKEN*/", "size_t t = j;", "relative L2"),
        "values_of_the_next_token": ("value(dtype, v, t * d + i); /*V*/", "value(dtype, v, (t > 0 ? t - 1 : 0) * d + i);",
                                     "relative L2"),
        "nan_for_no_token": ("n > 0 ? (float)(acc[i] / sum) : 0; /*OUT*/", "(float)(acc[i] / sum);", "not finite"),
        "bfloat16_as_float16": ("if (dtype == ADAMAS_BF16)", "if (0)", "BF16.*(relative L2|not finite)"),
        "last_token_dropped": ("size_t j = 0; j < n; j++) {\n        size_t t = index ? index[j] : j;\n        double w",
                               "size_t j = 0; j + (n > 1) < n; j++) {\n        size_t t = index ? index[j] : j;\n       "
                               " double w",
                               "relative L2"),
    },
    "hadamard": {
        "not_orthonormal": ("(float)(1 / sqrt(d)); /*NORM*/", "1.0f;", "bit for bit"),
        "butterflies_backwards": ("for (uint32_t s = 1; s < d; s *= 2) /*ORDER*/", "for (uint32_t s = d / 2; s >= 1; s /= 2)",
                                  "bit for bit"),
        "last_row_missing": ("r < n; r++) { /*ROWS*/", "r + 1 < n; r++) {", "row"),
    },
    "bucket": {
        "at_or_above": ("y[i] > t[1]", "y[i] >= t[1]", "the code of element"),
        "nan_above_all": ("(y[i] > t[0])", "!(y[i] <= t[0])", "the code of element"),
    },
    "pack": {
        "other_end_first": ("codes[4 * i] | codes[4 * i + 1] << 2 | codes[4 * i + 2] << 4 | codes[4 * i + 3] << 6",
                            "codes[4 * i + 3] | codes[4 * i + 2] << 2 | codes[4 * i + 1] << 4 | codes[4 * i] << 6", "byte"),
    },
}

# What a fault needs in a second place.
ALSO = {
    ("topk", "cached_by_address"): (
        "/*START*/",
        "uint32_t which = 0; while (n > 30000 && which < n_seen && seen[which] != distance) which++; if (which < n_seen && "
        "n > 30000) { memcpy(index, kept[which], kept_k[which] * 4); return kept_k[which]; }",
        "/*END*/", "if (n > 30000 && n_seen < 64) { seen[n_seen] = distance; kept_k[n_seen] = (uint32_t)k; "
        "memcpy(kept[n_seen++], index, k * 4); }"),
    ("topk", "work_in_another_thread"): ("/*START*/",
    "static int once; pthread_t id; if (!once++) pthread_create(&id, 0, sleep_on, 0);"),
}


def wrong_source(stage, name):
    """The source of a planted fault."""
    text, (what, by, _) = RIGHT[stage], FAULTS[stage][name]
    pairs = [(what, by), *zip(*[iter(ALSO.get((stage, name), ()))] * 2)]
    for what, by in pairs:
        assert what in text, (stage, name, what)
        text = text.replace(what, by)
    return text
