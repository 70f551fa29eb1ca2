/* model_file.h: a model's shape by name, or from a config.json as Hugging Face models have one. */
#ifndef ADM_ANALYSIS_SERVING_MODEL_FILE_H
#define ADM_ANALYSIS_SERVING_MODEL_FILE_H

#include "core/contract/model.h"

/* A known name; else a file: hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, num_key_value_heads,
 * head_dim, vocab_size, tie_word_embeddings, and `ranks` (default 1), which is our own. ADM_EINPUT names the known models, or
 * what is wrong with the file. */
adm_status adm_model_read(const char *name, adm_model *model, adm_error *err);

#endif
