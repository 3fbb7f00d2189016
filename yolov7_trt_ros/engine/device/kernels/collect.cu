// Collect: the network's output -> candidates, i.e. (box, class) pairs whose score passes the threshold.
//
// A warp looks at 32 rows at once: each lane reads the objectness of one row, and the warp then scans the classes of the
// rows that pass, together. Rows that pass lie in crowds, around objects: so the rows of a warp are spread over the image,
// in groups of 4 neighbours, or one warp would scan a whole crowd while the others are done. Candidates are appended in any order; their keys carry the order (settings.cuh), so the
// result does not depend on it. blockIdx.y is the image. Compile with --fmad=false: scores and boxes must equal the twin's.
//
// Twin: yolov7_trt_ros.core.decode.decode_outputs.

#include "half.cuh"

#include "settings.cuh"

#ifndef INFINITY  // NVRTC has no <math.h>
#define INFINITY __int_as_float(0x7f800000)
#endif

static __device__ __forceinline__ float as_float(float value) { return value; }
static __device__ __forceinline__ float as_float(half_t value) { return half_to_float(value); }
static __device__ __forceinline__ float sigmoid(float value) { return 1.0f / (1.0f + expf(-value)); }

static __device__ __forceinline__ float4 corners(float cx, float cy, float w, float h) {
    const float half_w = w * 0.5f, half_h = h * 0.5f;
    return make_float4(cx - half_w, cy - half_h, cx + half_w, cy + half_h);
}

// ---- one struct an output layout: what a row holds --------------------------------------------------------------------

template <typename T>
struct GridRows {  // (rows, 5 + classes): cx, cy, w, h in network pixels, objectness, classes, all decoded
    static const bool FILTERED = true;  // rows of low objectness need no look at their classes
    typedef int Place;                  // what is worked out once a row
    const T *data;
    int row_step;    // elements from one row to the next
    int value_step;  // ... from one value of a row to the next

    __device__ __forceinline__ int place(int row) const { return row; }

    __device__ __forceinline__ float value(int row, int index) const {
        return as_float(data[(size_t)row * row_step + (size_t)index * value_step]);
    }
    __device__ __forceinline__ float objectness(int row) const { return value(row, 4); }
    __device__ __forceinline__ float activate(float objectness) const { return objectness; }
    __device__ __forceinline__ float class_score(int row, int class_id) const { return value(row, 5 + class_id); }
    __device__ __forceinline__ float box_value(int row, int index) const { return value(row, index); }
    __device__ __forceinline__ float4 box(int, const float4 &raw) const { return corners(raw.x, raw.y, raw.z, raw.w); }
};

// One raw head: logits. engine/gpu/device_records.py describes the same layout to numpy.
struct Head {
    Key data;         // address of float or half values
    int is_half;
    int first_row;    // number of its first row among the rows of all heads
    int cells;        // grid cells: height * width
    int width;        // in cells
    int image_step;   // elements from one image to the next
    int anchor_step;  // ... from one anchor to the next
    int cell_step;    // ... from one cell to the next
    int value_step;   // ... from one value of a cell to the next
    float stride;     // network pixels a cell
    float anchors[6]; // width and height in network pixels of three anchors
    int unused;
};

struct HeadPlace {
    const void *data;
    size_t first;    // element of the row's value 0
    int value_step;
    int is_half;
    int head, anchor, cell;
};

struct HeadRows {  // rows count heads first, then anchors, then cells
    static const bool FILTERED = true;
    typedef HeadPlace Place;
    const Head *heads;
    int count;

    __device__ __forceinline__ HeadPlace place(int row) const {
        int index = 0;
        while (index + 1 < count && row >= heads[index + 1].first_row) ++index;
        const Head &head = heads[index];
        const int local = row - head.first_row, anchor = local / head.cells, cell = local % head.cells;
        const size_t first = (size_t)blockIdx.y * head.image_step + (size_t)anchor * head.anchor_step +
                             (size_t)cell * head.cell_step;
        return HeadPlace{(const void *)head.data, first, head.value_step, head.is_half, index, anchor, cell};
    }
    __device__ __forceinline__ float value(const HeadPlace &place, int index) const {
        const size_t at = place.first + (size_t)index * place.value_step;
        return place.is_half ? as_float(((const half_t *)place.data)[at]) : as_float(((const float *)place.data)[at]);
    }
    __device__ __forceinline__ float objectness(const HeadPlace &place) const { return value(place, 4); }
    __device__ __forceinline__ float activate(float objectness) const { return sigmoid(objectness); }
    __device__ __forceinline__ float class_score(const HeadPlace &place, int class_id) const {
        return sigmoid(value(place, 5 + class_id));
    }
    __device__ __forceinline__ float box_value(const HeadPlace &place, int index) const { return value(place, index); }
    __device__ __forceinline__ float4 box(const HeadPlace &place, const float4 &raw) const {
        const Head &head = heads[place.head];
        const float x = float(place.cell % head.width), y = float(place.cell / head.width);
        const float w = sigmoid(raw.z) * 2, h = sigmoid(raw.w) * 2;
        return corners((sigmoid(raw.x) * 2 - 0.5f + x) * head.stride, (sigmoid(raw.y) * 2 - 0.5f + y) * head.stride,
                       w * w * head.anchors[place.anchor * 2], h * h * head.anchors[place.anchor * 2 + 1]);
    }
};

