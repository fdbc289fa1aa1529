/* Models of edge_vae_model.h on TensorFlow Lite Micro: an example that can be used as it is.
 *
 *   static edge_vae machine;
 *   uint32_t used_bytes[EDGE_VAE_MODELS];
 *   const edge_vae_runner *runners = edge_vae_tflm_runners(used_bytes);
 *   if (runners == NULL || edge_vae_self_test(&machine, runners, 0.05, scores) != 0) { ... not to be trusted ... }
 *   edge_vae_init(&machine, runners);
 *   then, for each sample: edge_vae_push(&machine, readings, &result)
 */
#include "edge_vae_tflm.h"

#include <new>

#include "edge_vae_flatbuffers.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace {

alignas(16) uint8_t arena[EDGE_VAE_ARENA_BYTES];
alignas(tflite::MicroInterpreter) uint8_t memory[EDGE_VAE_MODELS][sizeof(tflite::MicroInterpreter)];
edge_vae_runner runners[EDGE_VAE_MODELS];

int Invoke(void *context) {
  return static_cast<tflite::MicroInterpreter *>(context)->Invoke() == kTfLiteOk ? 0 : 1;
}

void Fill(edge_vae_runner *runner, const edge_vae_flatbuffer &model, tflite::MicroInterpreter *interpreter) {
  runner->window = interpreter->input(model.window)->data.data;
  runner->condition = model.condition < 0 ? nullptr : interpreter->input(model.condition)->data.data;
  runner->reconstruction = interpreter->output(model.reconstruction)->data.data;
  runner->posterior_mean = interpreter->output(model.posterior_mean)->data.data;
  runner->posterior_log_variance = interpreter->output(model.posterior_log_variance)->data.data;
  runner->invoke = Invoke;
  runner->context = interpreter;
}

}  // namespace

extern "C" const edge_vae_runner *edge_vae_tflm_runners(uint32_t used_bytes[EDGE_VAE_MODELS]) {
  static tflite::MicroMutableOpResolver<EDGE_VAE_OPERATORS> resolver;
  EDGE_VAE_ADD_OPERATORS(resolver);
  uint8_t *free_arena = arena;
  for (int i = 0; i < EDGE_VAE_MODELS; i++) {
    const edge_vae_flatbuffer &model = edge_vae_flatbuffers[i];
    auto *interpreter = new (memory[i])
        tflite::MicroInterpreter(tflite::GetModel(model.bytes), resolver, free_arena, model.arena_bytes);
    if (interpreter->AllocateTensors() != kTfLiteOk) {
      return nullptr;
    }
    used_bytes[i] = static_cast<uint32_t>(interpreter->arena_used_bytes());
    free_arena += model.arena_bytes;
    Fill(&runners[i], model, interpreter);
  }
  return runners;
}
