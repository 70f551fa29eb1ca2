/* calibration.h: which coding suits which layer of a model: what `adamas calibrate` finds and a file says
 * (core/calibrate/calibration_file.h). */
#ifndef ADM_CORE_POLICY_CALIBRATION_H
#define ADM_CORE_POLICY_CALIBRATION_H

#include "core/policy/coding.h"

enum { ADM_CALIBRATION_MODEL_BYTES = 128, ADM_WEIGHTS_HASH_BYTES = 65 };

/* A layer's coding; all but metric and thresholds is as the model's default has it. */
typedef struct adm_calibration_layer {
    uint32_t number; /* the model's */
    adm_coding coding;
} adm_calibration_layer;

struct adm_calibration {
    char model[ADM_CALIBRATION_MODEL_BYTES]; /* "": not said */
    char weights_sha256[ADM_WEIGHTS_HASH_BYTES]; /* "": not said */
    adm_shape shape;
    adm_coding other;               /* of layers that are not listed */
    adm_calibration_layer *layer;   /* [n_layers], ascending by number; owned */
    size_t n_layers;
};

/* A coding of 2 bits with Hadamard, a selection per head and the newest token forced in; ADM_EINPUT says which of the two is
 * wrong. */
adm_status adm_calibration_coding_of(const char *metric, const char *thresholds, adm_coding *coding, adm_error *err);

/* What the model's layer is coded by. */
const adm_coding *adm_calibration_coding(const adm_calibration *calibration, uint32_t layer);

/* What the variant is called: metric and thresholds if all listed layers have the same, else the metrics in it; and 8 hex
 * digits that stand for every layer's: "asym4 scaled:0.9, calibration 1a2b3c4d", "l1+asym4, calibration ...". name:
 * ADM_CODING_NAME_BYTES. */
void adm_calibration_name(const adm_calibration *calibration, char *name);

/* ADM_EINPUT unless made for layers of this shape. path: of the calibration, for the message; input: what has the shape. */
adm_status adm_calibration_check(const adm_calibration *calibration, const char *path, const char *input,
                                 const adm_shape *shape, adm_error *err);

/* Frees the layers. */
void adm_calibration_clear(adm_calibration *calibration);

#endif