template <typename B, typename S>
struct PairRows {  // boxes (rows, 4) and scores (rows, classes) with objectness multiplied in
    static const bool FILTERED = false;
    typedef int Place;
    const B *boxes;
    const S *scores;
    int classes;
    bool centres;  // boxes are cx, cy, w, h rather than corners

    __device__ __forceinline__ int place(int row) const { return row; }
    __device__ __forceinline__ float objectness(int) const { return 1.0f; }
    __device__ __forceinline__ float activate(float) const { return 1.0f; }
    __device__ __forceinline__ float class_score(int row, int class_id) const {
        return as_float(scores[(size_t)row * classes + class_id]);
    }
    __device__ __forceinline__ float box_value(int row, int index) const { return as_float(boxes[(size_t)row * 4 + index]); }
    __device__ __forceinline__ float4 box(int, const float4 &raw) const {
        return centres ? corners(raw.x, raw.y, raw.z, raw.w) : raw;
    }
};

// ---- the scan ---------------------------------------------------------------------------------------------------------

// Where candidates of one image go.
struct Sink {
    const Settings *settings;
    Counters *counters;
    Key *keys;
    int capacity;
    float4 *boxes;  // xyxy in network pixels, one a row
};

static __device__ __forceinline__ bool is_finite(const float4 &box) {
    return isfinite(box.x) && isfinite(box.y) && isfinite(box.z) && isfinite(box.w);
}

static __device__ __forceinline__ void append(const Sink &sink, float score, unsigned candidate) {
    const int position = atomicAdd(&sink.counters->candidates, 1);
    if (position < sink.capacity) sink.keys[position] = make_key(score, candidate);
}

static __device__ __forceinline__ void keep_box(const Sink &sink, int row, const float4 &box) {
    if (!is_finite(box)) atomicAdd(&sink.counters->bad_boxes, 1);
    sink.boxes[row] = box;
}

// The four values of a row's box, read by four lanes at once and given to all. Called by a whole warp.
static __device__ __forceinline__ float4 share_box(float value) {
    const unsigned all = 0xffffffffu;
    const float a = __shfl_sync(all, value, 0), b = __shfl_sync(all, value, 1);
    const float c = __shfl_sync(all, value, 2), d = __shfl_sync(all, value, 3);
    return make_float4(a, b, c, d);
}

// One candidate a class that passes. Called by a whole warp.
template <typename Rows>
static __device__ __forceinline__ void take_all_classes(const Rows &rows, const Sink &sink, int row, float objectness,
                                                        int classes, bool scored) {
    const float threshold = sink.settings->score_threshold;
    const typename Rows::Place place = rows.place(row);
    const float box_value = rows.box_value(place, threadIdx.x & 3);  // asked for early: it takes as long as the classes
    bool passed = false, bad = false, low = false, finite = false;
#pragma unroll 4
    for (int c = threadIdx.x & 31; c < classes; c += 32) {
        const float score = scored ? rows.class_score(place, c) * objectness : objectness;
        finite |= isfinite(score);
        low |= isinf(score) && score < 0;
        bad |= isnan(score) || (isinf(score) && score > 0);
        if (score > threshold) {
            passed = true;
            bad |= score > HIGHEST_SCORE;
            if (is_wanted(*sink.settings, c, score)) append(sink, score, (unsigned)row * classes + c);
        }
    }
    passed = __any_sync(0xffffffffu, passed);
    finite = __any_sync(0xffffffffu, finite);
    // minus infinity matters in rows that are candidates, and where there is nothing else
    bad = __any_sync(0xffffffffu, bad || (low && (Rows::FILTERED || passed || !finite)));
    const float4 raw = share_box(box_value);
    if ((threadIdx.x & 31) != 0) return;
    if (bad) atomicAdd(&sink.counters->bad_scores, 1);
    if (passed) keep_box(sink, row, rows.box(place, raw));
}

