/* The rules of edge-vae, each as its Python twin states it: scale.py, window.py, features.py, view.py, principal.py,
 * score.py, alarm.py. Samples and tables are float; what sums up differences (statistics, means) does so in double,
 * where a float would lose the digits that decide. */
#include "edge_vae.h"

#include <math.h>
#include <string.h>

#include "edge_vae_tables.h"

#define LIMIT_SIGMA 1e3f /* view.LIMIT_SIGMA */
#define TINY 1e-9        /* score._TINY */
#define ERROR_FLOOR 0.05
#define LOG_ERROR_FLOOR 1e-6
#define LEAST_LEVEL 1.0
#define TRIMMED_TERMS 0.2
#define LEAST_LOG_VARIANCE (-8.0)
#define MOST_LOG_VARIANCE 4.0
#define SPREAD_FLOOR 1e-3f /* features._SPREAD_FLOOR */
#define POWER_FLOOR 1e-5f
#define MAD_TO_SIGMA 1.4826 /* scale.MAD_TO_SIGMA */
#define LEVEL_ROW 0         /* of the features: the means */
#define SPREAD_ROWS 5       /* of the features, before the bands */

enum { CHANNELS = EDGE_VAE_CHANNELS, LENGTH = EDGE_VAE_LENGTH };

static double within(double value, double low, double high) {
  return value < low ? low : value > high ? high : value;
}

static float limited(float value, float limit) {
  return value < -limit ? -limit : value > limit ? limit : value;
}

/* Tensors ---------------------------------------------------------------------------------------------------------- */

static void store(void *tensor, int32_t at, float real, const edge_vae_tensor *how) {
  if (how->step == 0.0f) {
    ((float *)tensor)[at] = real;
    return;
  }
  /* rintf rounds halves to even, as NumPy's rint does. */
  ((int8_t *)tensor)[at] = (int8_t)within((double)rintf(real / how->step) + (double)how->zero_point, -128.0, 127.0);
}

static float load(const void *tensor, int32_t at, const edge_vae_tensor *how) {
  if (how->step == 0.0f) {
    return ((const float *)tensor)[at];
  }
  return (float)(((const int8_t *)tensor)[at] - how->zero_point) * how->step;
}

#if EDGE_VAE_FEATURE_ROWS > 0 || EDGE_VAE_BASELINE > 0
static double mean_of(const float *first, int32_t count, int32_t stride) {
  double sum = 0.0;
  int32_t i;
  for (i = 0; i < count; i++) {
    sum += (double)first[i * stride];
  }
  return sum / count;
}
#endif

/* Features --------------------------------------------------------------------------------------------------------- */

#if EDGE_VAE_FEATURE_ROWS > 0
/* Mean power of each band of the spectrum of one channel, whose centred and Hann-windowed samples are in `wave`. */
static void bands(const float *wave, float *feature) {
  const int32_t bins = LENGTH / 2;
  int32_t band, bin, i;
  for (band = 0; band < EDGE_VAE_BANDS; band++) {
    const int32_t from = band * bins / EDGE_VAE_BANDS, to = (band + 1) * bins / EDGE_VAE_BANDS;
    float power = 0.0f;
    for (bin = from + 1; bin <= to; bin++) { /* bin 0 is the mean */
      float real = 0.0f, imaginary = 0.0f;
      int32_t turn = 0;
      for (i = 0; i < LENGTH; i++) {
        real += wave[i] * edge_vae_cosine[turn];
        imaginary += wave[i] * edge_vae_sine[turn];
        turn += bin;
        turn -= turn >= LENGTH ? LENGTH : 0;
      }
      power += real * real + imaginary * imaginary;
    }
    feature[band * CHANNELS] = logf(power / (float)(to - from) + POWER_FLOOR);
  }
}

