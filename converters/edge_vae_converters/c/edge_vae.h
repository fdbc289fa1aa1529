/* Samples of one machine to scores, decisions and alarms, as edge-vae computes them on a gateway.
 *
 * C99; needs math.h and string.h, no heap, no threads, no I/O. One `edge_vae` is the state of one machine and all the
 * RAM that is used beside the stack (below 1 KB with 16 channels) and the arenas of the models. Two machines are
 * two of them.
 *
 * The models run in whatever runs TensorFlow Lite models: their tensors and a function that invokes them are handed to
 * edge_vae_init. edge_vae_tflm.cc does that with TensorFlow Lite Micro.
 */
#ifndef EDGE_VAE_H
#define EDGE_VAE_H

#include <stdint.h>

#include "edge_vae_model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A model that can be invoked. Its tensors are int8_t or float, as its EDGE_VAE_..._IS_INT8 says. All models may use
 * one and the same memory: a model's outputs are read before the next model's inputs are written. */
typedef struct {
  void *window;                       /* input: the window or its features */
  void *condition;                    /* input: the operating mode; NULL without modes */
  const void *reconstruction;         /* output, of the shape of `window` */
  const void *posterior_mean;         /* output */
  const void *posterior_log_variance; /* output */
  int (*invoke)(void *context);       /* 0 when it was done */
  void *context;                      /* handed to `invoke` */
} edge_vae_runner;

typedef enum {
  EDGE_VAE_FAILED = -1,   /* a model could not be invoked */
  EDGE_VAE_WAITING = 0,   /* the next window is not complete */
  EDGE_VAE_LEARNING = 1,  /* the session's baseline is not complete: nothing is scored yet */
  EDGE_VAE_UNUSABLE = 2,  /* a reading that is no finite number, or a mode that the models do not know */
  EDGE_VAE_SCORED = 3     /* a window was completed, and the result is its own */
} edge_vae_status;

typedef struct {
  float score;                      /* at least 0; a higher one is more anomalous */
  int anomalous;                    /* 1: above EDGE_VAE_THRESHOLD */
  int after_break;                  /* 1: the first window after a start or a break */
  float said[EDGE_VAE_TERMS];       /* what each term of the score says, whether it counts in this window or not */
  float share[EDGE_VAE_CHANNELS];   /* each channel's part of the score; they sum to 1 */
} edge_vae_result;

typedef struct {
  const edge_vae_runner *runners;
  double centre[EDGE_VAE_CHANNELS]; /* of the session, in sensor units */
  double scale[EDGE_VAE_CHANNELS];
  int32_t mode;                     /* number of the operating mode; -1: unknown */
  int32_t missing;                  /* samples that the baseline still needs */
  int32_t filled;                   /* samples in `window` */
  int32_t skipped;                  /* samples to leave out before the next window begins */
  int fresh;                        /* no window since the last break */
  float window[EDGE_VAE_LENGTH * EDGE_VAE_CHANNELS]; /* scaled */
  float features[EDGE_VAE_FEATURE_CELLS];
  float work[EDGE_VAE_WORK_CELLS];
  float baseline[EDGE_VAE_BASELINE_CELLS];
} edge_vae;

extern const char *const edge_vae_channels[]; /* names, in the order of a sample's readings */

/* Starts the first session. `runners` has EDGE_VAE_MODELS entries, in the order of EDGE_VAE_MODEL_..., and must live as
 * long as `machine`. */
void edge_vae_init(edge_vae *machine, const edge_vae_runner *runners);

/* Starts a session: its baseline, where the model has one, is learned anew. */
void edge_vae_start_session(edge_vae *machine);

/* Samples are missing between the last one and the next: no window reaches across. */
void edge_vae_break(edge_vae *machine);

/* The scaler of this session, EDGE_VAE_CHANNELS numbers each, scales above 0: learned before and kept over a restart.
 * Nothing is learned then. */
void edge_vae_set_scaler(edge_vae *machine, const double *centre, const double *scale);

#if EDGE_VAE_MODE_COLUMNS > 0
/* Tells the operating mode: EDGE_VAE_MODE_COLUMNS values. A change is a break, and the baseline of the new mode is
 * learned anew. Returns the number of the mode; -1: the models do not know it, and nothing is scored in it. */
int edge_vae_set_mode(edge_vae *machine, const float *values);
#endif

/* Takes one sample of EDGE_VAE_CHANNELS readings in sensor units, EDGE_VAE_RATE_HZ times a second. `result` is written
 * when a window was completed. */
edge_vae_status edge_vae_push(edge_vae *machine, const float *sample, edge_vae_result *result);

typedef enum { EDGE_VAE_NO_CHANGE = 0, EDGE_VAE_RAISED = 1, EDGE_VAE_CLEARED = 2 } edge_vae_change;

/* The alarm of a machine: raised by EDGE_VAE_ON_K of the last EDGE_VAE_ON_N windows above the threshold, cleared by
 * EDGE_VAE_OFF_K of EDGE_VAE_OFF_N below EDGE_VAE_CLEAR_BELOW. Starts as all zeros. */
typedef struct {
  uint32_t above; /* the last windows, the latest in bit 0 */
  uint32_t below;
  int active;
  float peak_score;
} edge_vae_alarm;

edge_vae_change edge_vae_alarm_push(edge_vae_alarm *alarm, const edge_vae_result *result);

#ifdef __cplusplus
}
#endif

#endif
