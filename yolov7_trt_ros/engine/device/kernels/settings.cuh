// What the kernels after the network share. engine/gpu/device_records.py describes the same layouts to numpy.

typedef unsigned long long Key;

// What may change from frame to frame; read from device memory, so that a captured graph need not be captured again.
struct Settings {
    float score_threshold;   // the least of all classes
    float objectness_floor;  // in the model's own terms: that threshold, or its logit for raw heads
    float iou_threshold;
    int max_detections;
    int max_candidates;
    int class_agnostic;
    int per_class;                  // 0: one threshold for all classes
    float class_thresholds[8192];  // infinite: the class is not wanted; classes from 8192 on never are
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

// Whether a score that is above the least of all thresholds is one of its class as well.
static __device__ __forceinline__ bool is_wanted(const Settings &settings, int class_id, float score) {
    if (!settings.per_class) return true;
    return (unsigned)class_id < 8192u && score > settings.class_thresholds[class_id];
}

// Keys sort by score, highest first; of equal scores the lower candidate number (row * classes + class) comes first.
// Scores are not negative, so their bits order as they do.
static __device__ __forceinline__ Key make_key(float score, unsigned candidate) {
    return (Key)__float_as_uint(score) << 32 | (unsigned)~candidate;
}

static __device__ __forceinline__ float key_score(Key key) { return __uint_as_float((unsigned)(key >> 32)); }
static __device__ __forceinline__ unsigned key_candidate(Key key) { return ~(unsigned)key; }
