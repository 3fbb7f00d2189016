// Letterbox: raw image bytes of any encoding -> one image of the network input (3, H, W), RGB, 0..1.
//
// One thread makes one output pixel: it converts the four source pixels around its sampling point to RGB (integers, as
// OpenCV does), interpolates them in float and writes three planes. Pixels outside the scaled image get the border grey.
//
// Twin: yolov7_trt_ros.core.preprocess.Preprocessor (OpenCV). Sampling points and weights come from
// core.letterbox.sample_axis as tables, so the two cannot drift apart.

#include "half.cuh"

typedef unsigned char byte;

struct Image {
    const byte *data;
    int pitch;   // bytes from one row to the next
    int width;   // pixels
    int height;  // pixels
};

// The two source columns (or rows) of one output column (or row): value = first * (1 - weight) + second * weight.
struct Tap {
    int first;
    int second;
    float weight;
};

struct Rgb {
    float r, g, b;
};

static __device__ __forceinline__ Rgb rgb(int r, int g, int b) { return Rgb{float(r), float(g), float(b)}; }

// ---- one struct an encoding: the RGB value of the pixel (x, y), 0..255 ------------------------------------------------

template <int CHANNELS, int R, int G, int B>
struct Packed {
    static __device__ __forceinline__ Rgb at(const Image &image, int x, int y) {
        const byte *pixel = image.data + (size_t)y * image.pitch + x * CHANNELS;
        return rgb(pixel[R], pixel[G], pixel[B]);
    }
};

typedef Packed<3, 2, 1, 0> Bgr8;
typedef Packed<3, 0, 1, 2> Rgb8;
typedef Packed<4, 2, 1, 0> Bgra8;
typedef Packed<4, 0, 1, 2> Rgba8;
typedef Packed<1, 0, 0, 0> Mono8;

struct Mono16 {  // little-endian; 65535 becomes 255, as in cv_bridge
    static __device__ __forceinline__ Rgb at(const Image &image, int x, int y) {
        const byte *pixel = image.data + (size_t)y * image.pitch + x * 2;
        const float value = float(pixel[0] | pixel[1] << 8) * (255.0f / 65535.0f);
        return Rgb{value, value, value};
    }
};

static __device__ __forceinline__ int to_byte(int value) { return min(max(value, 0), 255); }

// ITU-R BT.601, limited range, in 20-bit fixed point.
static __device__ __forceinline__ Rgb from_yuv(int y, int u, int v) {
    const int luma = max(0, y - 16) * 1220542 + (1 << 19);
    u -= 128;
    v -= 128;
    return rgb(to_byte((luma + 1673527 * v) >> 20), to_byte((luma - 852492 * v - 409993 * u) >> 20),
               to_byte((luma + 2116026 * u) >> 20));
}

template <int Y, int U, int V>  // byte offsets within a pair of pixels
struct Yuv422 {
    static __device__ __forceinline__ Rgb at(const Image &image, int x, int y) {
        const byte *pair = image.data + (size_t)y * image.pitch + (x >> 1) * 4;
        return from_yuv(pair[Y + (x & 1) * 2], pair[U], pair[V]);
    }
};

typedef Yuv422<1, 0, 2> Uyvy;
typedef Yuv422<0, 1, 3> Yuyv;

template <int U, int V>  // byte offsets within a chroma pair
struct Yuv420 {
    static __device__ __forceinline__ Rgb at(const Image &image, int x, int y) {
        const byte *chroma = image.data + (size_t)(image.height + (y >> 1)) * image.pitch + (x & ~1);
        return from_yuv(image.data[(size_t)y * image.pitch + x], chroma[U], chroma[V]);
    }
};

typedef Yuv420<0, 1> Nv12;
typedef Yuv420<1, 0> Nv21;

// Bilinear demosaicing. The outermost pixels repeat their inner neighbours. Images are at least 3 x 3.
template <int RED_X, int RED_Y>  // position of red in the 2 x 2 mosaic
struct Bayer {
    static __device__ __forceinline__ Rgb at(const Image &image, int x, int y) {
        x = min(max(x, 1), image.width - 2);
        y = min(max(y, 1), image.height - 2);
        const byte *here = image.data + (size_t)y * image.pitch + x;
        const byte *above = here - image.pitch, *below = here + image.pitch;
        const int beside = here[-1] + here[1], upright = above[0] + below[0];
        const bool red_row = ((y ^ RED_Y) & 1) == 0, red_column = ((x ^ RED_X) & 1) == 0;
        if (red_row != red_column) {  // a green pixel
            const int in_row = (beside + 1) >> 1, in_column = (upright + 1) >> 1;
            return red_row ? rgb(in_row, here[0], in_column) : rgb(in_column, here[0], in_row);
        }
        const int green = (beside + upright + 2) >> 2;
        const int across = (above[-1] + above[1] + below[-1] + below[1] + 2) >> 2;
        return red_row ? rgb(here[0], green, across) : rgb(across, green, here[0]);
    }
};

