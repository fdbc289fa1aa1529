/* What edge_vae.c reads: the numbers of one bundle, which stand in edge_vae_model.c. All of them stay in flash. */
#ifndef EDGE_VAE_TABLES_H
#define EDGE_VAE_TABLES_H

#include <stdint.h>

/* real = (stored - zero_point) * step; step 0: the tensor is float. */
typedef struct {
  float step;
  int32_t zero_point;
} edge_vae_tensor;

typedef enum { EDGE_VAE_OF_WINDOW, EDGE_VAE_OF_FEATURES, EDGE_VAE_OF_LAG_VECTORS } edge_vae_input;

/* One way to look at a window: always (steps, channels). */
typedef struct {
  edge_vae_input input;
  int32_t steps;
  int32_t model;  /* -1: none */
  int32_t latent; /* units of the posterior */
  edge_vae_tensor window, condition, reconstruction, posterior_mean, posterior_log_variance;
  const float *centre; /* features alone: (modes, steps, channels) */
  const float *scale;
  const float *variance; /* (1 or steps, channels) */
  int32_t variance_steps;
} edge_vae_view;

typedef enum {
  EDGE_VAE_KL,
  EDGE_VAE_LEVEL,
  EDGE_VAE_LOGM,
  EDGE_VAE_MAHALANOBIS,
  EDGE_VAE_MAX,
  EDGE_VAE_MSE,
  EDGE_VAE_NLL,
  EDGE_VAE_STUDENT,
  EDGE_VAE_T2,
  EDGE_VAE_Z
} edge_vae_statistic;

typedef struct {
  edge_vae_statistic statistic;
  int32_t view; /* -1: the scaled window itself */
  double median; /* of the log statistic on normal windows */
  double scale;
  const float *centre;
  const float *precision;
} edge_vae_term;

extern const edge_vae_view edge_vae_views[];
extern const edge_vae_term edge_vae_terms[];
extern const double edge_vae_centre[]; /* (modes, channels) */
extern const double edge_vae_scale[];
extern const float edge_vae_conditions[]; /* (modes, conditions) */
extern const float edge_vae_modes[];      /* (modes, mode columns) */
extern const float edge_vae_hann[];       /* (length,) */
extern const float edge_vae_cosine[];     /* (length,) of one turn */
extern const float edge_vae_sine[];
#if EDGE_VAE_COMPONENTS_IN_INT8
typedef int8_t edge_vae_component;
#else
typedef uint16_t edge_vae_component; /* IEEE 754 half precision */
#endif
extern const float edge_vae_lag_mean[];                    /* (lag * channels,) */
extern const edge_vae_component edge_vae_lag_components[]; /* (components, lag * channels) */
extern const float edge_vae_lag_steps[];                   /* (components,) 1 is so much */

#endif
