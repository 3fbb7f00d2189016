// Suppress: candidates of each image -> its detections, in one block an image.
//
//   1. select   where there are more than max_candidates, find the lowest key that still belongs to the best ones (radix)
//   2. sort     by key: score, then candidate number (bitonic)
//   3. greedy   class-aware non-maximum suppression, a block of candidates at a time, until max_detections are kept;
//               boxes that lie wholly in the letterbox border are left out
//
// One barrier a kept box: each warp publishes which of its candidates are alive, and all threads find the next one for
// themselves. Everything is exact and deterministic. Compile with --fmad=false: IoU must equal the twin's.
//
// Twin: yolov7_trt_ros.core.decode.select_detections.

#include "settings.cuh"

#ifndef BLOCK
#define BLOCK 512
#endif
#define WARPS (BLOCK / 32)
#define AT_ONCE 8
#define SHARED_KEYS 4096  // sorted in shared memory up to this many
#define MOST_DETECTIONS 1000

// From network pixels to source pixels: source = (network - offset) / scale, clipped to 0..source size.
struct Geometry {
    double offset_x, offset_y, scale_x, scale_y, source_w, source_h;
};

// What the host reads, of one image.
struct Result {
    int count;
    int candidates;
    int bad_objectness;
    int bad_scores;
    int bad_boxes;
    int bad_classes;
    int unused[2];
    float4 boxes[MOST_DETECTIONS];  // xyxy in source pixels
    float scores[MOST_DETECTIONS];
    int class_ids[MOST_DETECTIONS];
};

struct Candidate {
    float4 box;  // xyxy in network pixels
    float area;
    int class_id;
};

// ---- 1. select --------------------------------------------------------------------------------------------------------

// Count a digit of one key a lane. A warp whose lanes agree adds once.
static __device__ __forceinline__ void count_digit(bool counted, int digit, int *histogram) {
    const unsigned lanes = __ballot_sync(0xffffffffu, counted);
    if (lanes == 0) return;
    const int shown = __shfl_sync(0xffffffffu, digit, __ffs(lanes) - 1);
    const bool uniform = __all_sync(0xffffffffu, !counted || digit == shown);
    if (uniform && (threadIdx.x & 31) == 0) atomicAdd(&histogram[shown], __popc(lanes));
    if (!uniform && counted) atomicAdd(&histogram[digit], 1);
}

// Count the digits at `shift` of all keys that share `prefix` above it.
static __device__ void count_digits(const Key *keys, int count, Key prefix, int shift, int *histogram) {
    for (int i = threadIdx.x; i < 256; i += BLOCK) histogram[i] = 0;
    __syncthreads();
    for (int first = 0; first < count; first += BLOCK * AT_ONCE) {
        Key some[AT_ONCE];
        for (int i = 0; i < AT_ONCE; i++) {  // several loads on their way before the first is used
            const int index = first + i * BLOCK + threadIdx.x;
            some[i] = index < count ? keys[index] : 0;  // 0 is no key: its candidate number is never used
        }
        for (int i = 0; i < AT_ONCE; i++) {
            // shifted in two steps: by 64 in one is undefined
            const bool counted = some[i] && (some[i] >> shift >> 8) == (prefix >> shift >> 8);
            count_digit(counted, (int)(some[i] >> shift & 255), histogram);
        }
    }
    __syncthreads();
}

// A bound that exactly the `wanted` highest keys reach. Keys differ from one another, so there is one.
static __device__ Key find_lowest(const Key *keys, int count, int wanted, int *histogram) {
    Key prefix = 0;
    int missing = wanted;
    for (int shift = 56; shift >= 0; shift -= 8) {
        count_digits(keys, count, prefix, shift, histogram);
        int digit = 255;
        while (histogram[digit] < missing) missing -= histogram[digit--];
        prefix |= (Key)digit << shift;
        const bool all = histogram[digit] == missing;  // of this digit every key is wanted
        __syncthreads();
        if (all) break;
    }
    return prefix;
}

