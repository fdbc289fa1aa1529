/* Does this machine score as the workstation did? Plays the golden windows of edge_vae_golden.c to a machine. */
#ifndef EDGE_VAE_SELF_TEST_H
#define EDGE_VAE_SELF_TEST_H

#include "edge_vae.h"
#include "edge_vae_golden.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Scores every golden window with the models behind `runners`, writes the scores (EDGE_VAE_GOLDEN numbers, NAN where a
 * model failed), and returns how many windows differ by more than `tolerance`: in the score, as a part of the expected
 * one or of the threshold, whichever is larger, or in a channel's share. 1e-3 suits models that give the golden
 * outputs, 0.05 those that run on other int8 kernels than the workstation's. A learned baseline that differs by more
 * than 1e-5 of its spread counts as one more. `machine` is only memory here: start it again afterwards. */
int edge_vae_self_test(edge_vae *machine, const edge_vae_runner *runners, double tolerance, float *scores);

#ifdef __cplusplus
}
#endif

#endif