/* Writes the features of one channel of the window, CHANNELS apart. */
static void features_of(edge_vae *machine, int32_t channel) {
  const float *x = machine->window + channel;
  float *feature = machine->features + channel;
  const int32_t quarter = LENGTH / 4 > 1 ? LENGTH / 4 : 1;
  const double mean = mean_of(x, LENGTH, CHANNELS);
  double squares = 0.0, steps = 0.0;
  float low = x[0], high = x[0];
  int32_t i;
  for (i = 0; i < LENGTH; i++) {
    const float now = x[i * CHANNELS], centred = (float)((double)now - mean);
    squares += (double)centred * (double)centred;
    steps += i > 0 ? fabs((double)now - (double)x[(i - 1) * CHANNELS]) : 0.0;
    low = now < low ? now : low;
    high = now > high ? now : high;
    machine->work[i] = centred * edge_vae_hann[i];
  }
  feature[0 * CHANNELS] = (float)mean;
  feature[1 * CHANNELS] = logf((float)sqrt(squares / LENGTH) + SPREAD_FLOOR);
  feature[2 * CHANNELS] = logf((float)(steps / (LENGTH - 1)) + SPREAD_FLOOR);
  feature[3 * CHANNELS] = logf(high - low + SPREAD_FLOOR);
  feature[4 * CHANNELS] =
      (float)(mean_of(x + (LENGTH - quarter) * CHANNELS, quarter, CHANNELS) - mean_of(x, quarter, CHANNELS));
  bands(machine->work, feature + SPREAD_ROWS * CHANNELS);
}

static void find_features(edge_vae *machine, const edge_vae_view *view) {
  const int32_t cells = view->steps * CHANNELS, row = machine->mode * cells;
  int32_t channel, i;
  for (channel = 0; channel < CHANNELS; channel++) {
    features_of(machine, channel);
  }
  for (i = 0; i < cells; i++) {
    machine->features[i] =
        limited((machine->features[i] - view->centre[row + i]) / view->scale[row + i], LIMIT_SIGMA);
  }
}
#endif

/* Views ------------------------------------------------------------------------------------------------------------ */

/* What a view's model should reconstruct. Samples in the window are within LIMIT_SIGMA already. */
static const float *target_of(const edge_vae *machine, const edge_vae_view *view) {
  return view->input == EDGE_VAE_OF_FEATURES ? machine->features : machine->window;
}

static int invoke(const edge_vae *machine, const edge_vae_view *view) {
  const edge_vae_runner *runner = &machine->runners[view->model];
  const float *target = target_of(machine, view);
  int32_t i;
  for (i = 0; i < view->steps * CHANNELS; i++) {
    store(runner->window, i, limited(target[i], EDGE_VAE_CLIP), &view->window);
  }
  for (i = 0; i < EDGE_VAE_CONDITIONS; i++) {
    store(runner->condition, i, edge_vae_conditions[machine->mode * EDGE_VAE_CONDITIONS + i], &view->condition);
  }
  return runner->invoke(runner->context);
}

static int look(edge_vae *machine, const edge_vae_view *view) {
#if EDGE_VAE_FEATURE_ROWS > 0
  if (view->input == EDGE_VAE_OF_FEATURES) {
    find_features(machine, view);
  }
#endif
  return view->model < 0 ? 0 : invoke(machine, view);
}

/* Statistics: each returns its value, and writes the channels' parts in it ----------------------------------------- */

static double mean_part(const double *parts) {
  double sum = 0.0;
  int32_t channel;
  for (channel = 0; channel < CHANNELS; channel++) {
    sum += parts[channel];
  }
  return sum / CHANNELS;
}

/* Mean squared error of each channel, over the decoder's variance where `weighted`. */
static void find_errors(const edge_vae *machine, const edge_vae_view *view, int weighted, double *parts) {
  const float *target = target_of(machine, view);
  const void *reconstruction = machine->runners[view->model].reconstruction;
  int32_t step, channel;
  memset(parts, 0, CHANNELS * sizeof *parts);
  for (step = 0; step < view->steps; step++) {
    const float *variance = view->variance + (view->variance_steps > 1 ? step * CHANNELS : 0);
    for (channel = 0; channel < CHANNELS; channel++) {
      const int32_t at = step * CHANNELS + channel;
      const double error = (double)target[at] - (double)load(reconstruction, at, &view->reconstruction);
      parts[channel] += weighted ? error * error / (double)variance[channel] : error * error;
    }
  }
  for (channel = 0; channel < CHANNELS; channel++) {
    parts[channel] /= view->steps;
  }
}