// The best class alone; of equal scores the lowest class. Called by a whole warp.
template <typename Rows>
static __device__ __forceinline__ void take_best_class(const Rows &rows, const Sink &sink, int row, float objectness,
                                                       int classes, bool scored) {
    const typename Rows::Place place = rows.place(row);
    const float box_value = rows.box_value(place, threadIdx.x & 3);
    float best = -INFINITY;
    int best_class = 0x7fffffff;
    bool bad = false;
#pragma unroll 4
    for (int c = threadIdx.x & 31; c < classes; c += 32) {
        const float score = scored ? rows.class_score(place, c) * objectness : objectness;
        bad |= isnan(score);
        if (score > best) best = score, best_class = c;
    }
    for (int step = 16; step > 0; step >>= 1) {
        const float other = __shfl_xor_sync(0xffffffffu, best, step);
        const int other_class = __shfl_xor_sync(0xffffffffu, best_class, step);
        if (other > best || (other == best && other_class < best_class)) best = other, best_class = other_class;
    }
    bad = __any_sync(0xffffffffu, bad) || isinf(best) || best > HIGHEST_SCORE;
    const float4 raw = share_box(box_value);
    if ((threadIdx.x & 31) != 0) return;
    if (bad) {
        atomicAdd(&sink.counters->bad_scores, 1);
    } else if (best > sink.settings->score_threshold) {
        keep_box(sink, row, rows.box(place, raw));
        if (is_wanted(*sink.settings, best_class, best)) append(sink, best, (unsigned)row * classes + best_class);
    }
}

// The row of this thread: all rows are given out once, to a warp 8 groups of 4 from all over the image.
static __device__ __forceinline__ int spread_row() {
    const int warps = gridDim.x * blockDim.x / 32, warp = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
    const int lane = threadIdx.x & 31;
    return (lane / 4 * warps + warp) * 4 + lane % 4;
}

// scored: class scores exist; a model of one class has its objectness for a score.
template <typename Rows>
static __device__ __forceinline__ void collect(const Rows &rows, const Sink &sink, int count, int classes, bool scored,
                                               bool multi_label) {
    const int row = Rows::FILTERED ? spread_row() : blockIdx.x * blockDim.x + threadIdx.x;
    float objectness = 0.0f;
    bool likely = false;
    if (row < count) {
        const float raw = rows.objectness(rows.place(row));
        if (!isfinite(raw)) atomicAdd(&sink.counters->bad_objectness, 1);
        objectness = rows.activate(raw);
        likely = !Rows::FILTERED ||
                 (raw > sink.settings->objectness_floor && objectness > sink.settings->score_threshold);
    }
    // the class of a model of one is not used, but it has to be one: a label is not
    if (likely && !scored && rows.class_score(rows.place(row), 0) > HIGHEST_SCORE) atomicAdd(&sink.counters->bad_scores, 1);
    unsigned pending = __ballot_sync(0xffffffffu, likely);
    while (pending) {
        const int owner = __ffs(pending) - 1;
        pending &= pending - 1;
        const float value = __shfl_sync(0xffffffffu, objectness, owner);
        const int taken = __shfl_sync(0xffffffffu, row, owner);
        if (multi_label)
            take_all_classes(rows, sink, taken, value, classes, scored);
        else
            take_best_class(rows, sink, taken, value, classes, scored);
    }
}

static __device__ __forceinline__ Sink sink_of(const Settings *settings, Counters *counters, Key *keys, int capacity,
                                               float4 *boxes, int rows) {
    const int image = blockIdx.y;
    return Sink{settings, counters + image, keys + (size_t)image * capacity, capacity, boxes + (size_t)image * rows};
}

// output: (batch, rows, 5 + classes), or with the last two exchanged, as the steps say. keys: (batch, capacity); boxes:
// (batch, rows).
#define COLLECT_GRID(type, T)                                                                                          \
    extern "C" __global__ void collect_grid_##type(const T *output, const Settings *settings, Counters *counters,      \
                                                   Key *keys, int capacity, float4 *boxes, int rows, int classes,      \
                                                   int multi_label, int row_step, int value_step) {                    \
        const GridRows<T> grid{output + (size_t)blockIdx.y * rows * (5 + classes), row_step, value_step};              \
        collect(grid, sink_of(settings, counters, keys, capacity, boxes, rows), rows, classes, classes > 1,         \
                multi_label != 0);                                                                                     \
    }

