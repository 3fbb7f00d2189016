// CUDA C++ on the CPU, for tests: compile a .cu file with `g++ -include cuda_on_host.h` and run its kernels.
//
// Blocks run one after another. The threads of a block are fibers on one CPU thread: each runs until it reaches a
// barrier or a warp collective, then another one has its turn. Seed 0 gives turns in order, all threads abreast. Other
// seeds shuffle the threads, or whole warps, and let a warp run ahead to the next barrier. Before each block, shared
// memory is filled with 0xA5. Both make a missing barrier show itself.
// Between two such points a thread is never interrupted: `count++` where atomicAdd is needed goes unnoticed.
//
// Stricter than a GPU: a collective whose mask names a lane that has exited, and threads of a block that wait at
// different __syncthreads, are reported as a deadlock. Not there: extern __shared__, inline PTX, textures, cooperative
// groups, arithmetic on __half, and spinning on memory that another thread has yet to write (it never ends). Memory is
// not checked: a kernel that writes outside its arrays harms the process.

#pragma once

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <deque>
#include <map>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

// ---- words of the language --------------------------------------------------------------------------------------------

#define CUDA_ON_HOST 1  // for sources that must know

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __shared__ static __attribute__((section("cuda_shared")))  // the linker marks where the section begins and ends

// ---- vector types -----------------------------------------------------------------------------------------------------

#define CUDA_HOST_VECTORS(name, type, align2, align4)                                                                  \
    struct alignas(align2) name##2 { type x, y; };                                                                     \
    struct name##3 { type x, y, z; };                                                                                  \
    struct alignas(align4) name##4 { type x, y, z, w; };                                                               \
    inline name##2 make_##name##2(type x, type y) { return {x, y}; }                                                   \
    inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; }                                        \
    inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }

CUDA_HOST_VECTORS(char, signed char, 2, 4)
CUDA_HOST_VECTORS(uchar, unsigned char, 2, 4)
CUDA_HOST_VECTORS(short, short, 4, 8)
CUDA_HOST_VECTORS(ushort, unsigned short, 4, 8)
CUDA_HOST_VECTORS(int, int, 8, 16)
CUDA_HOST_VECTORS(uint, unsigned, 8, 16)
CUDA_HOST_VECTORS(longlong, long long, 16, 16)
CUDA_HOST_VECTORS(ulonglong, unsigned long long, 16, 16)
CUDA_HOST_VECTORS(float, float, 8, 16)
CUDA_HOST_VECTORS(double, double, 16, 16)

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

static const int warpSize = 32;
static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;

// ---- fibers: a stack and a place to go on each ------------------------------------------------------------------------

