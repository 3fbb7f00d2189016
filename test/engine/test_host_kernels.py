"""The emulation that runs CUDA kernels on the CPU, on kernels made for this."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import re

from kernel_host.host_kernels import HostKernels
import numpy as np
import pytest

SEEDS = (0, 1, 2, 3)
SOURCE = r"""
#include <cuda_fp16.h>

struct Pair { int first; float second; };

extern "C" __global__ void __launch_bounds__(512)
sum_block(const int *__restrict__ values, int *sums) {
    __shared__ int partial[512];
    partial[threadIdx.x] = values[blockIdx.x * blockDim.x + threadIdx.x];
    for (int step = blockDim.x / 2; step > 0; step >>= 1) {
        __syncthreads();
        if (threadIdx.x < step) partial[threadIdx.x] += partial[threadIdx.x + step];
    }
    if (threadIdx.x == 0) sums[blockIdx.x] = partial[0];
}

extern "C" __global__ void rotate(int *out, int times) {
    __shared__ int ring[512];
    int mine = threadIdx.x;
    for (int i = 0; i < times; i++) {
        ring[threadIdx.x] = mine;
        __syncthreads();
        mine = ring[(threadIdx.x + 1) % blockDim.x];
        __syncthreads();
    }
    out[threadIdx.x] = mine;
}

extern "C" __global__ void one_shared_int(int *out) {
    __shared__ int turn;
    for (int i = 0; i < 8; i++) {
        if (threadIdx.x == i) turn = 10 * i;
        __syncthreads();
        out[i * blockDim.x + threadIdx.x] = turn;
        __syncthreads();
    }
}

extern "C" __global__ void votes(const int *values, int *out) {
    const int v = values[threadIdx.x];
    int *mine = out + threadIdx.x * 6;
    mine[0] = (int)__ballot_sync(0xffffffffu, v > 3);
    mine[1] = __any_sync(0xffffffffu, v > 30) * 10 + __all_sync(0xffffffffu, v >= 0);
    mine[2] = __syncthreads_count(v > 3);
    mine[3] = __syncthreads_or(v > 63) * 10 + __syncthreads_and(v < 64);
    if (threadIdx.x & 1) mine[4] = (int)__ballot_sync(0xaaaaaaaau, v > 3);
    else mine[4] = -(int)__popc(__ballot_sync(0x55555555u, v > 3));
    __syncwarp();
    mine[5] = __ffs(mine[0]) * 100 + __clz(v);
}

template <typename T>
static __device__ void shuffle_all(T v, T *out) {
    out[0] = __shfl_sync(0xffffffffu, v, 5);
    out[1] = __shfl_sync(0xffffffffu, v, threadIdx.x + 1, 8);
    out[2] = __shfl_down_sync(0xffffffffu, v, 3);
    out[3] = __shfl_up_sync(0xffffffffu, v, 3, 16);
    out[4] = __shfl_xor_sync(0xffffffffu, v, 16);
}

extern "C" __global__ void shuffles(float *floats, unsigned long long *words) {
    shuffle_all(threadIdx.x + 0.5f, floats + threadIdx.x * 5);
    shuffle_all(~(unsigned long long)threadIdx.x, words + threadIdx.x * 5);
}

extern "C" __global__ void leave_early(int *out, int count) {
    __shared__ int shown[64];
    if (threadIdx.x >= count) return;
    shown[threadIdx.x] = threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = shown[count - 1 - threadIdx.x];
}

extern "C" __global__ void append(
    int *count, int *out, float *sum, unsigned long long *top, unsigned *bits) {
    out[atomicAdd(count, 1)] = blockIdx.x * blockDim.x + threadIdx.x;
    atomicAdd(sum, 0.25f);
    atomicMax(top, (unsigned long long)threadIdx.x << 32);
    atomicOr(bits, 1u << threadIdx.x);
    atomicCAS(bits + 1, 0u, 7u);
}