COLLECT_GRID(float32, float)
COLLECT_GRID(float16, half_t)

// heads: all heads of the model, one launch for all: a small one after another would leave most of the GPU idle. rows: of
// all heads together.
extern "C" __global__ void collect_heads(const Head *heads, const Settings *settings, Counters *counters, Key *keys,
                                         int capacity, float4 *boxes, int rows, int classes, int multi_label, int count) {
    const HeadRows logits{heads, count};
    collect(logits, sink_of(settings, counters, keys, capacity, boxes, rows), rows, classes, classes > 1, multi_label != 0);
}

// pair_boxes: (batch, rows, 4); scores: (batch, rows, classes).
#define COLLECT_PAIR(type, B, S)                                                                                       \
    extern "C" __global__ void collect_pair_##type(const B *pair_boxes, const S *scores, const Settings *settings,     \
                                                   Counters *counters, Key *keys, int capacity, float4 *boxes,         \
                                                   int rows, int classes, int multi_label, int centres) {              \
        const size_t image = blockIdx.y;                                                                               \
        const PairRows<B, S> pair{pair_boxes + image * rows * 4, scores + image * rows * classes, classes, centres != 0}; \
        collect(pair, sink_of(settings, counters, keys, capacity, boxes, rows), rows, classes, true,                \
                multi_label != 0);                                                                                     \
    }

COLLECT_PAIR(float32_float32, float, float)
COLLECT_PAIR(float16_float16, half_t, half_t)
COLLECT_PAIR(float32_float16, float, half_t)
COLLECT_PAIR(float16_float32, half_t, float)

// ---- a box with one class -----------------------------------------------------------------------------------------------

static __device__ __forceinline__ bool as_class(int value, int limit, int *class_id) {
    *class_id = value;
    return value >= 0 && value < limit;
}
static __device__ __forceinline__ bool as_class(long long value, int limit, int *class_id) {
    *class_id = (int)value;
    return value >= 0 && value < limit;
}
static __device__ __forceinline__ bool as_class(float value, int limit, int *class_id) {
    if (!(value >= 0.0f && value < (float)limit)) return false;  // NaN as well
    *class_id = (int)value;
    return (float)*class_id == value;
}
static __device__ __forceinline__ bool as_class(half_t value, int limit, int *class_id) {
    return as_class(half_to_float(value), limit, class_id);
}

// The class of a row that passed: counted where it is none, else a candidate. Candidate numbers are row * 8192 + class.
template <typename L>
static __device__ __forceinline__ void take_class(const Sink &sink, L label, int limit, float score, int row) {
    int class_id;
    if (!as_class(label, limit, &class_id))
        atomicAdd(&sink.counters->bad_classes, 1);
    else if (is_wanted(*sink.settings, class_id, score))
        append(sink, score, (unsigned)row * 8192u + class_id);
}

// Elements from one image, row and value to the next, and where the first value of a row lies.
struct Steps {
    int first, image, row, value;

    __device__ __forceinline__ size_t at(int row_index, int index) const {
        return first + (size_t)blockIdx.y * image + (size_t)row_index * row + (size_t)index * value;
    }
};

// A box, a score and a label a row, before suppression; one thread a row. objectness: column beside the score that it is
// multiplied with, counted in values from it; 0 where there is none.
template <typename B, typename S, typename L>
static __device__ __forceinline__ void take_labelled(const B *boxes, const Steps &box_at, const S *scores,
                                                     const Steps &score_at, int objectness, const L *labels,
                                                     const Steps &label_at, const Sink &sink, int rows, int limit,
                                                     bool centres) {
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    float score = as_float(scores[score_at.at(row, 0)]);
    if (objectness != 0) score *= as_float(scores[score_at.at(row, 0) + (long long)objectness * score_at.value]);
    if (!isfinite(score)) {
        atomicAdd(&sink.counters->bad_scores, 1);
        return;
    }
    if (!(score > sink.settings->score_threshold)) return;
    if (score > HIGHEST_SCORE) atomicAdd(&sink.counters->bad_scores, 1);
    const float a = as_float(boxes[box_at.at(row, 0)]), b = as_float(boxes[box_at.at(row, 1)]);
    const float c = as_float(boxes[box_at.at(row, 2)]), d = as_float(boxes[box_at.at(row, 3)]);
    keep_box(sink, row, centres ? corners(a, b, c, d) : make_float4(a, b, c, d));
    take_class(sink, labels[label_at.at(row, 0)], limit, score, row);
}