namespace cuda_host {

typedef unsigned long long Word;

const int MOST_THREADS = 1024;
const size_t STACK_BYTES = 64 * 1024;
const size_t SPARE_BYTES = STACK_BYTES + 320;  // in front of each; odd, or the stacks would share few lines of the cache
const Word STACK_END = 0xC0DEC0DEC0DEC0DEull;  // stands at the far end of each stack

#if !defined(CUDA_HOST_UCONTEXT) && (defined(__x86_64__) || defined(__aarch64__))

// Written in assembly, as swapcontext makes a system call a switch. It saves what a function must leave as it found it.
// That the compiler cannot see into it matters too: it has to expect that memory has changed after the call.
typedef void *Context;
extern "C" __attribute__((visibility("hidden"))) void cuda_host_switch(Context *from, Context to);

#ifdef __x86_64__
asm(".text\n.globl cuda_host_switch\n.hidden cuda_host_switch\n.type cuda_host_switch, @function\ncuda_host_switch:\n"
    "pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
    "movq %rsp, (%rdi)\n movq %rsi, %rsp\n"
    "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret\n"
    ".size cuda_host_switch, . - cuda_host_switch\n");
const int SAVED_WORDS = 8, RETURN_WORD = 6;  // with the return address and a word that aligns
#else
asm(".text\n.globl cuda_host_switch\n.hidden cuda_host_switch\n.type cuda_host_switch, %function\ncuda_host_switch:\n"
    "sub sp, sp, #160\n"
    "stp x19, x20, [sp]\n stp x21, x22, [sp, #16]\n stp x23, x24, [sp, #32]\n stp x25, x26, [sp, #48]\n"
    "stp x27, x28, [sp, #64]\n stp x29, x30, [sp, #80]\n stp d8, d9, [sp, #96]\n stp d10, d11, [sp, #112]\n"
    "stp d12, d13, [sp, #128]\n stp d14, d15, [sp, #144]\n"
    "mov x9, sp\n str x9, [x0]\n mov sp, x1\n"
    "ldp x19, x20, [sp]\n ldp x21, x22, [sp, #16]\n ldp x23, x24, [sp, #32]\n ldp x25, x26, [sp, #48]\n"
    "ldp x27, x28, [sp, #64]\n ldp x29, x30, [sp, #80]\n ldp d8, d9, [sp, #96]\n ldp d10, d11, [sp, #112]\n"
    "ldp d12, d13, [sp, #128]\n ldp d14, d15, [sp, #144]\n"
    "add sp, sp, #160\n ret\n.size cuda_host_switch, . - cuda_host_switch\n");
const int SAVED_WORDS = 20, RETURN_WORD = 11;
#endif

inline void prepare(Context &context, char *stack, void (*entry)()) {
    Word *const saved = reinterpret_cast<Word *>(stack + STACK_BYTES) - SAVED_WORDS;
    memset(saved, 0, SAVED_WORDS * sizeof(Word));
    saved[RETURN_WORD] = reinterpret_cast<Word>(entry);
    context = saved;
}

inline void switch_to(Context &from, Context &to) { cuda_host_switch(&from, to); }

#else

typedef ucontext_t Context;

inline void prepare(Context &context, char *stack, void (*entry)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&context, entry, 0);
}

inline void switch_to(Context &from, Context &to) { swapcontext(&from, &to); }

#endif

// ---- threads, warps, the block that runs ------------------------------------------------------------------------------

struct Warp {
    unsigned waiting;  // lanes that wait at a collective
    unsigned exited;   // lanes that have exited or never were
    unsigned turn;     // place among the warps since the last barrier
};

struct Thread {
    Context context;
    uint3 index;
    int number;            // in the block
    const char *waits_at;  // name of a barrier or collective; nullptr where it does not wait
    int line;              // where that is in the source
    unsigned mask;         // lanes of the collective; 0: a barrier
    int source;            // lane whose value is wanted; -1: the ballot
    Word value, result;    // what it brings to a collective, what it takes away
};

struct Block {
    void (*body)(const void *arguments);  // calls the kernel
    const void *arguments;
    int size;                     // threads
    int live;                     // ... that have not exited
    int arrived;                  // ... at the barrier
    int votes;                    // ... that brought a true predicate
    const Thread *first;          // ... the first of them
    bool uniform;                 // whether all are at the same barrier as the first
    int last_votes;               // of the barrier that opened last
    unsigned seed;
    Word random;                  // state of the generator
    std::deque<Thread *> ready;   // who can go on
    std::string error;            // ends the launch
};

static Block block;
static Thread threads[MOST_THREADS];
static Warp warps[MOST_THREADS / 32];
static Thread *current;
static Context scheduler;

// From the linker; null where the source has no shared memory.
extern "C" __attribute__((weak, visibility("hidden"))) char __start_cuda_shared[], __stop_cuda_shared[];

inline void pause() { switch_to(current->context, scheduler); }

inline void fail(const std::string &message) {  // does not return: this thread has no turn any more
    block.error = message;
    pause();
}

inline void resume_later(Thread &thread) {
    thread.waits_at = nullptr;
    block.ready.push_back(&thread);
}

inline unsigned draw() {
    block.random = block.random * 6364136223846793005ull + 1442695040888963407ull;
    return unsigned(block.random >> 32);
}

template <typename Items>
void shuffle(Items &items) {
    for (size_t i = items.size(); block.seed && i > 1; i--) std::swap(items[i - 1], items[draw() % i]);
}

// At the start and after barriers: shuffle the threads, every other time keep those of a warp together.
inline void shuffle_ready() {
    shuffle(block.ready);
    if (block.seed == 0 || draw() % 2) return;
    for (Warp &warp : warps) warp.turn = draw();
    std::stable_sort(block.ready.begin(), block.ready.end(), [](const Thread *a, const Thread *b) {
        return warps[a->number / 32].turn < warps[b->number / 32].turn;
    });
}