#if EDGE_VAE_LAG > 0
#if EDGE_VAE_COMPONENTS_IN_INT8
static float weight(int8_t stored) { return (float)stored; }
#else
/* IEEE 754 half precision to single. The fields lie alike, and the exponents' biases differ by 112. */
static float weight(uint16_t bits) {
  union {
    uint32_t bits;
    float real;
  } as;
  as.bits = (uint32_t)(bits & 0x7fffu) << 13;
  as.real *= 0x1p112f;
  as.bits |= (uint32_t)(bits & 0x8000u) << 16;
  return as.real;
}
#endif

/* Takes off one lag vector, in machine->work, what one principal component explains of it. */
static void take_off(float *residual, const float *vector, const edge_vae_component *component, float step) {
  float along = 0.0f;
  int32_t i;
  for (i = 0; i < EDGE_VAE_LAG * CHANNELS; i++) {
    along += (vector[i] - edge_vae_lag_mean[i]) * (weight(component[i]) * step);
  }
  for (i = 0; i < EDGE_VAE_LAG * CHANNELS; i++) {
    residual[i] -= along * (weight(component[i]) * step);
  }
}

/* Mean squared residual of each channel over all runs of EDGE_VAE_LAG samples, which lie in the window one by one. */
static void find_residuals(edge_vae *machine, double *parts) {
  const int32_t runs = LENGTH - EDGE_VAE_LAG + 1, cells = EDGE_VAE_LAG * CHANNELS;
  float *residual = machine->work;
  int32_t run, k, i;
  memset(parts, 0, CHANNELS * sizeof *parts);
  for (run = 0; run < runs; run++) {
    const float *vector = machine->window + run * CHANNELS;
    for (i = 0; i < cells; i++) {
      residual[i] = vector[i] - edge_vae_lag_mean[i];
    }
    for (k = 0; k < EDGE_VAE_COMPONENTS; k++) {
      take_off(residual, vector, edge_vae_lag_components + k * cells, edge_vae_lag_steps[k]);
    }
    for (i = 0; i < cells; i++) {
      parts[i % CHANNELS] += (double)residual[i] * (double)residual[i];
    }
  }
  for (i = 0; i < CHANNELS; i++) {
    parts[i] /= (double)runs * EDGE_VAE_LAG;
  }
}
#endif

static double squared_error(edge_vae *machine, const edge_vae_view *view, double *parts) {
#if EDGE_VAE_LAG > 0
  if (view->input == EDGE_VAE_OF_LAG_VECTORS) {
    find_residuals(machine, parts);
    return mean_part(parts);
  }
#endif
  find_errors(machine, view, 0, parts);
  return mean_part(parts);
}

static double likelihood(const edge_vae *machine, const edge_vae_view *view, double *parts) {
  find_errors(machine, view, 1, parts);
  return mean_part(parts);
}

static double largest_error(
    const edge_vae *machine, const edge_vae_view *view, const edge_vae_term *term, double *parts) {
  double largest = 0.0;
  int32_t channel;
  find_errors(machine, view, 0, parts);
  for (channel = 0; channel < CHANNELS; channel++) {
    parts[channel] /= fmax((double)term->centre[channel], ERROR_FLOOR);
    largest = fmax(largest, parts[channel]);
  }
  return largest;
}

/* offset' precision offset for the offset of `count` numbers; `column`, where given, gets precision * offset. */
static double distance(const double *offset, const float *precision, int32_t count, double *column) {
  double sum = 0.0;
  int32_t i, j;
  for (j = 0; j < count; j++) {
    double pulled = 0.0;
    for (i = 0; i < count; i++) {
      pulled += offset[i] * (double)precision[i * count + j];
    }
    sum += pulled * offset[j];
    if (column) {
      column[j] = pulled;
    }
  }
  return sum;
}

