/* gpu.c: the stages on a GPU: how long each takes, and how far that is from what its bytes allow. */
#include "analysis/report/view/gpu/gpu.h"

#include <string.h>

#include "analysis/output/numbers.h"
#include "analysis/report/view/gpu/advice.h"
#include "analysis/report/view/document.h"
#include "analysis/report/view/profile.h"
#include "analysis/report/view/shards.h"
#include "analysis/report/view/write.h"
#include "core/contract/stage.h"

static bool profile_has_units(const json_t *document, size_t profile) {
    size_t i;
    json_t *unit;
    json_array_foreach(adm_document_rows(document, "units"), i, unit) if (adm_row_is_of(unit, profile)) return true;
    return false;
}

/* True if the profile has a stage other than `dense` in this setting. */
static bool is_of_setting(const json_t *document, const json_t *unit, const json_t *setting) {
    return adm_field_int(unit, "profile") == adm_field_int(setting, "profile") &&
           adm_setting_fits(setting, adm_row_config(document, unit));
}

static const char headline_titles[] = "<stage|<implementation|median, \u00b5s|\u00b1, %|p10, \u00b5s|p90, \u00b5s|n|floor, "
                                      "\u00b5s|% of limit";
static const char joined_headline_titles[] =
    "<stage|<implementation|median, \u00b5s|\u00b1, %|p10, \u00b5s|p90, \u00b5s|n|floor, \u00b5s|% of limit|<measured on";
static const char all_titles[] =
    "<stage|<implementation|length, tokens|budget, tokens|median, \u00b5s|\u00b1, %|p10, \u00b5s|p90, "
    "\u00b5s|n|floor, \u00b5s|% of limit|MB|Mflop|flop a byte";
static const char joined_titles[] =
    "<stage|<implementation|length, tokens|budget, tokens|median, \u00b5s|\u00b1, %|p10, \u00b5s|p90, "
    "\u00b5s|n|floor, \u00b5s|% of limit|MB|Mflop|flop a byte|<measured on";

static bool is_joined(const json_t *document, int64_t profile) {
    return adm_run_is_joined(document, adm_field_int(adm_profile(document, (size_t)profile), "run_id"));
}

/* A number; a dash where it cannot be computed. */
static void write_derived_cell(adm_text *page, bool is_there, double value) {
    if (!is_there) {
        adm_text_add(page, "<td>\u2013</td>");
        return;
    }
    adm_write_number_cell(page, value, "");
}

/* Below so many times the L2's size between two uses, some of the bytes may still be there: `adamas profile` says so too. */
#define COLD 2.0

/* The share of the read limit; with its interval where few timings are behind it. */
static void write_limit_cell(adm_text *page, const json_t *unit) {
    const adm_timing_spread spread = adm_row_spread(unit);
    double ratio;
    char precise[ADM_NUMBER_CHARS];
    if (spread.n >= ADM_RATIO_ENOUGH || !adm_field_number(unit, "limit_ratio", &ratio)) {
        adm_write_value_cell(page, unit, "limit_ratio", "ratio");
        return;
    }
    adm_precise_value(ratio, "ratio", precise);
    adm_text_format(page, "<td>%s<small>", precise);
    adm_write_ratio_interval(page, NULL, unit, ratio * spread.median * 100, 1);
    adm_text_add(page, "</small></td>");
}

