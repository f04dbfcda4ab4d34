// A libcuda.so.1 without a device: what Triton's driver and launcher ask of the real one, and no more.
//
// Handles are numbers, nothing is allocated and nothing runs. A launch is told to `hear` as it came: the function, the
// configuration and the addresses of the raw parameters. Built by fakecuda.py with the cuda.h that Triton brings along.

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cuda.h"
#undef cuCtxGetDevice

typedef int (*hear_t)(uint64_t function, const uint32_t *config, uint64_t stream, void **params);

enum { MOST = 1 << 16 };

static hear_t hear;
static int capability = 80;
static int context;                 // its address is the context
static CUcontext current;
static const void *images[MOST];    // of modules, which are numbered from 1
static const void *sources[MOST];   // of functions, the same way: the image of the module
static char *names[MOST];
static size_t modules, functions, launches;

// For the harness

void fake_hear(hear_t listener) { hear = listener; }
void fake_capability(int tenfold) { capability = tenfold; }
size_t fake_launches(void) { return launches; }
const void *fake_image(uint64_t function) { return function && function <= functions ? sources[function - 1] : NULL; }
const char *fake_name(uint64_t function) { return function && function <= functions ? names[function - 1] : NULL; }

// For Triton

CUresult cuInit(unsigned int flags) { return CUDA_ERROR_NO_DEVICE; }  // torch asks, and shall find nothing

CUresult cuGetErrorString(CUresult error, const char **text) {
  *text = error == CUDA_ERROR_LAUNCH_FAILED ? "the launch was found to be wrong" : "not in this libcuda";
  return CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult error, const char **text) { return cuGetErrorString(error, text); }
CUresult cuDriverGetVersion(int *version) { *version = 99000; return CUDA_SUCCESS; }  // never too old for torch
CUresult cuDeviceGet(CUdevice *device, int number) { *device = number; return CUDA_SUCCESS; }
CUresult cuDeviceGetCount(int *count) { *count = 1; return CUDA_SUCCESS; }

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = capability / 10; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = capability % 10; break;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: *value = capability < 90 ? 166912 : 232448; break;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR: *value = capability < 90 ? 167936 : 233472; break;
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK: *value = 65536; break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = capability < 90 ? 108 : 132; break;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE: *value = 32; break;
    default: *value = 1;
  }
  return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *out) { *out = current; return CUDA_SUCCESS; }
CUresult cuCtxGetDevice(CUdevice *device) { *device = 0; return CUDA_SUCCESS; }
CUresult cuCtxSetCurrent(CUcontext given) { current = given; return CUDA_SUCCESS; }
CUresult cuCtxGetLimit(size_t *value, CUlimit limit) { *value = 1 << 20; return CUDA_SUCCESS; }
CUresult cuCtxSetLimit(CUlimit limit, size_t value) { return CUDA_SUCCESS; }

CUresult cuDevicePrimaryCtxRetain(CUcontext *out, CUdevice device) {
  *out = (CUcontext)&context;
  return CUDA_SUCCESS;
}

CUresult cuModuleLoadData(CUmodule *module, const void *image) {
  if (modules == MOST) return CUDA_ERROR_OUT_OF_MEMORY;
  images[modules++] = image;
  *module = (CUmodule)modules;
  return CUDA_SUCCESS;
}

CUresult cuModuleUnload(CUmodule module) { return CUDA_SUCCESS; }

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
  if (functions == MOST) return CUDA_ERROR_OUT_OF_MEMORY;
  sources[functions] = images[(size_t)module - 1];
  names[functions++] = strdup(name);
  *function = (CUfunction)functions;
  return CUDA_SUCCESS;
}

CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction function) {
  *value = attribute == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024 : 0;
  return CUDA_SUCCESS;
}

CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) { return CUDA_SUCCESS; }
CUresult cuFuncSetCacheConfig(CUfunction function, CUfunc_cache config) { return CUDA_SUCCESS; }

CUresult cuPointerGetAttribute(void *value, CUpointer_attribute attribute, CUdeviceptr pointer) {
  *(CUdeviceptr *)value = pointer;
  return CUDA_SUCCESS;
}

CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status) {
  *status = CU_STREAM_CAPTURE_STATUS_NONE;
  return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveClusters(int *count, CUfunction function, const CUlaunchConfig *config) {
  *count = 1;
  return CUDA_SUCCESS;
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *c, CUfunction function, void **params, void **extra) {
  launches++;
  if (!hear) return CUDA_SUCCESS;
  const uint32_t config[] = {c->gridDimX,  c->gridDimY,  c->gridDimZ,       c->blockDimX,
                             c->blockDimY, c->blockDimZ, c->sharedMemBytes, c->numAttrs};
  return hear((uint64_t)function, config, (uint64_t)c->hStream, params) ? CUDA_ERROR_LAUNCH_FAILED : CUDA_SUCCESS;
}
