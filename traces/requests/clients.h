/* clients.h: requests that are sampled from what is known of clients, in the manner of ServeGen (github.com/alibaba/ServeGen):
 * each client has its own rate, burstiness and lengths. A JSON object per line:
 *
 *   {"rate": 0.8, "cv": 2.5, "pattern": "gamma", "duration": 3600, "start": 0,
 *    "input_tokens": {"512": 0.7, "8000": 0.3}, "output_tokens": {"mean": 300, "cv": 0.8}, "prefix_tokens": 256}
 *
 * rate: requests per second. pattern: how the gaps between them spread: `poisson` (cv 1), `gamma` and `weibull` with the
 * coefficient of variation cv, `bursty`: on for duration `on` at rate * (on + off) / on, then `off` seconds of silence.
 * Lengths: a table of tokens and weights, or a log-normal distribution by mean and cv. prefix_tokens (default 0): the first
 * tokens of each prompt are the client's own and the same in all. Sampled with +, -, *, / and square roots alone: a seed gives
 * the same requests everywhere. */
#ifndef ADM_TRACES_REQUESTS_CLIENTS_H
#define ADM_TRACES_REQUESTS_CLIENTS_H

#include <jansson.h>

#include "traces/requests/builder.h"

/* Samples the requests of the client in the present line, which also tells its random numbers from other clients'. */
adm_status adm_client_row(uint64_t seed, const adm_lines *lines, const json_t *client, adm_builder *builder, adm_error *err);

#endif