static void write_unit(adm_text *page, const json_t *document, const json_t *unit, bool with_place, bool is_first) {
    const json_t *config = adm_row_config(document, unit);
    const json_t *device = json_object_get(adm_profile(document, (size_t)adm_field_int(unit, "profile")), "device");
    double bytes = 0, flops = 0, limit = 0, floor_ns, throttled, coldness;
    bool has_limit = adm_field_number(device, "read_limit_bytes_per_s", &limit) && limit > 0;
    bool has_bytes = adm_field_number(unit, "bytes", &bytes), has_flops = adm_field_number(unit, "flops", &flops);
    adm_write_row_start(page, is_first);
    adm_text_add(page, "<th scope=\"row\">");
    adm_text_escaped(page, adm_field_text(unit, "stage"));
    adm_text_add(page, "</th>");
    adm_text_add(page, "<td class=\"text\">");
    adm_text_escaped(page, adm_field_text(config, "variant"));
    if (adm_field_number(unit, "cold_l2_ratio", &coldness) && coldness < COLD)
        adm_text_format(page,
                        " <small title=\"%.1f times the L2 passes between two uses of the same bytes\">partly warm"
                        "</small>",
                        coldness);
    adm_text_add(page, "</td>");
    if (with_place) {
        adm_write_count_cell(page, config, "seq_len", "");
        adm_write_count_cell(page, config, "budget", "any");
    }
    if (strcmp(adm_field_text(unit, "status"), "ok") != 0) {
        adm_write_reason_cell(page, unit, 7);
    } else {
        adm_write_value_cell(page, unit, "median", "ns");
        adm_write_value_cell(page, unit, "median_ci_ratio", "ratio");
        adm_write_value_cell(page, unit, "p10", "ns");
        adm_write_value_cell(page, unit, "p90", "ns");
        if (adm_field_number(unit, "throttled_ratio", &throttled) && throttled > 0)
            adm_text_format(page, "<td title=\"throttled in %.0f%% of the readings\">%lld&nbsp;\u26a0</td>", throttled * 100,
                            (long long)adm_field_int(unit, "n"));
        else adm_write_count_cell(page, unit, "n", "");
        if (adm_field_number(unit, "floor_ns", &floor_ns)) adm_write_number_cell(page, floor_ns, "ns");
        else if (has_bytes && has_limit) adm_write_number_cell(page, bytes / limit * 1e9, "ns");
        else adm_text_add(page, "<td>\u2013</td>");
        write_limit_cell(page, unit);
    }
    if (with_place) {
        write_derived_cell(page, has_bytes, bytes / 1e6);
        write_derived_cell(page, has_flops, flops / 1e6);
        write_derived_cell(page, has_bytes && has_flops && bytes > 0, bytes > 0 ? flops / bytes : 0);
    }
    if (is_joined(document, adm_field_int(unit, "profile"))) adm_write_place_cell(page, unit);
    adm_text_add(page, "</tr>\n");
}

/* The rows of one length and budget (0: of every budget), stage by stage; returns how many. With `page` NULL counts only. */
static size_t write_units(adm_text *page, const json_t *document, const json_t *setting, int64_t seq_len, int64_t budget,
                          bool with_place) {
    size_t n = 0, i;
    json_t *unit;
    for (adm_stage s = 0; s < ADM_N_STAGES; s++) json_array_foreach(adm_document_rows(document, "units"), i, unit) {
            const json_t *config = adm_row_config(document, unit);
            int64_t b = adm_field_int(config, "budget");
            if (strcmp(adm_field_text(unit, "stage"), adm_stage_name(s)) != 0 || !is_of_setting(document, unit, setting) ||
                adm_field_int(config, "seq_len") != seq_len || (budget != 0 && b != 0 && b != budget))
                continue;
            if (page != NULL) write_unit(page, document, unit, with_place, with_place && n == 0);
            n++;
        }
    return n;
}

static void write_headline(adm_text *page, const json_t *document, size_t profile) {
    const json_t *headline = json_object_get(adm_profile(document, profile), "headline");
    if (headline == NULL) return;
    int64_t seq_len = adm_field_int(headline, "seq_len"), budget = adm_field_int(headline, "budget");
    const json_t *setting = json_array_get(adm_document_rows(document, "settings"), (size_t)adm_field_int(headline, "setting"));
    char shown_length[ADM_NUMBER_CHARS], shown_budget[ADM_NUMBER_CHARS];
    adm_shown_count(seq_len, shown_length);
    adm_shown_count(budget, shown_budget);
    adm_text_format(page,
                    "<div class=\"scroll\" tabindex=\"0\"><table class=\"stages\"><caption>One layer of one decode "
                    "step at %s cached tokens with a budget of %s: ",
                    shown_length, shown_budget);
    adm_text_escaped(page, adm_field_text(setting, "name"));
    adm_text_add(page, "</caption>\n");
    adm_write_setting_sql(page, document, setting);
    adm_write_table_head(page, is_joined(document, (int64_t)profile) ? joined_headline_titles : headline_titles);
    write_units(page, document, setting, seq_len, budget, false);
    adm_text_add(page, "</tbody></table></div>\n");
}

/* The next length after `last` among the setting's units; 0 if there is none. */
static int64_t next_length(const json_t *document, const json_t *setting, int64_t last) {
    int64_t next = 0;
    size_t i;
    json_t *unit;
    json_array_foreach(adm_document_rows(document, "units"), i, unit) {
        int64_t here = adm_field_int(adm_row_config(document, unit), "seq_len");
        if (here > last && (next == 0 || here < next) && is_of_setting(document, unit, setting)) next = here;
    }
    return next;
}