// *_first, *_image, *_row, *_value: as in Steps, of each tensor; all three may be one. limit: number of classes.
#define COLLECT_LABELLED(type, B, S, L)                                                                                \
    extern "C" __global__ void collect_labelled_##type(                                                                \
        const B *labelled, const S *scores, const L *labels, const Settings *settings, Counters *counters, Key *keys,  \
        int capacity, float4 *boxes, int rows, int limit, int centres, int objectness, int box_first, int box_image,   \
        int box_row, int box_value, int score_first, int score_image, int score_row, int score_value, int label_first, \
        int label_image, int label_row, int label_value) {                                                             \
        take_labelled(labelled, Steps{box_first, box_image, box_row, box_value}, scores,                               \
                      Steps{score_first, score_image, score_row, score_value}, objectness, labels,                     \
                      Steps{label_first, label_image, label_row, label_value},                                         \
                      sink_of(settings, counters, keys, capacity, boxes, rows), rows, limit, centres != 0);         \
    }

COLLECT_LABELLED(float32_float32_float32, float, float, float)
COLLECT_LABELLED(float32_float32_float16, float, float, half_t)
COLLECT_LABELLED(float32_float32_int32, float, float, int)
COLLECT_LABELLED(float32_float32_int64, float, float, long long)
COLLECT_LABELLED(float32_float16_float32, float, half_t, float)
COLLECT_LABELLED(float32_float16_float16, float, half_t, half_t)
COLLECT_LABELLED(float32_float16_int32, float, half_t, int)
COLLECT_LABELLED(float32_float16_int64, float, half_t, long long)
COLLECT_LABELLED(float16_float32_float32, half_t, float, float)
COLLECT_LABELLED(float16_float32_float16, half_t, float, half_t)
COLLECT_LABELLED(float16_float32_int32, half_t, float, int)
COLLECT_LABELLED(float16_float32_int64, half_t, float, long long)
COLLECT_LABELLED(float16_float16_float32, half_t, half_t, float)
COLLECT_LABELLED(float16_float16_float16, half_t, half_t, half_t)
COLLECT_LABELLED(float16_float16_int32, half_t, half_t, int)
COLLECT_LABELLED(float16_float16_int64, half_t, half_t, long long)

// Corners the wrong way round, as widths and heights look, or a box of 0..1: no object is smaller than a network pixel.
static __device__ __forceinline__ bool is_no_corners(const float4 &box) {
    const bool turned = box.z < box.x - 1.0f || box.w < box.y - 1.0f;
    const bool unit = fminf(fminf(box.x, box.y), fminf(box.z, box.w)) > -0.01f &&
                      fmaxf(fmaxf(box.x, box.y), fmaxf(box.z, box.w)) < 1.01f && box.z > box.x && box.w > box.y;
    return turned || unit;
}

// What a model that suppressed overlaps itself gives: counts (batch), boxes (batch, rows, 4) xyxy, scores (batch, rows),
// class ids (batch, rows). One thread a detection.
template <typename B, typename S>
static __device__ __forceinline__ void take_finished(const int *counts, const B *boxes, const S *scores,
                                                     const int *class_ids, const Sink &sink, int rows, int limit) {
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= min(rows, max(counts[blockIdx.y], 0))) return;
    const size_t position = (size_t)blockIdx.y * rows + row;
    const float score = as_float(scores[position]);
    const B *corner = boxes + position * 4;
    const float4 box = make_float4(as_float(corner[0]), as_float(corner[1]), as_float(corner[2]), as_float(corner[3]));
    const bool passed = score > sink.settings->score_threshold;
    if (!isfinite(score) || (passed && score > HIGHEST_SCORE)) atomicAdd(&sink.counters->bad_scores, 1);
    keep_box(sink, row, box);
    if (!passed) return;
    if (is_finite(box) && is_no_corners(box)) atomicAdd(&sink.counters->bad_boxes, 1);
    take_class(sink, class_ids[position], limit, score, row);
}

#define COLLECT_FINISHED(type, B, S)                                                                                   \
    extern "C" __global__ void collect_finished_##type(                                                                \
        const int *counts, const B *finished, const S *scores, const int *class_ids, const Settings *settings,         \
        Counters *counters, Key *keys, int capacity, float4 *boxes, int rows, int limit) {                             \
        take_finished(counts, finished, scores, class_ids,                                                             \
                      sink_of(settings, counters, keys, capacity, boxes, rows), rows, limit);                       \
    }

COLLECT_FINISHED(float32_float32, float, float)
COLLECT_FINISHED(float16_float16, half_t, half_t)
COLLECT_FINISHED(float32_float16, float, half_t)
COLLECT_FINISHED(float16_float32, half_t, float)