extern "C" __global__ void missing_barrier(int *out) {
    __shared__ int ring[64];
    ring[threadIdx.x] = threadIdx.x;
    out[threadIdx.x] = ring[threadIdx.x ^ 1];
}

extern "C" __global__ void warp_runs_ahead(int *out) {
    __shared__ int counts[128];
    counts[threadIdx.x] = 0;  // a barrier is missing after this
    __syncwarp();
    atomicAdd(&counts[127 - threadIdx.x], 1);
    __syncthreads();
    out[threadIdx.x] = counts[threadIdx.x];
}

extern "C" __global__ void left_behind(int *out) {
    __shared__ int cell;
    if (threadIdx.x == 0) out[blockIdx.x] = cell, cell = 1;
}

extern "C" __global__ void two_barriers(int *out) {
    if (threadIdx.x < 32) __syncthreads();
    else __syncthreads();
}

extern "C" __global__ void waits_for_exited(int *out) {
    if (threadIdx.x == 7) return;
    out[threadIdx.x] = __ballot_sync(0xffffffffu, 1);
}

extern "C" __global__ void barrier_and_ballot(int *out) {
    if (threadIdx.x < 16) __ballot_sync(0xffffffffu, 1);
    else __syncthreads();
}

extern "C" __global__ void mask_without_self() { __syncwarp(2u); }

extern "C" __global__ void overflow(int *out) {
    volatile char large[80 * 1024];
    for (int i = sizeof large; i-- > 0;) large[i] = i;
    out[0] = large[5];
}

extern "C" __global__ void where(int *out) {
    const int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    const int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    out[block * blockDim.x * blockDim.y * blockDim.z + thread] = block * 1000 + thread;
}

extern "C" __global__ void by_value(
    int i, unsigned u, float f, double d, unsigned long long w, bool b, Pair pair,
    const float *const *cells, double *out) {
    out[0] = i, out[1] = u, out[2] = f, out[3] = d, out[4] = w, out[5] = b;
    out[6] = pair.first, out[7] = pair.second, out[8] = cells[1][2];
}

extern "C" __global__ void to_half(const float *values, __half *out, int count) {
    for (int i = threadIdx.x; i < count; i += blockDim.x) out[i] = __float2half(values[i]);
}

extern "C" __global__ void from_half(const __half *values, float *out, int count) {
    for (int i = threadIdx.x; i < count; i += blockDim.x) out[i] = __half2float(values[i]);
}

template <int N>
static __device__ int shared_in_template() {
    __shared__ int cells[N];
    cells[threadIdx.x] = N;
    __syncthreads();
    return cells[N - 1 - threadIdx.x];
}

