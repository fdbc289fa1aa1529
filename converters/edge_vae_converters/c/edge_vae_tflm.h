/* The models of edge_vae_model.h on TensorFlow Lite Micro. */
#ifndef EDGE_VAE_TFLM_H
#define EDGE_VAE_TFLM_H

#include "edge_vae.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Runners for edge_vae_init, EDGE_VAE_MODELS of them; NULL where the interpreter refuses a model or its arena is too
 * small. Call it once. Writes to `used_bytes` what the interpreters keep of their arenas; while they start they need
 * more. */
const edge_vae_runner *edge_vae_tflm_runners(uint32_t used_bytes[EDGE_VAE_MODELS]);

#ifdef __cplusplus
}
#endif

#endif
