/* The models of this machine, for any interpreter of TensorFlow Lite models. */
#ifndef EDGE_VAE_FLATBUFFERS_H
#define EDGE_VAE_FLATBUFFERS_H

#include <stdint.h>

#include "edge_vae_model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A model: its bytes, the arena it needs, and which input and output of the interpreter is what. */
typedef struct {
  const unsigned char *bytes;
  uint32_t count;
  uint32_t arena_bytes;
  int32_t window, condition;                                      /* inputs; -1: none */
  int32_t reconstruction, posterior_mean, posterior_log_variance; /* outputs */
} edge_vae_flatbuffer;

extern const edge_vae_flatbuffer edge_vae_flatbuffers[]; /* EDGE_VAE_MODELS of them */

#ifdef __cplusplus
}
#endif

#endif
