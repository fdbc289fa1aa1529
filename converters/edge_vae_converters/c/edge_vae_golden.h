/* Golden windows: what is expected of them stands in edge_vae_golden.c. Linked for the self-test alone. */
#ifndef EDGE_VAE_GOLDEN_H
#define EDGE_VAE_GOLDEN_H

#include <stdint.h>

#include "edge_vae_model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One model: memory for a run, and what it is given and gives for each golden window, int8_t or float. */
typedef struct {
  int is_int8;
  int32_t cells;  /* numbers of a window of this view, and of its reconstruction */
  int32_t latent; /* numbers of the posterior mean, and of its log variance */
  void *window, *condition, *reconstruction, *posterior_mean, *posterior_log_variance;
  const void *windows, *conditions, *reconstructions, *posterior_means, *posterior_log_variances;
} edge_vae_golden_model;

extern const float edge_vae_golden_windows[]; /* (EDGE_VAE_GOLDEN, length, channels) in sensor units */
extern const int32_t edge_vae_golden_modes[]; /* (EDGE_VAE_GOLDEN,) */
extern const float edge_vae_golden_scores[];
extern const float edge_vae_golden_shares[]; /* (EDGE_VAE_GOLDEN, channels) */
extern const double edge_vae_golden_centre[]; /* that a session of the golden samples, over and over, learns */
extern const double edge_vae_golden_scale[];
extern const edge_vae_golden_model edge_vae_golden_models[];

#ifdef __cplusplus
}
#endif

#endif