// ---- 2. sort ----------------------------------------------------------------------------------------------------------

static __device__ int next_power_of_two(int value) {
    return value <= 2 ? 2 : 1 << (32 - __clz(value - 1));
}

// Highest first. size is a power of two.
static __device__ void sort_descending(Key *keys, int size) {
    for (int run = 2; run <= size; run <<= 1) {
        for (int distance = run >> 1; distance > 0; distance >>= 1) {
            __syncthreads();
            for (int i = threadIdx.x; i < size >> 1; i += BLOCK) {
                const int low = 2 * i - (i & (distance - 1)), high = low + distance;
                const Key left = keys[low], right = keys[high];
                const bool descending = (low & run) == 0;
                if (descending ? left < right : left > right) keys[low] = right, keys[high] = left;
            }
        }
    }
    __syncthreads();
}

// Copy the keys from `lowest` up to the front of `out`, fill up to `size` with zeros, which sort last.
static __device__ void gather_keys(const Key *keys, int count, Key lowest, Key *out, int size, int *taken) {
    if (threadIdx.x == 0) *taken = 0;
    for (int i = threadIdx.x; i < size; i += BLOCK) out[i] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < count; i += BLOCK)
        if (keys[i] >= lowest) out[atomicAdd(taken, 1)] = keys[i];
    __syncthreads();
}

// ---- 3. greedy --------------------------------------------------------------------------------------------------------

static __device__ __forceinline__ float to_source(float value, double offset, double scale, double size) {
    return (float)fmin(fmax(((double)value - offset) / scale, 0.0), size);
}

static __device__ __forceinline__ float4 box_in_source(const float4 &box, const Geometry &geometry) {
    return make_float4(to_source(box.x, geometry.offset_x, geometry.scale_x, geometry.source_w),
                       to_source(box.y, geometry.offset_y, geometry.scale_y, geometry.source_h),
                       to_source(box.z, geometry.offset_x, geometry.scale_x, geometry.source_w),
                       to_source(box.w, geometry.offset_y, geometry.scale_y, geometry.source_h));
}

static __device__ __forceinline__ float area_of(const float4 &box) {
    return fmaxf(box.z - box.x, 0.0f) * fmaxf(box.w - box.y, 0.0f);
}

static __device__ __forceinline__ bool suppresses(const Candidate &kept, const Candidate &other, float iou_threshold,
                                                  bool class_agnostic) {
    if (!class_agnostic && kept.class_id != other.class_id) return false;
    const float w = fmaxf(fminf(kept.box.z, other.box.z) - fmaxf(kept.box.x, other.box.x), 0.0f);
    const float h = fmaxf(fminf(kept.box.w, other.box.w) - fmaxf(kept.box.y, other.box.y), 0.0f);
    const float intersection = w * h;
    return intersection > (kept.area + other.area - intersection) * iou_threshold;
}

// Index of the first candidate alive, BLOCK where none is. Called by whole warps, which all come to the same answer.
static __device__ __forceinline__ int first_alive(const unsigned *alive) {
    const int lane = threadIdx.x & 31;
    const unsigned word = lane < WARPS ? alive[lane] : 0;
    const unsigned warps = __ballot_sync(0xffffffffu, word != 0);
    if (warps == 0) return BLOCK;
    const int warp = __ffs(warps) - 1;
    return warp * 32 + __ffs(__shfl_sync(0xffffffffu, word, warp)) - 1;
}

union Shared {
    Key keys[SHARED_KEYS];
    int histogram[256];
    struct {
        Candidate kept[MOST_DETECTIONS];
        Candidate chunk[BLOCK];
        unsigned alive[2][WARPS];
    } greedy;
};

struct Sorted {
    const Key *keys;
    const float4 *boxes;
    int count;
    unsigned classes;  // candidate number = row * classes + class
};