static void write_all(adm_text *page, const json_t *document, const json_t *setting, size_t number) {
    size_t n = 0;
    for (int64_t length = 0; (length = next_length(document, setting, length)) != 0;)
        n += write_units(NULL, document, setting, length, 0, true);
    if (n == 0) return;
    adm_text_format(page, "<div data-setting=\"%zu\">\n", number);
    adm_write_table_start(page, document, adm_field_text(setting, "name"), n, false, "time_ns");
    adm_write_setting_sql(page, document, setting);
    adm_write_table_head(page, is_joined(document, adm_field_int(setting, "profile")) ? joined_titles : all_titles);
    for (int64_t length = 0; (length = next_length(document, setting, length)) != 0;)
        write_units(page, document, setting, length, 0, true);
    adm_write_table_end(page);
    adm_text_add(page, "</div>\n");
}

static const adm_markup about = ADM_MARKUP_INIT(
    "<p class=\"about\">The floor is the time in which the bytes of the model (compulsory traffic) could be read at the read "
    "limit, and the percentage is floor over median; a stage far from it is held up by something else: launches, latency, "
    "arithmetic. <em>six</em> runs the six stages as kernels of their own, <em>fused</em> and <em>grouped</em> "
    "the whole step in one launch, <em>grouped</em> only where query heads share KV heads. \u00b1 is half the 95% "
    "interval of the median; \u26a0 marks what was timed while the device was throttled at times.</p>\n");

void adm_view_gpu_stages(adm_text *page, const json_t *document) {
    for (size_t profile = 0; profile < adm_n_profiles(document); profile++) {
        if (!profile_has_units(document, profile)) continue;
        adm_write_part_start(page, "gpu", profile);
        adm_write_profile_heading(page, document, profile);
        adm_write_profile_about(page, document, profile);
        write_headline(page, document, profile);
        adm_text_markup(page, about);
        adm_write_gpu_plot(
            page, "gpu-stages", profile,
            ADM_MARKUP("<strong>Six stages against fused</strong>: median time of one layer of one decode step. Left bars: "
                       "each stage timed alone, stacked, and what the six together take beyond that sum (launch gaps and "
                       "waiting). Right bars: the step in one launch, by its fastest variant. The number above is "
                       "the gain over dense attention."));
        adm_text_add(page,
                     "<h4>Every figure</h4>\n<p class=\"about\">A budget of \u201cany\u201d means that the stage does not "
                     "depend on it.</p>\n");
        size_t s;
        json_t *setting;
        json_array_foreach(adm_document_rows(document, "settings"), s, setting) if (adm_row_is_of(setting, profile))
            write_all(page, document, setting, s);
        adm_write_part_end(page);
    }
}

/* What the lines of the roofline are. */
static void write_ceilings(adm_text *page, const json_t *profile, double limit) {
    const json_t *ceilings = json_object_get(profile, "ceilings");
    double fp32, tensor;
    adm_text_format(page, "<p class=\"about\">Ceilings: reads %.2f TB/s, measured in the same run", limit / 1e12);
    if (adm_field_number(ceilings, "fp32_flops_per_s", &fp32) && adm_field_number(ceilings, "tensor_flops_per_s", &tensor))
        adm_text_format(page,
                        "; arithmetic %.1f Tflop/s on ordinary cores (FP32) and %.0f Tflop/s on tensor cores (FP16), computed "
                        "from %lld SMs at the highest clock",
                        fp32 / 1e12, tensor / 1e12, (long long)adm_field_int(ceilings, "n_sms"));
    else adm_text_add(page, "; arithmetic is not known for this GPU");
    adm_text_add(page, ".</p>\n");
}

void adm_view_roofline(adm_text *page, const json_t *document) {
    double limit;
    for (size_t profile = 0; profile < adm_n_profiles(document); profile++) {
        const json_t *device = json_object_get(adm_profile(document, profile), "device");
        if (!profile_has_units(document, profile) || !adm_field_number(device, "read_limit_bytes_per_s", &limit)) continue;
        adm_write_part_start(page, "gpu", profile);
        adm_write_profile_heading(page, document, profile);
        adm_write_gpu_plot(
            page, "roofline", profile,
            ADM_MARKUP("<strong>Roofline</strong>: the model\u2019s arithmetic per second against its arithmetic per byte. The "
                       "slope is the measured read limit: a point on it is as fast as its bytes allow. Labelled points have "
                       "the budget shown first, pale ones the others. The tables under <a href=\"#gpu\">Time</a> hold both "
                       "models."));
        write_ceilings(page, adm_profile(document, profile), limit);
        adm_view_distances(page, document, profile);
        adm_write_part_end(page);
    }
}