extern "C" __global__ void arithmetic(const float4 *in, float4 *out, int *from_templates) {
    const float4 v = in[0];
    out[0] = make_float4(min(v.x, v.y), max(v.x, 1), fmaxf(v.w, v.x), __fmul_rn(v.x, v.y) + v.z);
    const int extra = min(threadIdx.x, 2) + (isfinite(v.w) ? 10 : 0);
    from_templates[threadIdx.x] = shared_in_template<4>() * 100 + extra;
}
"""
NAMES = re.findall(r'^extern "C" __global__ void (?:__launch_bounds__\S+\s)?(\w+)\(', SOURCE, re.M)


@pytest.fixture(scope='module', params=['assembly', 'ucontext'])
def kernels(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> HostKernels:
    defines = {'CUDA_HOST_UCONTEXT': '1'} if request.param == 'ucontext' else {}
    return HostKernels(SOURCE, NAMES, defines, cache=tmp_path_factory.mktemp('compiled'))


@pytest.fixture
def fails(kernels: HostKernels) -> Callable[[str], str]:
    def launch(name: str) -> str:
        with pytest.raises(RuntimeError) as caught:
            kernels.launch(name, (1,), (64,), np.zeros(64, np.int32))
        return str(caught.value)

    return launch


@pytest.mark.parametrize('seed', SEEDS)
def test_blocks_sum_in_shared_memory(kernels: HostKernels, seed: int) -> None:
    values = np.random.default_rng(seed).integers(-1000, 1000, (5, 512), np.int32)
    sums = np.zeros(5, np.int32)
    kernels.launch('sum_block', (5,), (512,), values, sums, seed=seed)
    np.testing.assert_array_equal(sums, values.sum(axis=1))


@pytest.mark.parametrize('seed', SEEDS)
def test_threads_meet_at_many_barriers(kernels: HostKernels, seed: int) -> None:
    out = np.zeros(512, np.int32)
    kernels.launch('rotate', (1, 1, 1), (512, 1, 1), out, np.int32(150), seed=seed)
    np.testing.assert_array_equal(out, (np.arange(512) + 150) % 512)


@pytest.mark.parametrize('seed', SEEDS)
def test_a_barrier_makes_a_shared_variable_be_read_again(kernels: HostKernels, seed: int) -> None:
    out = np.zeros((8, 32), np.int32)
    kernels.launch('one_shared_int', (1,), (32,), out, seed=seed)
    np.testing.assert_array_equal(out, np.repeat(np.arange(0, 80, 10), 32).reshape(8, 32))


@pytest.mark.parametrize('seed', SEEDS)
def test_votes(kernels: HostKernels, seed: int) -> None:
    values = np.arange(64, dtype=np.int32)
    out = np.zeros((64, 6), np.int32)
    kernels.launch('votes', (1,), (64,), values, out, seed=seed)
    first, second = out[:32], out[32:]
    assert set(first[:, 0].view(np.uint32)) == {0xFFFFFFF0} and set(second[:, 0]) == {-1}
    assert set(first[:, 1]) == {11}
    assert set(out[:, 2]) == {60}
    assert set(out[:, 3]) == {1}
    assert set(first[1::2, 4].view(np.uint32)) == {0xAAAAAAA0} and set(first[::2, 4]) == {-14}
    assert list(first[:4, 5]) == [532, 531, 530, 530]


@pytest.mark.parametrize('seed', SEEDS)
def test_shuffles(kernels: HostKernels, seed: int) -> None:
    floats, words = np.zeros((32, 5), np.float32), np.zeros((32, 5), np.uint64)
    kernels.launch('shuffles', (1,), (32,), floats, words, seed=seed)
    lane = np.arange(32)
    sources = np.stack([
        np.full(32, 5),
        (lane & ~7) | ((lane + 1) & 7),
        np.where(lane + 3 > 31, lane, lane + 3),
        np.where(lane % 16 < 3, lane, lane - 3),
        lane ^ 16,
    ], axis=1)
    np.testing.assert_array_equal(floats, sources + np.float32(0.5))
    np.testing.assert_array_equal(words, ~sources.astype(np.uint64))


@pytest.mark.parametrize('seed', SEEDS)
def test_barriers_do_not_wait_for_exited_threads(kernels: HostKernels, seed: int) -> None:
    out = np.full(64, -1, np.int32)
    kernels.launch('leave_early', (1,), (64,), out, np.int32(40), seed=seed)
    assert list(out) == [*range(39, -1, -1), *[-1] * 24]


def test_atomics_do_not_depend_on_the_order_but_positions_do(kernels: HostKernels) -> None:
    orders = []
    for seed in SEEDS:
        count, out, total = np.zeros(1, np.int32), np.zeros(96, np.int32), np.zeros(1, np.float32)
        top, bits = np.zeros(1, np.uint64), np.zeros(2, np.uint32)
        kernels.launch('append', (3,), (32,), count, out, total, top, bits, seed=seed)
        assert (count[0], total[0], int(top[0])) == (96, 24.0, 31 << 32)
        assert list(bits) == [2**32 - 1, 7]
        assert sorted(out) == list(range(96))
        orders.append(tuple(out))
    assert orders[0] == tuple(range(96))
    assert len(set(orders)) == len(SEEDS)


def test_a_seed_shows_a_missing_barrier_and_poison_what_was_never_written(
    kernels: HostKernels,
) -> None:
    for seed in SEEDS:
        out = np.zeros(64, np.int32)
        kernels.launch('missing_barrier', (1,), (64,), out, seed=seed)
        assert (out.view(np.uint32) == 0xA5A5A5A5).any()


def test_seeds_let_a_warp_run_ahead_of_what_another_has_yet_to_do(kernels: HostKernels) -> None:
    right = []
    for seed in SEEDS:
        out = np.zeros(128, np.int32)
        kernels.launch('warp_runs_ahead', (1,), (128,), out, seed=seed)
        right.append(bool((out == 1).all()))
    assert right == [True, False, False, False]


def test_shared_memory_is_poisoned_before_each_block(kernels: HostKernels) -> None:
    out = np.zeros(3, np.int32)
    kernels.launch('left_behind', (3,), (32,), out)
    assert set(out.view(np.uint32)) == {0xA5A5A5A5}


def test_deadlocks_say_who_waits_where(fails: Callable[[str], str]) -> None:
    lines = SOURCE.splitlines()
    first = lines.index('    if (threadIdx.x < 32) __syncthreads();') + 1
    message = fails('two_barriers')
    assert 'two_barriers: deadlock in block (0, 0, 0): 0 of 64 threads have exited' in message
    assert f'32 wait at __syncthreads, line {first}' in message
    assert f'32 wait at __syncthreads, line {first + 1}' in message
    message = fails('waits_for_exited')
    assert '33 of 64 threads have exited' in message
    assert 'mask 0xffffffff (of which 0x00000080 have exited)' in message
    message = fails('barrier_and_ballot')
    assert '16 wait at __ballot_sync' in message and '48 wait at __syncthreads' in message


def test_a_launch_after_a_deadlock_is_a_clean_one(
    kernels: HostKernels, fails: Callable[[str], str]
) -> None:
    fails('two_barriers')
    out = np.zeros(512, np.int32)
    kernels.launch('rotate', (1,), (512,), out, np.int32(1))
    np.testing.assert_array_equal(out, (np.arange(512) + 1) % 512)


def test_broken_rules_are_errors(kernels: HostKernels, fails: Callable[[str], str]) -> None:
    with pytest.raises(RuntimeError, match='__syncwarp, line .* lacks the calling lane'):
        kernels.launch('mask_without_self', (1,), (1,))
    with pytest.raises(RuntimeError, match='1 to 1024 threads'):
        kernels.launch('mask_without_self', (1,), (1025,))
    with pytest.raises(RuntimeError, match='64 KiB of stack'):
        kernels.launch('overflow', (1,), (1,), np.zeros(1, np.int32))


def test_indices_have_three_dimensions(kernels: HostKernels) -> None:
    out = np.full((2 * 3 * 4, 5 * 2 * 3), -1, np.int32)
    kernels.launch('where', (2, 3, 4), (5, 2, 3), out, seed=9)
    expected = np.arange(24)[:, None] * 1000 + np.arange(30)
    np.testing.assert_array_equal(out, expected)


def test_values_structs_and_addresses_are_passed(kernels: HostKernels) -> None:
    out, rows = np.zeros(9), np.arange(6, dtype=np.float32).reshape(2, 3)
    pair = np.array([(-5, 2.5)], [('first', np.int32), ('second', np.float32)])[0]
    kernels.launch(
        'by_value', (1,), (1,), np.int32(-1), np.uint32(4000000000), np.float32(0.5),
        np.float64(0.1), np.uint64(2**40), np.bool_(True), pair,
        kernels.cells([rows[0], rows[1]]), np.uint64(out.ctypes.data),
    )
    assert list(out) == [-1, 4000000000, 0.5, 0.1, 2**40, 1, -5, 2.5, 5]


def test_arguments_that_do_not_fit_are_refused(kernels: HostKernels) -> None:
    out, count, frozen = np.zeros(64, np.int32), np.int32(1), np.zeros(64, np.int32)
    frozen.flags.writeable = False
    for arguments, message in (
        ((out,), 'has 2 parameters, 1 were given'),
        ((out, 1), r'argument 1: expected i4, got 1 \(int\)'),
        ((out, np.float32(1)), r'expected i4, got .* \(float32\)'),
        ((out, np.int64(1)), r'expected i4, got .* \(int64\)'),
        ((count, count), r'expected P4i4, got .* \(int32\)'),
        ((out, out), 'expected i4, got an array'),
        ((out.astype(float), count), 'expected elements of i4, got float64'),
        ((out[::2], count), 'not C-contiguous'),
        ((frozen, count), 'read-only'),
        ((np.zeros(65, np.uint8)[1:], count), 'not aligned to 4 bytes'),
    ):
        with pytest.raises(TypeError, match=message):
            kernels.launch('rotate', (1,), (1,), *arguments)


def test_half_floats_convert_as_ieee_says(kernels: HostKernels) -> None:
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    floats = np.zeros(65536, np.float32)
    kernels.launch('from_half', (1,), (64,), halves, floats, np.int32(65536))
    np.testing.assert_array_equal(floats, halves.astype(np.float32))

    finite = floats[np.isfinite(floats)]
    ties = np.sort(finite)[:-1] / 2 + np.sort(finite)[1:] / 2
    random = np.random.default_rng(0).integers(0, 2**32, 100000, np.uint32).view(np.float32)
    values = np.concatenate([
        floats, ties, np.nextafter(ties, np.float32(9)), random,
        np.float32([65519.9, 65520, -1e30]),
    ]).astype(np.float32)
    out = np.zeros(values.size, np.float16)
    kernels.launch('to_half', (1,), (64,), values, out, np.int32(values.size))
    with np.errstate(over='ignore', invalid='ignore'):
        np.testing.assert_array_equal(out, values.astype(np.float16))


def test_arithmetic_is_not_contracted(kernels: HostKernels) -> None:
    x, y = np.float32(1.1), np.float32(2.3)
    z = -(x * y)  # a fused multiply-add would give what the product's rounding lost
    out, cells = np.zeros(4, np.float32), np.zeros(4, np.int32)
    kernels.launch('arithmetic', (1,), (4,), np.array([x, y, z, np.nan], np.float32), out, cells)
    assert list(out) == [x, x, x, 0]
    assert list(cells) == [400, 401, 402, 402]


def test_what_the_compiler_says_is_reported(tmp_path: Path) -> None:
    source = tmp_path / 'wrong.cu'
    source.write_text('extern "C" __global__ void wrong() {\n    undeclared = 1;\n}\n')
    with pytest.raises(RuntimeError, match=r'wrong\.cu:2:5: error: .undeclared. was not declared'):
        HostKernels(source, ['wrong'], cache=tmp_path / 'cache')
    assert not list((tmp_path / 'cache').iterdir())


def test_a_changed_header_compiles_anew(tmp_path: Path) -> None:
    source, header, cache = tmp_path / 'k.cu', tmp_path / 'number.cuh', tmp_path / 'cache'
    source.write_text(
        '#include "number.cuh"\nextern "C" __global__ void k(int *out) { *out = N * M; }\n'
    )
    for number, times in ((3, 2), (4, 2), (3, 2)):
        header.write_text(f'#define N {number}\n')
        out = np.zeros(1, np.int32)
        HostKernels(source, ['k'], {'M': '2'}, cache=cache).launch('k', (1,), (1,), out)
        assert out[0] == number * times
    assert len(list(cache.iterdir())) == 2


def test_without_a_compiler_the_package_to_install_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(RuntimeError, match=r'sudo apt install g\+\+'):
        HostKernels(SOURCE, NAMES, cache=tmp_path)
