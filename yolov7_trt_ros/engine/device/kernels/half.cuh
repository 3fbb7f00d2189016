// 16-bit floats without cuda_fp16.h, which a machine that only runs CUDA does not have.

struct half_t {
    unsigned short bits;
};

#ifdef CUDA_ON_HOST  // the tests' emulation has no PTX
static float half_to_float(half_t value) { return __half2float(__half{value.bits}); }
static half_t float_to_half(float value) { return half_t{__float2half(value).bits}; }
#else
static __device__ __forceinline__ float half_to_float(half_t value) {
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
    return result;
}

static __device__ __forceinline__ half_t float_to_half(float value) {  // to the nearest, ties to even
    half_t result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
}
#endif
