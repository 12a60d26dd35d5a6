#include "common/run/banner.h"

#include "common/base/size_text.h"
#include "common/run/machine.h"
#include "common/tensor/tensor.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

void print_banner(const Config *config, int64_t parameters, const Device *device, const Dataset *data,
                  double peak_gflops) {
    const ModelConfig *m = &config->model;
    printf("%s\n", base_program());
    char *text = machine_device_text(config, device),
         *hint = device->backend->apart ? NULL : machine_blas_hint();
    printf("  device    %s, %.0f GFLOP/s measured\n", text, peak_gflops);
    if (hint) printf("            %s\n", hint);
    free(text);
    free(hint);
    printf("  model     %s: %" PRId64 " layers, %" PRId64 " wide, %" PRId64 " heads, window %" PRId64
           ", vocabulary %" PRId64 "\n",
           config->preset, m->L, m->C, m->H, m->T, m->V);
    printf("            %" PRId64 " parameters, %s; training holds 4 of each%s\n", parameters,
           size_text((double)(parameters * element_bytes(TYPE_REAL))).text,
           m->dtype == DTYPE_BF16 ? ", and matrices once more in bf16, as it has activations" : "");
    printf("  data      %s, a vocabulary of %" PRId64, data->name, data->vocab_size);
    if (isfinite(data->trigram_loss)) printf("; nats per token: trigram model %.3f", data->trigram_loss);
    if (isfinite(data->entropy_floor)) printf(", entropy floor %.3f", data->entropy_floor);
    printf("\n  training  %" PRId64 " steps of %" PRId64 " windows (%" PRId64 " micro-batch%s of %" PRId64
           "%s), %" PRId64 " tokens a step\n",
           config->max_steps, config->global_batch, config->num_microbatches,
           config->num_microbatches > 1 ? "es" : "", config->micro_batch,
           config->data_parallel > 1 ? " on each device" : "", config->global_batch * m->T);
}

void print_result(const Dataset *data, double loss, double bytes_per_token) {
    printf("validation loss %.4f nats per token, %.3f bits per byte\n", loss,
           loss / log(2) / bytes_per_token);
    double trigram = data->trigram_loss, floor = data->entropy_floor;
    if (isfinite(trigram) && loss >= trigram) printf("not yet below the trigram model's %.4f\n", trigram);
    if (isfinite(trigram) && isfinite(floor) && loss < trigram)
        printf("gap between trigram %.4f and floor %.4f closed: %.1f%%\n", trigram, floor,
               100 * (trigram - loss) / (trigram - floor));
}
