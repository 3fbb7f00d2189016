// What the kernels after the network share. engine/device_records.py describes the same layouts to numpy.

typedef unsigned long long Key;

// What may change from frame to frame; read from device memory, so that a captured graph need not be captured again.
struct Settings {
    float score_threshold;
    float objectness_floor;  // in the model's own terms: the threshold, or its logit for raw heads
    float iou_threshold;
    int max_detections;
    int max_candidates;
    int class_agnostic;
    int filter_classes;       // 0: all classes are wanted
    unsigned class_mask[256];  // bit c: class c is wanted; classes from 8192 on never are
};

// Of one image. `suppress` reads them and sets them back to zero for the next frame.
struct Counters {
    int candidates;
    int bad_objectness;  // values that are NaN or infinite; the others count those as well
    int bad_scores;      // also: above HIGHEST_SCORE
    int bad_boxes;       // also: of a finished model, no corners in network pixels
    int bad_classes;     // no whole numbers below the number of classes
};

#define HIGHEST_SCORE 1.001f  // what passes and is above it is no score; core/decode.py has the same number

static __device__ __forceinline__ bool is_wanted(const Settings &settings, int class_id) {
    if (!settings.filter_classes) return true;
    return (unsigned)class_id < 8192u && (settings.class_mask[class_id >> 5] >> (class_id & 31) & 1u);
}

// Keys sort by score, highest first; of equal scores the lower candidate number (row * classes + class) comes first.
// Scores are not negative, so their bits order as they do.
static __device__ __forceinline__ Key make_key(float score, unsigned candidate) {
    return (Key)__float_as_uint(score) << 32 | (unsigned)~candidate;
}

static __device__ __forceinline__ float key_score(Key key) { return __uint_as_float((unsigned)(key >> 32)); }
static __device__ __forceinline__ unsigned key_candidate(Key key) { return ~(unsigned)key; }
