#include "edge_vae_self_test.h"

#include <math.h>
#include <stddef.h>

#include "edge_vae_tables.h"

#define BASELINE_TOLERANCE 1e-5

/* The golden windows are in sensor units under the model's own scaler: no baseline is waited for. */
static int play(edge_vae *machine, int32_t window, edge_vae_result *result) {
  const float *samples = edge_vae_golden_windows + window * EDGE_VAE_LENGTH * EDGE_VAE_CHANNELS;
  const int32_t mode = edge_vae_golden_modes[window];
  edge_vae_status status = EDGE_VAE_WAITING;
  int32_t i;
  edge_vae_start_session(machine);
#if EDGE_VAE_MODE_COLUMNS > 0
  if (edge_vae_set_mode(machine, edge_vae_modes + mode * EDGE_VAE_MODE_COLUMNS) != mode) {
    return 0;
  }
#endif
  edge_vae_set_scaler(machine, edge_vae_centre + mode * EDGE_VAE_CHANNELS, edge_vae_scale + mode * EDGE_VAE_CHANNELS);
  for (i = 0; i < EDGE_VAE_LENGTH; i++) {
    status = edge_vae_push(machine, samples + i * EDGE_VAE_CHANNELS, result);
  }
  return status == EDGE_VAE_SCORED;
}

/* NAN differs. */
static int score_differs(int32_t window, const edge_vae_result *result, double tolerance) {
  const double expected = (double)edge_vae_golden_scores[window];
  const double limit = tolerance * fmax(expected, (double)EDGE_VAE_THRESHOLD);
  int differs = !(fabs((double)result->score - expected) <= limit);
  int32_t i;
  for (i = 0; i < EDGE_VAE_CHANNELS; i++) {
    const double share = (double)edge_vae_golden_shares[window * EDGE_VAE_CHANNELS + i];
    differs |= !(fabs((double)result->share[i] - share) <= tolerance);
  }
  return differs;
}

/* Whether the scaler that a session learns is the workstation's. */
static int baseline_differs(edge_vae *machine) {
#if EDGE_VAE_BASELINE > 0
  edge_vae_result result;
  int32_t i, differing = 0;
  edge_vae_start_session(machine);
  for (i = 0; i < EDGE_VAE_BASELINE; i++) {
    const int32_t row = i % (EDGE_VAE_GOLDEN * EDGE_VAE_LENGTH);
    const float *sample = edge_vae_golden_windows + row * EDGE_VAE_CHANNELS;
    differing += edge_vae_push(machine, sample, &result) != EDGE_VAE_LEARNING;
  }
  for (i = 0; i < EDGE_VAE_CHANNELS; i++) {
    const double limit = BASELINE_TOLERANCE * edge_vae_golden_scale[i];
    differing += fabs(machine->centre[i] - edge_vae_golden_centre[i]) > limit;
    differing += fabs(machine->scale[i] - edge_vae_golden_scale[i]) > limit;
  }
  return differing > 0 || machine->missing != 0;
#else
  (void)machine;
  return 0;
#endif
}

int edge_vae_self_test(edge_vae *machine, const edge_vae_runner *runners, double tolerance, float *scores) {
  edge_vae_result result;
  int differing = 0;
  int32_t i;
  edge_vae_init(machine, runners);
  for (i = 0; i < EDGE_VAE_GOLDEN; i++) {
    const int scored = play(machine, i, &result);
    differing += !scored || score_differs(i, &result, tolerance);
    scores[i] = scored ? result.score : NAN;
  }
  return differing + baseline_differs(machine);
}