inline Thread *take_ready() {  // shuffled: who became ready last goes on, and so runs ahead of the others
    Thread *const thread = block.seed ? block.ready.back() : block.ready.front();
    if (block.seed) block.ready.pop_back();
    else block.ready.pop_front();
    return thread;
}

inline void open_barrier_if_complete() {
    if (block.arrived == 0 || block.arrived < block.live || !block.uniform) return;
    block.last_votes = block.votes;
    block.arrived = block.votes = 0;
    for (int i = 0; i < block.size; i++)
        if (threads[i].waits_at) resume_later(threads[i]);
    shuffle_ready();
}

inline int wait_at_barrier(const char *name, bool vote, int line) {
    current->waits_at = name;
    current->line = line;
    current->mask = 0;
    if (block.arrived++ == 0) block.first = current, block.uniform = true;
    block.uniform = block.uniform && block.first->waits_at == name && block.first->line == line;
    block.votes += vote;
    open_barrier_if_complete();
    pause();
    return block.last_votes;
}

// If all lanes of the mask are there: hand each its result.
inline void complete_collective(Warp &warp, Thread *lanes, const Thread &last) {
    const unsigned mask = last.mask;
    Word ballot = 0;
    for (int lane = 0; lane < 32; lane++) {
        if (!(mask >> lane & 1)) continue;
        if (lanes[lane].waits_at != last.waits_at || lanes[lane].mask != mask) return;
        ballot |= Word(lanes[lane].value != 0) << lane;
    }
    for (int lane = 0; lane < 32; lane++) {
        if (!(mask >> lane & 1)) continue;
        const int source = lanes[lane].source;
        lanes[lane].result = source < 0 ? ballot : mask >> source & 1 ? lanes[source].value : 0xA5A5A5A5A5A5A5A5ull;
        resume_later(lanes[lane]);
    }
    warp.waiting &= ~mask;
}

inline Word wait_for_warp(const char *name, unsigned mask, Word value, int source, int line) {
    Thread &self = *current;
    const int lane = self.number % 32;
    Warp &warp = warps[self.number / 32];
    if (!(mask >> lane & 1))
        fail(std::string(name) + ", line " + std::to_string(line) + ": the mask lacks the calling lane");
    self.waits_at = name;
    self.line = line;
    self.mask = mask;
    self.source = source;
    self.value = value;
    warp.waiting |= 1u << lane;
    if ((warp.waiting & mask) == mask) complete_collective(warp, &self - lane, self);
    pause();
    return self.result;
}

// ---- running ----------------------------------------------------------------------------------------------------------