// Keep candidates until `most` are kept; returns how many. The same value in every thread.
static __device__ int keep_best(const Sorted &sorted, const Settings &settings, const Geometry &geometry, bool compare,
                                int most, Shared &shared, Result &result) {
    const int thread = threadIdx.x, warp = thread >> 5;
    const float iou_threshold = settings.iou_threshold;
    const bool agnostic = settings.class_agnostic != 0;
    int kept = 0;
    for (int first = 0; first < sorted.count && kept < most; first += BLOCK) {
        bool alive = first + thread < sorted.count;
        Candidate mine{};
        float4 source{};
        float score = 0.0f;
        if (alive) {
            const Key key = sorted.keys[first + thread];
            const unsigned candidate = key_candidate(key);
            mine.box = sorted.boxes[candidate / sorted.classes];
            mine.area = area_of(mine.box);
            mine.class_id = (int)(candidate % sorted.classes);
            score = fminf(key_score(key), 1.0f);
            source = box_in_source(mine.box, geometry);
            alive = source.z > source.x && source.w > source.y;
        }
        for (int i = 0; compare && alive && i < kept; i++)
            alive = !suppresses(shared.greedy.kept[i], mine, iou_threshold, agnostic);
        shared.greedy.chunk[thread] = mine;
        int side = 0;
        while (true) {
            const unsigned lanes = __ballot_sync(0xffffffffu, alive);
            if ((thread & 31) == 0) shared.greedy.alive[side][warp] = lanes;
            __syncthreads();
            const int chosen = kept < most ? first_alive(shared.greedy.alive[side]) : BLOCK;
            if (chosen == BLOCK) break;
            if (thread == chosen) {
                shared.greedy.kept[kept] = mine;
                result.boxes[kept] = source;
                result.scores[kept] = score;
                result.class_ids[kept] = mine.class_id;
                alive = false;
            } else if (compare && alive) {
                alive = !suppresses(shared.greedy.chunk[chosen], mine, iou_threshold, agnostic);
            }
            kept++;
            side ^= 1;  // the other half of `alive`: slower warps may still read this one
        }
        __syncthreads();  // chunk and kept are complete, and read to the end
    }
    return kept;
}

// keys (batch, capacity): overwritten; sorted (batch, sorted_capacity): room for the next power of two of the candidates;
// boxes (batch, rows): xyxy in network pixels; finished: the model suppressed overlaps itself, max_candidates is ignored.
extern "C" __global__ void __launch_bounds__(BLOCK)
    suppress(const Settings *settings, Counters *counters, const Key *keys, int capacity, Key *sorted, int sorted_capacity,
             const float4 *boxes, int rows, int classes, int finished, const Geometry *geometry, Result *results) {
    __shared__ Shared shared;
    __shared__ int taken;
    const int image = blockIdx.x;
    const Counters counted = counters[image];
    Result &result = results[image];
    keys += (size_t)image * capacity;
    sorted += (size_t)image * sorted_capacity;

    const int found = min(counted.candidates, capacity);
    const int count = finished ? found : min(found, settings->max_candidates);
    const Key lowest = count < found ? find_lowest(keys, found, count, shared.histogram) : 0;
    __syncthreads();
    const int size = next_power_of_two(count);
    Key *const workspace = size <= SHARED_KEYS ? shared.keys : sorted;
    gather_keys(keys, found, lowest, workspace, size, &taken);
    sort_descending(workspace, size);
    if (workspace != sorted)
        for (int i = threadIdx.x; i < count; i += BLOCK) sorted[i] = workspace[i];
    __syncthreads();

    const Sorted candidates{sorted, boxes + (size_t)image * rows, count, (unsigned)classes};
    const int most = min(settings->max_detections, MOST_DETECTIONS);
    const int kept = keep_best(candidates, *settings, geometry[image], !finished, most, shared, result);
    if (threadIdx.x == 0) {
        result.count = kept;
        result.candidates = counted.candidates;
        result.bad_objectness = counted.bad_objectness;
        result.bad_scores = counted.bad_scores;
        result.bad_boxes = counted.bad_boxes;
        result.bad_classes = counted.bad_classes;
        counters[image] = Counters{};
    }
}
