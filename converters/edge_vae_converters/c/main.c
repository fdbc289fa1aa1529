/* The self-test on a workstation, where no TensorFlow Lite Micro is linked: the models' outputs are the golden ones,
 * and what the models are given is held against the golden inputs. Prints a line for each window; status 1 if one
 * differs.
 *
 *   cc -std=c99 -Wall -Wextra -O2 edge_vae.c edge_vae_model.c edge_vae_golden.c edge_vae_self_test.c main.c -lm
 *
 * On the target call edge_vae_self_test with runners that run, as in edge_vae_tflm.cc.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "edge_vae_self_test.h"

#define TOLERANCE 1e-3 /* of the score, from equal model outputs: float where Python computes in double */

static int32_t invocations[EDGE_VAE_GOLDEN_MODELS];
static int32_t differing_inputs;

/* float32: a feature of a small scale is a logarithm over that scale, and takes its rounding with it. */
static int differs(const edge_vae_golden_model *model, int32_t at, const void *expected) {
  if (model->is_int8) {
    const int difference = ((const int8_t *)model->window)[at] - ((const int8_t *)expected)[at];
    return difference < -1 || difference > 1; /* a value between two steps may be rounded to either */
  }
  return fabsf(((const float *)model->window)[at] - ((const float *)expected)[at]) > 1e-3f;
}

/* The numbers of one window out of a table that has `count` of them for each. */
static const void *row(const void *table, size_t window, int32_t count, size_t bytes) {
  return (const char *)table + window * (size_t)count * bytes;
}

static int invoke(void *context) {
  const edge_vae_golden_model *model = (const edge_vae_golden_model *)context;
  int32_t *const count = &invocations[model - edge_vae_golden_models];
  const size_t bytes = model->is_int8 ? 1 : sizeof(float), at = (size_t)(*count)++;
  int32_t i;
  for (i = 0; i < model->cells; i++) {
    differing_inputs += differs(model, i, row(model->windows, at, model->cells, bytes));
  }
#if EDGE_VAE_CONDITIONS > 0
  differing_inputs += memcmp(model->condition, row(model->conditions, at, EDGE_VAE_CONDITIONS, bytes),
                             EDGE_VAE_CONDITIONS * bytes) != 0;
#endif
  memcpy(model->reconstruction, row(model->reconstructions, at, model->cells, bytes), bytes * (size_t)model->cells);
  memcpy(model->posterior_mean, row(model->posterior_means, at, model->latent, bytes), bytes * (size_t)model->latent);
  memcpy(model->posterior_log_variance, row(model->posterior_log_variances, at, model->latent, bytes),
         bytes * (size_t)model->latent);
  return 0;
}

int main(void) {
  static edge_vae machine;
  static edge_vae_runner runners[EDGE_VAE_GOLDEN_MODELS];
  float scores[EDGE_VAE_GOLDEN];
  int32_t i;
  int differing;
  for (i = 0; i < EDGE_VAE_MODELS; i++) {
    const edge_vae_golden_model *model = &edge_vae_golden_models[i];
    runners[i].window = model->window;
    runners[i].condition = model->condition;
    runners[i].reconstruction = model->reconstruction;
    runners[i].posterior_mean = model->posterior_mean;
    runners[i].posterior_log_variance = model->posterior_log_variance;
    runners[i].invoke = invoke;
    runners[i].context = (void *)(uintptr_t)model;
  }
  differing = edge_vae_self_test(&machine, runners, TOLERANCE, scores);
  for (i = 0; i < EDGE_VAE_GOLDEN; i++) {
    printf("window %d: score %.9g, expected %.9g, %s\n", (int)i, (double)scores[i], (double)edge_vae_golden_scores[i],
           scores[i] > EDGE_VAE_THRESHOLD ? "anomalous" : "normal");
  }
  printf("%d of %d scores and baselines differ, %d model inputs differ; state of a machine: %lu bytes\n", differing,
         EDGE_VAE_GOLDEN, (int)differing_inputs, (unsigned long)sizeof machine);
  return differing || differing_inputs ? 1 : 0;
}
