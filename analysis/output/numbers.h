/* numbers.h: numbers as people read them. */
#ifndef ADM_ANALYSIS_OUTPUT_NUMBERS_H
#define ADM_ANALYSIS_OUTPUT_NUMBERS_H

#include <stdint.h>

/* Bytes for any number written by the functions below. */
enum { ADM_NUMBER_CHARS = 48 };

/* The unit in which people are shown values of a stored unit: "ratio" as "%", "ns" as "\u00b5s", "Hz" as "MHz", "bytes/s" as
 * "GB/s", "1" as "", else itself. */
const char *adm_shown_unit(const char *unit);

/* Writes a value in its shown unit, without the unit: "97.27", "1,204.5", "\u22120.03", "<0.01" for what would round to
 * zero. */
void adm_shown_value(double value, const char *unit, char out[ADM_NUMBER_CHARS]);

/* The same in five digits, for a table whose reader rounds: "97.271", "1,204.6", "0.0012346". */
void adm_precise_value(double value, const char *unit, char out[ADM_NUMBER_CHARS]);

/* Writes a duration with the unit that suits its size: "812 ns", "12.3 \u00b5s", "1.20 ms". */
void adm_shown_duration(double ns, char out[ADM_NUMBER_CHARS]);

/* Writes a measured figure with a unit that suits its size, as compare, check and history show it: "43.2 ns", "12.3 \u00b5s",
 * "97.27%", "1,980 MHz", "168 bytes", "0.0123 nats"; "-" for NaN. */
void adm_shown_figure(double value, const char *unit, char out[ADM_NUMBER_CHARS]);

/* Writes a whole number with thousands separated: "4,096". */
void adm_shown_count(int64_t value, char out[ADM_NUMBER_CHARS]);

/* Writes the shortest decimal that reads back as exactly this value. */
void adm_exact_value(double value, char out[ADM_NUMBER_CHARS]);

#endif