#if EDGE_VAE_FEATURE_ROWS > 0
static double level_distance(const edge_vae *machine, const edge_vae_term *term, double *parts) {
  double offset[CHANNELS], sum;
  int32_t channel;
  for (channel = 0; channel < CHANNELS; channel++) {
    offset[channel] = (double)machine->features[LEVEL_ROW * CHANNELS + channel] - (double)term->centre[channel];
  }
  sum = distance(offset, term->precision, CHANNELS, parts);
  for (channel = 0; channel < CHANNELS; channel++) {
    parts[channel] *= parts[channel] / (double)term->precision[channel * CHANNELS + channel];
  }
  return fmax(sum, LEAST_LEVEL);
}

static double feature_distance(
    const edge_vae *machine, const edge_vae_view *view, const edge_vae_term *term, double *parts) {
  const int32_t count = view->steps;
  double offset[EDGE_VAE_FEATURE_ROWS], largest = -HUGE_VAL;
  int32_t channel, i;
  for (channel = 0; channel < CHANNELS; channel++) {
    for (i = 0; i < count; i++) {
      const int32_t at = i * CHANNELS + channel;
      offset[i] = (double)machine->features[at] - (double)term->centre[at];
    }
    parts[channel] = distance(offset, term->precision + channel * count * count, count, NULL);
    largest = fmax(largest, parts[channel]);
    parts[channel] = fmax(parts[channel], 0.0);
  }
  return largest;
}

static double heavy_tailed(const edge_vae *machine, const edge_vae_view *view, double *parts) {
  int32_t i;
  memset(parts, 0, CHANNELS * sizeof *parts);
  for (i = 0; i < view->steps * CHANNELS; i++) {
    parts[i % CHANNELS] += log1p((double)machine->features[i] * (double)machine->features[i]) / view->steps;
  }
  return mean_part(parts);
}
#endif

static double divergence(const edge_vae *machine, const edge_vae_view *view) {
  const edge_vae_runner *runner = &machine->runners[view->model];
  double sum = 0.0;
  int32_t i;
  for (i = 0; i < view->latent; i++) {
    const double mean = (double)load(runner->posterior_mean, i, &view->posterior_mean);
    const double log_variance =
        within((double)load(runner->posterior_log_variance, i, &view->posterior_log_variance),
               LEAST_LOG_VARIANCE, MOST_LOG_VARIANCE);
    sum += mean * mean + exp(log_variance) - 1.0 - log_variance;
  }
  return 0.5 * sum;
}

static double latent_distance(const edge_vae *machine, const edge_vae_view *view, const edge_vae_term *term) {
  const void *means = machine->runners[view->model].posterior_mean;
  double offset[EDGE_VAE_MOST_LATENT];
  int32_t i;
  for (i = 0; i < view->latent; i++) {
    offset[i] = (double)load(means, i, &view->posterior_mean) - (double)term->centre[i];
  }
  return distance(offset, term->precision, view->latent, NULL);
}

static double log_error_distance(
    const edge_vae *machine, const edge_vae_view *view, const edge_vae_term *term, double *parts) {
  double offset[CHANNELS], sum;
  int32_t channel;
  find_errors(machine, view, 0, parts);
  for (channel = 0; channel < CHANNELS; channel++) {
    offset[channel] = fmax(log(parts[channel] + LOG_ERROR_FLOOR) - (double)term->centre[channel], 0.0);
  }
  sum = distance(offset, term->precision, CHANNELS, parts);
  for (channel = 0; channel < CHANNELS; channel++) {
    parts[channel] = fmax(parts[channel] * offset[channel], 0.0);
  }
  return fmax(sum, 0.0);
}

static double mean_absolute(const edge_vae *machine, double *parts) {
  int32_t i;
  memset(parts, 0, CHANNELS * sizeof *parts);
  for (i = 0; i < LENGTH * CHANNELS; i++) {
    parts[i % CHANNELS] += fabs((double)machine->window[i]) / LENGTH;
  }
  return mean_part(parts);
}

