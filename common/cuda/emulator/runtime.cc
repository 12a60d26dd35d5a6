/* CUDA's runtime: errors, devices, streams and events. */
#include "common/cuda/emulator/streams.h"

extern "C" {
#include "common/base/base.h"
}

#include <stdlib.h>
#include <string.h>

/* ---- errors ---- */

static const struct {
    cudaError_t error;
    const char *name, *text;
} errors[] = {
#define ERROR(name, text)                                                                                    \
    { name, #name, text }
    ERROR(cudaSuccess, "no error"),
    ERROR(cudaErrorInvalidValue, "invalid argument"),
    ERROR(cudaErrorMemoryAllocation, "out of memory"),
    ERROR(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    ERROR(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version"),
    ERROR(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    ERROR(cudaErrorInvalidDevice, "invalid device ordinal"),
    ERROR(cudaErrorNoKernelImageForDevice, "no kernel image is available for execution on the device"),
    ERROR(cudaErrorUnsupportedPtxVersion, "the provided PTX was compiled with an unsupported toolchain."),
    ERROR(cudaErrorNotReady, "device not ready"),
    ERROR(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    ERROR(cudaErrorLaunchOutOfResources, "too many resources requested for launch"),
    ERROR(cudaErrorSystemDriverMismatch, "system has unsupported display driver / cuda driver combination"),
    ERROR(cudaErrorUnknown, "unknown error"),
};

static thread_local cudaError_t last_error;
static thread_local int device_of_thread;

cudaError_t returns(cudaError_t error) {
    if (error) last_error = error;
    return error;
}

cudaError_t wanted_error(const char *call) {
    const char *wanted = getenv("SHARD_EMULATOR_ERROR");
    size_t length = strlen(call);
    if (!wanted || strncmp(wanted, call, length) || wanted[length] != '=') return cudaSuccess;
    for (auto &e : errors)
        if (!strcmp(e.name, wanted + length + 1)) return e.error;
    return cudaErrorUnknown;
}

/* ---- devices ---- */

static int device_count() {
    const char *text = getenv("SHARD_EMULATOR_DEVICES");
    return text ? atoi(text) : 8;
}

int current_device(void) { return device_of_thread; }

size_t device_bytes(void) {
    const char *text = getenv("SHARD_EMULATOR_MEMORY");
    char *unit = NULL;
    size_t bytes = text ? strtoull(text, &unit, 10) : (size_t)16 << 30;
    return bytes << (!unit ? 0 : *unit == 'K' ? 10 : *unit == 'M' ? 20 : *unit == 'G' ? 30 : 0);
}

extern "C" {

const char *cudaGetErrorName(cudaError_t error) {
    for (auto &e : errors)
        if (e.error == error) return e.name;
    return "unrecognized error code";
}
const char *cudaGetErrorString(cudaError_t error) {
    for (auto &e : errors)
        if (e.error == error) return e.text;
    return "unrecognized error code";
}
cudaError_t cudaGetLastError(void) {
    if (cudaError_t error = wanted_error("cudaGetLastError")) return error;
    cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaDriverGetVersion(int *version) {
    *version = 13000;
    return returns(wanted_error("cudaDriverGetVersion"));
}
cudaError_t cudaGetDeviceCount(int *count) {
    *count = device_count();
    if (cudaError_t error = wanted_error("cudaGetDeviceCount")) return returns(error);
    return returns(*count > 0 ? cudaSuccess : cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int device) {
    if (cudaError_t error = wanted_error("cudaSetDevice")) return returns(error);
    if (device_count() <= 0) return returns(cudaErrorNoDevice);
    if (device < 0 || device >= device_count()) return returns(cudaErrorInvalidDevice);
    device_of_thread = device;
    return returns(cudaSuccess);
}
cudaError_t cudaGetDevice(int *device) {
    *device = device_of_thread;
    return returns(cudaSuccess);
}
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device) {
    if (device < 0 || device >= device_count()) return returns(cudaErrorInvalidDevice);
    *properties = {"an emulated GPU", device_bytes(), 9, 0, 1};
    return returns(cudaSuccess);
}

/* ---- streams ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
    if (cudaError_t error = wanted_error("cudaStreamCreateWithFlags")) return returns(error);
    *stream = stream_new(device_of_thread);
    return returns(cudaSuccess);
}
/* Its work is done first; what tells of it stays, since others' clocks do. */
cudaError_t cudaStreamDestroy(cudaStream_t) { return returns(cudaSuccess); }

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    if (cudaError_t error = wanted_error("cudaStreamSynchronize")) return returns(error);
    mark_wait(stream_last(stream));
    return returns(cudaSuccess);
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
    return mark_asked(stream_last(stream)) ? cudaSuccess : cudaErrorNotReady;
}

/* ---- events ---- */

struct CUevent_st {
    Mark mark;
};

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    stream_after(stream, event->mark);
    return returns(cudaSuccess);
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
    if (cudaError_t error = wanted_error("cudaEventCreateWithFlags")) return returns(error);
    *event = new CUevent_st{};
    return returns(cudaSuccess);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return returns(cudaSuccess);
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    if (cudaError_t error = wanted_error("cudaEventRecord")) return returns(error);
    event->mark = stream_mark(stream);
    return returns(cudaSuccess);
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    mark_wait(event->mark);
    return returns(cudaSuccess);
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
    return mark_asked(event->mark) ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to) {
    if (!from->mark.stream || !to->mark.stream) return returns(cudaErrorInvalidValue);
    if (!mark_passed(from->mark) || !mark_passed(to->mark)) return returns(cudaErrorNotReady);
    *ms = (float)((*to->mark.time - *from->mark.time) * 1e3);
    return returns(cudaSuccess);
}
}