inline char *stack_of(int number) {
    static char *const stacks =
        static_cast<char *>(mmap(nullptr, MOST_THREADS * (SPARE_BYTES + STACK_BYTES), PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    return stacks + number * (SPARE_BYTES + STACK_BYTES) + SPARE_BYTES;
}

inline Word &stack_end(int number) { return *reinterpret_cast<Word *>(stack_of(number)); }

inline void run_thread() {  // what a fiber does
    block.body(block.arguments);
    if (stack_end(current->number) != STACK_END) fail("a thread used more than 64 KiB of stack");
    warps[current->number / 32].exited |= 1u << current->number % 32;
    block.live--;
    open_barrier_if_complete();
    pause();
}

inline std::string describe_wait(const Thread &thread) {
    char text[200];
    const unsigned exited = thread.mask & warps[thread.number / 32].exited;
    int length = snprintf(text, sizeof text, " at %s, line %d", thread.waits_at, thread.line);
    if (thread.mask) length += snprintf(text + length, sizeof text - length, ", mask 0x%08x", thread.mask);
    if (exited) snprintf(text + length, sizeof text - length, " (of which 0x%08x have exited)", exited);
    return text;
}

inline std::string describe_deadlock() {
    std::map<std::string, int> waits;
    for (int i = 0; i < block.size; i++)
        if (threads[i].waits_at) waits[describe_wait(threads[i])]++;
    std::string text = "deadlock in block (" + std::to_string(blockIdx.x) + ", " + std::to_string(blockIdx.y) + ", " +
                       std::to_string(blockIdx.z) + "): " + std::to_string(block.size - block.live) +
                       " of " + std::to_string(block.size) + " threads have exited";
    for (const auto &wait : waits) text += "; " + std::to_string(wait.second) + " wait" + wait.first;
    return text;
}

inline void start_block() {
    if (__start_cuda_shared) memset(__start_cuda_shared, 0xA5, __stop_cuda_shared - __start_cuda_shared);
    block.live = block.size = blockDim.x * blockDim.y * blockDim.z;
    block.arrived = block.votes = 0;
    block.ready.clear();
    for (Warp &warp : warps) warp = Warp{0, ~0u, 0};
    for (int i = 0; i < block.size; i++) {
        threads[i].number = i;
        threads[i].index = make_uint3(i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y);
        warps[i / 32].exited &= ~(1u << i % 32);
        stack_end(i) = STACK_END;
        prepare(threads[i].context, stack_of(i), run_thread);
        resume_later(threads[i]);
    }
    shuffle_ready();
}

inline void run_block() {
    start_block();
    while (!block.ready.empty()) {
        current = take_ready();
        threadIdx = current->index;
        switch_to(scheduler, current->context);
        if (!block.error.empty()) return;
    }
    if (block.live) block.error = describe_deadlock();
}

inline const char *run_grid(unsigned seed) {  // the error, or nullptr
    const Word threads_wanted = Word(blockDim.x) * blockDim.y * blockDim.z;
    block.error.clear();
    block.random = block.seed = seed;
    if (threads_wanted < 1 || threads_wanted > MOST_THREADS || blockDim.z > 64)
        return "a block has 1 to 1024 threads, at most 64 of them along z";
    std::vector<unsigned> order(gridDim.x * gridDim.y * gridDim.z);
    for (unsigned i = 0; i < order.size(); i++) order[i] = i;
    shuffle(order);
    for (unsigned i : order) {
        blockIdx = make_uint3(i % gridDim.x, i / gridDim.x % gridDim.y, i / gridDim.x / gridDim.y);
        run_block();
        if (!block.error.empty()) return block.error.c_str();
    }
    return nullptr;
}

// ---- the way in from Python: CUDA_HOST_KERNEL(name) exports launch_name and signature_name -----------------------------

// A letter (f, i, u, b: bool, V: struct) and the size in bytes; an address counts as u8.
template <typename T>
std::string kind() {
    const bool is_unsigned = std::is_unsigned_v<T> || std::is_pointer_v<T>;
    const char *letter = std::is_same_v<T, bool> ? "b" : is_unsigned ? "u" : std::is_integral_v<T> ? "i"
                         : std::is_floating_point_v<T> ? "f" : "V";
    return letter + std::to_string(sizeof(T));
}

// The same, before it p or P for a pointer to const or to what may be written, and the alignment.
template <typename T>
std::string describe() {
    if constexpr (!std::is_pointer_v<T>) return kind<T>();
    typedef std::remove_pointer_t<T> Target;
    typedef std::conditional_t<std::is_void_v<Target>, char, std::remove_cv_t<Target>> Element;
    return (std::is_const_v<Target> ? "p" : "P") + std::to_string(alignof(Element)) + kind<Element>();
}

template <typename... Parameters>
const char *signature(void (*)(Parameters...)) {
    static const std::string text = (std::string() + ... + (describe<Parameters>() + " "));
    return text.c_str();
}

template <typename... Parameters, size_t... I>
const char *launch(void (*kernel)(Parameters...), void **arguments, const unsigned *sizes, std::index_sequence<I...>) {
    struct Call {
        void (*kernel)(Parameters...);
        std::tuple<Parameters...> arguments;
        static void make(const void *call) {
            std::apply(static_cast<const Call *>(call)->kernel, static_cast<const Call *>(call)->arguments);
        }
    } call{kernel, std::tuple<Parameters...>(*static_cast<Parameters *>(arguments[I])...)};
    gridDim = dim3(sizes[0], sizes[1], sizes[2]);
    blockDim = dim3(sizes[3], sizes[4], sizes[5]);
    block.body = Call::make;
    block.arguments = &call;
    return run_grid(sizes[6]);
}

template <typename... Parameters>
const char *launch(void (*kernel)(Parameters...), void **arguments, const unsigned *sizes) {
    return launch(kernel, arguments, sizes, std::index_sequence_for<Parameters...>());
}

template <typename T>
T shuffle_lanes(const char *name, unsigned mask, T value, int source, int line) {
    static_assert(sizeof(T) <= sizeof(Word), "shuffles move up to 8 bytes");
    Word word = 0;
    memcpy(&word, &value, sizeof value);
    word = wait_for_warp(name, mask, word, source, line);
    memcpy(&value, &word, sizeof value);
    return value;
}

template <typename T, typename U>
T bits_as(U value) {
    static_assert(sizeof(T) == sizeof(U), "");
    T result;
    memcpy(&result, &value, sizeof result);
    return result;
}

}  // namespace cuda_host

#define CUDA_HOST_EXPORT extern "C" __attribute__((visibility("default")))
#define CUDA_HOST_KERNEL(name)                                                                                         \
    CUDA_HOST_EXPORT const char *signature_##name() { return cuda_host::signature(name); }                             \
    CUDA_HOST_EXPORT const char *launch_##name(void **arguments, const unsigned *sizes) {                              \
        return cuda_host::launch(name, arguments, sizes);                                                              \
    }