static double statistic(edge_vae *machine, const edge_vae_term *term, double *parts) {
  const edge_vae_view *view = term->view < 0 ? NULL : &edge_vae_views[term->view];
  switch (term->statistic) {
    case EDGE_VAE_KL:
      likelihood(machine, view, parts); /* a latent statistic has no channels: its share is that of the error */
      return divergence(machine, view);
    case EDGE_VAE_LOGM:
      return log_error_distance(machine, view, term, parts);
    case EDGE_VAE_MAX:
      return largest_error(machine, view, term, parts);
    case EDGE_VAE_MSE:
      return squared_error(machine, view, parts);
    case EDGE_VAE_NLL:
      return likelihood(machine, view, parts);
    case EDGE_VAE_T2:
      likelihood(machine, view, parts);
      return latent_distance(machine, view, term);
#if EDGE_VAE_FEATURE_ROWS > 0
    case EDGE_VAE_LEVEL:
      return level_distance(machine, term, parts);
    case EDGE_VAE_MAHALANOBIS:
      return feature_distance(machine, view, term, parts);
    case EDGE_VAE_STUDENT:
      return heavy_tailed(machine, view, parts);
#endif
    default: /* EDGE_VAE_Z */
      break;
  }
  return mean_absolute(machine, parts);
}

/* Score ------------------------------------------------------------------------------------------------------------ */

/* log(1 - log p), p being the probability that a normal window reaches the value, whose logarithm is logistic. */
static double said_of(const edge_vae_term *term, double value) {
  const double x = (log(fmax(value, TINY)) - term->median) / term->scale;
  return log1p(fmax(x, 0.0) + log1p(exp(-fabs(x))));
}

/* The parts as fractions of their sum, each times `weight`, added to `weighted`. */
static void weigh(const double *parts, double weight, double *weighted) {
  double sum = 0.0;
  int32_t channel;
  for (channel = 0; channel < CHANNELS; channel++) {
    sum += parts[channel] + TINY;
  }
  for (channel = 0; channel < CHANNELS; channel++) {
    weighted[channel] += weight * (parts[channel] + TINY) / sum;
  }
}

/* The number of the terms times the mean of what they say, the highest fifth left out, one of them in part. */
static double trimmed_sum(const float *said) {
  double counted = 0.0, sum = 0.0;
  int32_t i, j;
  for (i = 0; i < EDGE_VAE_TERMS; i++) {
    int32_t higher = 0;
    double weight;
    for (j = 0; j < EDGE_VAE_TERMS; j++) {
      higher += said[j] > said[i] || (said[j] == said[i] && j > i);
    }
    weight = within(higher + 1 - TRIMMED_TERMS * EDGE_VAE_TERMS, 0.0, 1.0);
    counted += weight;
    sum += weight * (double)said[i];
  }
  return sum * EDGE_VAE_TERMS / counted;
}

static void add_terms(edge_vae *machine, int32_t view, edge_vae_result *result, double *weighted) {
  double parts[CHANNELS];
  int32_t i;
  for (i = 0; i < EDGE_VAE_TERMS; i++) {
    if (edge_vae_terms[i].view == view) {
      result->said[i] = (float)said_of(&edge_vae_terms[i], statistic(machine, &edge_vae_terms[i], parts));
      weigh(parts, (double)result->said[i] + TINY, weighted);
    }
  }
}

/* Scores the window; the terms of a view come before the next model is invoked, which may share the memory. */
static int score(edge_vae *machine, edge_vae_result *result) {
  double weighted[CHANNELS], shares[CHANNELS];
  int32_t i;
  for (i = 0; i < CHANNELS; i++) {
    weighted[i] = TINY;
    shares[i] = 0.0;
  }
  add_terms(machine, -1, result, weighted);
  for (i = 0; i < EDGE_VAE_VIEWS; i++) {
    if (look(machine, &edge_vae_views[i])) {
      return 0;
    }
    add_terms(machine, i, result, weighted);
  }
  weigh(weighted, 1.0, shares);
  for (i = 0; i < CHANNELS; i++) {
    result->share[i] = (float)shares[i];
  }
  result->score = (float)trimmed_sum(result->said);
  result->anomalous = result->score > EDGE_VAE_THRESHOLD;
  return 1;
}