typedef Bayer<0, 0> BayerRggb;
typedef Bayer<1, 1> BayerBggr;
typedef Bayer<0, 1> BayerGbrg;
typedef Bayer<1, 0> BayerGrbg;

// ---- sampling ---------------------------------------------------------------------------------------------------------

static __device__ __forceinline__ Rgb mix(const Rgb &first, const Rgb &second, float weight) {
    return Rgb{first.r + (second.r - first.r) * weight, first.g + (second.g - first.g) * weight,
               first.b + (second.b - first.b) * weight};
}

template <typename Encoding>
static __device__ __forceinline__ Rgb sample_row(const Image &image, const Tap &column, int y) {
    const Rgb first = Encoding::at(image, column.first, y);
    return column.weight == 0 ? first : mix(first, Encoding::at(image, column.second, y), column.weight);
}

template <typename Encoding>
static __device__ __forceinline__ Rgb sample(const Image &image, const Tap &column, const Tap &row) {
    const Rgb first = sample_row<Encoding>(image, column, row.first);
    // The second row may not even have been uploaded where its weight is 0.
    return row.weight == 0 ? first : mix(first, sample_row<Encoding>(image, column, row.second), row.weight);
}

static __device__ __forceinline__ void store(float *out, float value) { *out = value; }
static __device__ __forceinline__ void store(half_t *out, float value) { *out = float_to_half(value); }

template <typename Encoding, typename Sample>
static __device__ __forceinline__ void letterbox(const Image &image, const Tap *columns, const Tap *rows, int inner_w,
                                                 int inner_h, int left, int top, Sample *out, int out_w, int out_h) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= out_w || y >= out_h) return;
    const int column = x - left, row = y - top;
    Rgb value{114.0f, 114.0f, 114.0f};
    if (column >= 0 && column < inner_w && row >= 0 && row < inner_h)
        value = sample<Encoding>(image, columns[column], rows[row]);
    const size_t plane = (size_t)out_w * out_h, position = (size_t)y * out_w + x;
    store(out + position, value.r * (1.0f / 255.0f));
    store(out + position + plane, value.g * (1.0f / 255.0f));
    store(out + position + 2 * plane, value.b * (1.0f / 255.0f));
}

// source: a cell that holds the address of the image, so that a captured graph can be pointed at another one.
// columns (inner_w), rows (inner_h): sampling tables; row numbers count uploaded rows.
// (left, top): where the scaled image lies in the network input; out: (3, out_h, out_w).
#define LETTERBOX(name, encoding, sample_type)                                                                         \
    extern "C" __global__ void letterbox_##name(const byte *const *source, int pitch, int width, int height,           \
                                                const Tap *columns, const Tap *rows, int inner_w, int inner_h,         \
                                                int left, int top, sample_type *out, int out_w, int out_h) {           \
        letterbox<encoding>(Image{*source, pitch, width, height}, columns, rows, inner_w, inner_h, left, top, out,     \
                            out_w, out_h);                                                                             \
    }

#define BOTH(name, encoding)                  \
    LETTERBOX(name##_float32, encoding, float) \
    LETTERBOX(name##_float16, encoding, half_t)

BOTH(bgr8, Bgr8)
BOTH(rgb8, Rgb8)
BOTH(bgra8, Bgra8)
BOTH(rgba8, Rgba8)
BOTH(mono8, Mono8)
BOTH(mono16, Mono16)
BOTH(bayer_rggb8, BayerRggb)
BOTH(bayer_bggr8, BayerBggr)
BOTH(bayer_gbrg8, BayerGbrg)
BOTH(bayer_grbg8, BayerGrbg)
BOTH(uyvy, Uyvy)
BOTH(yuyv, Yuyv)
BOTH(nv12, Nv12)
BOTH(nv21, Nv21)