// ---- barriers, votes, shuffles; `line` is the caller's, for messages ---------------------------------------------------

#define CUDA_HOST_LINE int line = __builtin_LINE()

inline void __syncthreads(CUDA_HOST_LINE) { cuda_host::wait_at_barrier("__syncthreads", false, line); }
inline int __syncthreads_count(int predicate, CUDA_HOST_LINE) {
    return cuda_host::wait_at_barrier("__syncthreads_count", predicate != 0, line);
}
inline int __syncthreads_or(int predicate, CUDA_HOST_LINE) {
    return cuda_host::wait_at_barrier("__syncthreads_or", predicate != 0, line) > 0;
}
inline int __syncthreads_and(int predicate, CUDA_HOST_LINE) {
    return cuda_host::wait_at_barrier("__syncthreads_and", predicate == 0, line) == 0;
}
inline void __syncwarp(unsigned mask = ~0u, CUDA_HOST_LINE) { cuda_host::wait_for_warp("__syncwarp", mask, 0, -1, line); }
inline unsigned __ballot_sync(unsigned mask, int predicate, CUDA_HOST_LINE) {
    return (unsigned)cuda_host::wait_for_warp("__ballot_sync", mask, predicate != 0, -1, line);
}
inline int __any_sync(unsigned mask, int predicate, CUDA_HOST_LINE) {
    return cuda_host::wait_for_warp("__any_sync", mask, predicate != 0, -1, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, CUDA_HOST_LINE) {
    return cuda_host::wait_for_warp("__all_sync", mask, predicate != 0, -1, line) == mask;
}

// A lane outside the group of `width` lanes gives the caller its own value.
template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, CUDA_HOST_LINE) {
    const int lane = cuda_host::current->number % 32;
    return cuda_host::shuffle_lanes("__shfl_sync", mask, value, (lane & -width) | (source & (width - 1)), line);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned step, int width = 32, CUDA_HOST_LINE) {
    const int lane = cuda_host::current->number % 32, source = lane + step;
    return cuda_host::shuffle_lanes("__shfl_down_sync", mask, value, source > (lane | (width - 1)) ? lane : source, line);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned step, int width = 32, CUDA_HOST_LINE) {
    const int lane = cuda_host::current->number % 32, source = lane - step;
    return cuda_host::shuffle_lanes("__shfl_up_sync", mask, value, source < (lane & -width) ? lane : source, line);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, CUDA_HOST_LINE) {
    const int lane = cuda_host::current->number % 32, source = lane ^ bits;
    return cuda_host::shuffle_lanes("__shfl_xor_sync", mask, value, source > (lane | (width - 1)) ? lane : source, line);
}

inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __trap() { cuda_host::fail("__trap() was called"); }