/* Baseline --------------------------------------------------------------------------------------------------------- */

#if EDGE_VAE_BASELINE > 0
/* Shell sort: no recursion, and no memory beside the numbers. */
static void sort(float *numbers, int32_t count) {
  int32_t gap, i, j;
  for (gap = count / 2; gap > 0; gap = gap == 2 ? 1 : (int32_t)(gap * 5 / 11)) {
    for (i = gap; i < count; i++) {
      const float moved = numbers[i];
      for (j = i; j >= gap && numbers[j - gap] > moved; j -= gap) {
        numbers[j] = numbers[j - gap];
      }
      numbers[j] = moved;
    }
  }
}

/* Trimmed mean, and median absolute deviation in sigmas, never below the model's own scale. */
static void learn_channel(edge_vae *machine, int32_t channel) {
  float *numbers = machine->baseline + channel * EDGE_VAE_BASELINE;
  const int32_t cut = EDGE_VAE_BASELINE / 10, half_way = EDGE_VAE_BASELINE / 2;
  const double own = edge_vae_scale[machine->mode * CHANNELS + channel];
  double centre, median;
  int32_t i;
  sort(numbers, EDGE_VAE_BASELINE);
  centre = mean_of(numbers + cut, EDGE_VAE_BASELINE - 2 * cut, 1);
  for (i = 0; i < EDGE_VAE_BASELINE; i++) {
    numbers[i] = (float)fabs((double)numbers[i] - centre);
  }
  sort(numbers, EDGE_VAE_BASELINE);
  median = EDGE_VAE_BASELINE % 2 ? (double)numbers[half_way]
                                 : ((double)numbers[half_way - 1] + (double)numbers[half_way]) / 2.0;
  machine->centre[channel] = centre;
  machine->scale[channel] = fmax(MAD_TO_SIGMA * median, own);
}

static void learn(edge_vae *machine, const float *sample) {
  const int32_t at = EDGE_VAE_BASELINE - machine->missing;
  int32_t channel;
  machine->missing--;
  for (channel = 0; channel < CHANNELS; channel++) {
    machine->baseline[channel * EDGE_VAE_BASELINE + at] = sample[channel];
    if (machine->missing == 0) {
      learn_channel(machine, channel);
    }
  }
}
#endif

/* The scaler of the mode at present, until a baseline is learned. */
static void restart_baseline(edge_vae *machine) {
  const int32_t row = machine->mode * CHANNELS;
  memcpy(machine->centre, edge_vae_centre + row, sizeof machine->centre);
  memcpy(machine->scale, edge_vae_scale + row, sizeof machine->scale);
  machine->missing = EDGE_VAE_BASELINE;
}

/* Samples ---------------------------------------------------------------------------------------------------------- */

void edge_vae_init(edge_vae *machine, const edge_vae_runner *runners) {
  memset(machine, 0, sizeof *machine);
  machine->runners = runners;
  edge_vae_start_session(machine);
}

void edge_vae_start_session(edge_vae *machine) {
  machine->mode = 0;
  restart_baseline(machine);
  edge_vae_break(machine);
}

void edge_vae_break(edge_vae *machine) {
  machine->filled = 0;
  machine->skipped = 0;
  machine->fresh = 1;
}

void edge_vae_set_scaler(edge_vae *machine, const double *centre, const double *scale) {
  memcpy(machine->centre, centre, sizeof machine->centre);
  memcpy(machine->scale, scale, sizeof machine->scale);
  machine->missing = 0;
  edge_vae_break(machine);
}

#if EDGE_VAE_MODE_COLUMNS > 0
static int32_t find_mode(const float *values) {
  int32_t mode, column;
  for (mode = 0; mode < EDGE_VAE_MODES; mode++) {
    for (column = 0; column < EDGE_VAE_MODE_COLUMNS; column++) {
      if (edge_vae_modes[mode * EDGE_VAE_MODE_COLUMNS + column] != values[column]) {
        break;
      }
    }
    if (column == EDGE_VAE_MODE_COLUMNS) {
      return mode;
    }
  }
  return -1;
}

