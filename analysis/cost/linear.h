/* linear.h: what a whole model's step takes beside decode attention: matrix products, attention of a prompt, and what ranks
 * exchange.
 *
 * Matrix products: what `adamas decode` measured of the model (metrics linear_layers_ns and rest_of_step_ns); else the share of
 * the read limit that the most similar measured model reached; with no model measured on that GPU the larger of two floors: the
 * weights' bytes at the measured read limit, and the arithmetic at a share of the data sheet's peak, which is an assumption and
 * not measured. */
#ifndef ADM_ANALYSIS_COST_LINEAR_H
#define ADM_ANALYSIS_COST_LINEAR_H

#include "analysis/cost/cost.h"
#include "core/contract/model.h"

/* All matrix products of one step: n_tokens through the layers, n_sampled rows through the output matrix. */
adm_cost_time adm_cost_linear(const adm_cost *cost, const adm_model *model, double compute_share, double n_tokens,
                              double n_sampled);

/* Norms, RoPE, sampling and gaps of a step, whose layers select tokens or are all dense: measured by `adamas decode`, else 0.
 * */
adm_cost_time adm_cost_rest(const adm_cost *cost, const adm_model *model, double n_tokens, bool sparse);

/* Attention of prompt chunks over all layers, dense: n_pairs of a query and a key that it sees, per head, and n_keys read. */
adm_cost_time adm_cost_prompt_attention(const adm_cost *cost, const adm_model *model, double compute_share, double n_pairs,
                                        double n_keys);

/* Two all-reduces a layer among the ranks, as a ring, at the copy rate; 0 with one rank. */
adm_cost_time adm_cost_exchange(const adm_cost *cost, const adm_model *model, double n_tokens);

/* ADM_EINPUT if the device lacks a figure that the model needs: the peak, or with several ranks the copy rate. */
adm_status adm_cost_linear_check(const adm_cost *cost, const adm_model *model, adm_error *err);

#endif