// ---- atomics: only one thread runs at a time ---------------------------------------------------------------------------

#define CUDA_HOST_ATOMIC(name, change)                                                                                 \
    template <typename T> T name(T *address, std::common_type_t<T> value) {                                            \
        const T old = *address;                                                                                        \
        *address = change;                                                                                             \
        return old;                                                                                                    \
    }

CUDA_HOST_ATOMIC(atomicAdd, T(old + value))
CUDA_HOST_ATOMIC(atomicSub, T(old - value))
CUDA_HOST_ATOMIC(atomicMax, old < value ? value : old)
CUDA_HOST_ATOMIC(atomicMin, value < old ? value : old)
CUDA_HOST_ATOMIC(atomicOr, old | value)
CUDA_HOST_ATOMIC(atomicAnd, old & value)
CUDA_HOST_ATOMIC(atomicExch, value)

template <typename T> T atomicCAS(T *address, std::common_type_t<T> expected, std::common_type_t<T> value) {
    return *address == expected ? atomicExch(address, value) : *address;
}

// ---- numbers ----------------------------------------------------------------------------------------------------------

inline int __ffs(int value) { return __builtin_ffs(value); }
inline int __ffsll(long long value) { return __builtin_ffsll(value); }
inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __popcll(unsigned long long value) { return __builtin_popcountll(value); }
inline int __clz(int value) { return value ? __builtin_clz(value) : 32; }
inline int __clzll(long long value) { return value ? __builtin_clzll(value) : 64; }

inline unsigned __float_as_uint(float value) { return cuda_host::bits_as<unsigned>(value); }
inline int __float_as_int(float value) { return cuda_host::bits_as<int>(value); }
inline float __uint_as_float(unsigned value) { return cuda_host::bits_as<float>(value); }
inline float __int_as_float(int value) { return cuda_host::bits_as<float>(value); }

template <typename T> T __ldg(const T *address) { return *address; }

// Of two integers or two numbers of any type; of NaN and a number, the number.
template <typename A, typename B> std::common_type_t<A, B> min(A a, B b) {
    typedef std::common_type_t<A, B> T;
    if constexpr (std::is_floating_point_v<T>) return std::fmin(T(a), T(b));
    else return T(b) < T(a) ? T(b) : T(a);
}
template <typename A, typename B> std::common_type_t<A, B> max(A a, B b) {
    typedef std::common_type_t<A, B> T;
    if constexpr (std::is_floating_point_v<T>) return std::fmax(T(a), T(b));
    else return T(a) < T(b) ? T(b) : T(a);
}

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fsqrt_rn(float value) { return sqrtf(value); }
inline float __expf(float value) { return expf(value); }  // a GPU's is less exact
inline float __saturatef(float value) { return fminf(fmaxf(value, 0.0f), 1.0f); }

// Half precision: conversions only, so that nothing is computed in another precision than on a GPU.
struct __half {
    unsigned short bits;
};
typedef __half half;

inline __half __float2half_rn(float value) {  // to the nearest, ties to even
    unsigned bits = __float_as_uint(value);
    const unsigned sign = bits >> 16 & 0x8000;
    bits &= 0x7fffffff;
    if (bits > 0x7f800000) bits = 0x7fff;        // NaN
    else if (bits >= 0x477ff000) bits = 0x7c00;  // 65520 and above: infinity
    else if (bits < 0x38800000) bits = __float_as_uint(__uint_as_float(bits) + 0.5f) - 0x3f000000;  // below 2^-14
    else bits = (bits - 0x38000000 + 0xfff + (bits >> 13 & 1)) >> 13;
    return {(unsigned short)(sign | bits)};
}
inline __half __float2half(float value) { return __float2half_rn(value); }

inline float __half2float(__half value) {
    const unsigned sign = (value.bits & 0x8000u) << 16, exponent = value.bits >> 10 & 31, mantissa = value.bits & 1023;
    if (exponent == 31) return __uint_as_float(sign | 0x7f800000 | mantissa << 13);
    const float size = exponent ? __uint_as_float((exponent + 112) << 23 | mantissa << 13) : mantissa * 0x1p-24f;
    return __uint_as_float(sign | __float_as_uint(size));
}