int edge_vae_set_mode(edge_vae *machine, const float *values) {
  const int32_t mode = find_mode(values);
  if (mode != machine->mode) {
    machine->mode = mode;
    edge_vae_break(machine);
    if (mode >= 0) {
      restart_baseline(machine);
    }
  }
  return (int)mode;
}
#endif

static int usable(const edge_vae *machine, const float *sample) {
  int32_t channel;
  for (channel = 0; channel < CHANNELS; channel++) {
    if (!isfinite(sample[channel])) {
      return 0;
    }
  }
  return machine->mode >= 0;
}

static void append(edge_vae *machine, const float *sample) {
  float *row = machine->window + machine->filled * CHANNELS;
  int32_t channel;
  for (channel = 0; channel < CHANNELS; channel++) {
    /* In double: a large centre would take the last digits of a float with it. */
    const double scaled = ((double)sample[channel] - machine->centre[channel]) / machine->scale[channel];
    row[channel] = (float)within(scaled, -(double)LIMIT_SIGMA, (double)LIMIT_SIGMA);
  }
  machine->filled++;
}

static void forget_stride(edge_vae *machine) {
  const int32_t kept = EDGE_VAE_STRIDE < LENGTH ? LENGTH - EDGE_VAE_STRIDE : 0;
  memmove(machine->window, machine->window + (LENGTH - kept) * CHANNELS, (size_t)(kept * CHANNELS) * sizeof(float));
  machine->filled = kept;
  machine->skipped = EDGE_VAE_STRIDE + kept - LENGTH;
}

edge_vae_status edge_vae_push(edge_vae *machine, const float *sample, edge_vae_result *result) {
  int done;
  if (!usable(machine, sample)) {
    edge_vae_break(machine);
    return EDGE_VAE_UNUSABLE;
  }
#if EDGE_VAE_BASELINE > 0
  if (machine->missing > 0) {
    learn(machine, sample);
    return EDGE_VAE_LEARNING;
  }
#endif
  if (machine->skipped > 0) {
    machine->skipped--;
    return EDGE_VAE_WAITING;
  }
  append(machine, sample);
  if (machine->filled < LENGTH) {
    return EDGE_VAE_WAITING;
  }
  done = score(machine, result);
  result->after_break = machine->fresh;
  machine->fresh = done ? 0 : machine->fresh;
  forget_stride(machine);
  return done ? EDGE_VAE_SCORED : EDGE_VAE_FAILED;
}

/* Alarm ------------------------------------------------------------------------------------------------------------ */

static int count_of(uint32_t windows, int32_t last) {
  int count = 0;
  int32_t i;
  for (i = 0; i < last; i++) {
    count += (int)((windows >> i) & 1u);
  }
  return count;
}

edge_vae_change edge_vae_alarm_push(edge_vae_alarm *alarm, const edge_vae_result *result) {
  const float score_now = result->score;
  if (result->after_break) {
    alarm->above = alarm->below = 0;
  }
  alarm->above = alarm->above << 1 | (score_now > EDGE_VAE_THRESHOLD);
  alarm->below = alarm->below << 1 | (score_now < EDGE_VAE_CLEAR_BELOW);
  if (alarm->active) {
    alarm->peak_score = score_now > alarm->peak_score ? score_now : alarm->peak_score;
    if (count_of(alarm->below, EDGE_VAE_OFF_N) < EDGE_VAE_OFF_K) {
      return EDGE_VAE_NO_CHANGE;
    }
  } else {
    if (count_of(alarm->above, EDGE_VAE_ON_N) < EDGE_VAE_ON_K) {
      return EDGE_VAE_NO_CHANGE;
    }
    alarm->peak_score = score_now;
  }
  alarm->active = !alarm->active;
  alarm->above = alarm->below = 0;
  return alarm->active ? EDGE_VAE_RAISED : EDGE_VAE_CLEARED;
}
