"""
A CUDA device emulated on the host, so that the whole GPU path runs where there is no GPU.

Device memory is host memory, streams run at once or record for a graph, and the kernels are the
package's own, compiled for the CPU by host_kernels. TensorRT is played by ONNX Runtime.
`install()` puts all of it in place of pycuda, before engine modules that import it are loaded.

As in pycuda (read in its `cuda.hpp`), an object is destroyed only where its own context is
current, or in the thread that made that context; anywhere else it is leaked without a word.

What it cannot show: speed, overlap, and what a real driver refuses.

"""

from __future__ import annotations

import collections
from collections.abc import Callable
import ctypes
import dataclasses
import sys
import threading
import types
from typing import Any
import weakref

import numpy as np
import onnx
import onnxruntime

from yolov7_trt_ros.core.forms.model_spec import TensorInfo
from yolov7_trt_ros.engine.plan.build_target import BuildTarget
from yolov7_trt_ros.engine.plan.shape_range import ShapeRange
from yolov7_trt_ros.errors import InferenceError, PlanError

MACHINE = BuildTarget('TensorRT', '0.0.0', '0.0', 'emulated GPU', '9.0')


class EmulatedCuda(types.ModuleType):
    """Stands in for `pycuda.driver`; `state` is what tests look at and change."""

    def __init__(self) -> None:
        super().__init__('pycuda.driver')
        self.state = State()
        state = self.state

        class Error(Exception):
            pass

        self.Error = Error
        self.MemoryError = type('MemoryError', (Error,), {})
        self.LogicError = type('LogicError', (Error,), {})
        state.out_of_memory, state.error = self.MemoryError, self.LogicError
        self.host_alloc_flags = types.SimpleNamespace(DEVICEMAP=2)
        self.event_flags = types.SimpleNamespace(DISABLE_TIMING=2)
        self.device_attribute = types.SimpleNamespace(
            CAN_MAP_HOST_MEMORY='CAN_MAP_HOST_MEMORY',
            PAGEABLE_MEMORY_ACCESS='PAGEABLE_MEMORY_ACCESS',
        )
        self.Device, self.Context = _device(state), _Context
        _Context.state = state
        self.Stream = lambda: Stream(state)
        self.Memcpy2D = lambda: _Memcpy2D(state)
        self.Event = lambda flags=0: _Event(state)
        self.module_from_buffer = lambda cubin: _Module(state, cubin)
        self.mem_alloc = lambda size: _Allocation(state, size)
        self.pagelocked_empty = lambda size, dtype, mem_flags=0: _pinned(state, size)
        self.mem_get_info = lambda: (state.limit - state.used, state.limit)
        self.get_driver_version = lambda: 12020

    def init(self) -> None:
        """Do nothing."""

    def memset_d8(self, address: int, value: int, size: int) -> None:
        """Fill."""
        self.state.check()
        ctypes.memset(address, value, size)

    def memcpy_htod(self, address: int, array: np.ndarray) -> None:
        """Copy now."""
        self.state.check()
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def memcpy_dtoh(self, array: np.ndarray, address: int) -> None:
        """Copy now."""
        self.state.check()
        ctypes.memmove(array.ctypes.data, address, array.nbytes)

    def memcpy_htod_async(self, address: int, array: np.ndarray, stream: Stream) -> None:
        """Copy in stream order."""
        stream.do(lambda: self.memcpy_htod(address, array))


class State:
    """
    The device: memory in use, its limit, streams, and whether it broke.

    `alive` counts what was made and not destroyed, by kind; `launch` runs a kernel by its name.

    """

    def __init__(self) -> None:
        self.used, self.limit = 0, 1 << 34
        self.alive: collections.Counter[str] = collections.Counter()
        self.launch: Callable[..., None] = _no_kernels
        self.allocations = self.contexts = 0
        self.broken = False
        self.locked: dict[int, int] = {}
        self.fetched = 0
        self.streams: weakref.WeakValueDictionary[int, Stream] = weakref.WeakValueDictionary()
        self.handles = 0
        self.out_of_memory: type[Exception] = Exception
        self.error: type[Exception] = Exception

    def check(self) -> None:
        """Raise what a broken context raises."""
        if self.broken:
            raise self.error('an illegal memory access was encountered')

    def take(self, size: int) -> None:
        """Count an allocation."""
        self.check()
        if self.used + size > self.limit:
            raise self.out_of_memory('out of memory')
        self.used += size
        self.allocations += 1


def _device(state: State) -> type:
    class Device:

        def __init__(self, index: int) -> None:
            self.index = index

        def name(self) -> str:
            return MACHINE.gpu_name

        def compute_capability(self) -> tuple[int, int]:
            return 9, 0

        def get_attribute(self, attribute: str) -> int:
            return 1

        def retain_primary_context(self) -> _Context:
            state.check()
            return _Context()

        @staticmethod
        def count() -> int:
            return 1

    return Device


class _Context:
    """A reference to the primary context, and this thread's stack of them."""

    state: State
    _stacks = threading.local()

    def __init__(self) -> None:
        self.is_valid, self.thread = True, threading.get_ident()
        _Context.state.alive['context'] += 1

    @staticmethod
    def _stack() -> list[_Context]:
        stack: list[_Context] = vars(_Context._stacks).setdefault('stack', [])
        return stack

    @staticmethod
    def current() -> _Context | None:
        """Return the context that is current in this thread."""
        valid = [each for each in _Context._stack() if each.is_valid]
        return valid[-1] if valid else None

    def push(self) -> None:
        assert self.is_valid, 'a detached context'
        _Context._stack().append(self)

    @staticmethod
    def pop() -> None:
        _Context._stack().pop()

    @staticmethod
    def synchronize() -> None:
        _Context.state.check()

    def detach(self) -> None:
        assert self.is_valid, 'detached twice'
        if self.can_destroy():
            _Context.state.alive['context'] -= 1
        self.is_valid = False

    def can_destroy(self) -> bool:
        """Whether pycuda destroys here what was made in this context."""
        here = _Context.current() is self or threading.get_ident() == self.thread
        return self.is_valid and here


class _Dependent:
    """What was made in a context."""

    kind = ''
    _context: _Context | None = None

    def _made(self, state: State) -> None:
        self._context, self._state = _Context.current(), state
        if self._context is None:
            raise state.error('no currently active context?')
        state.alive[self.kind] += 1

    def _destroy(self) -> None:
        """Destroy it once, if pycuda would."""
        context, self._context = self._context, None
        if context is not None and context.can_destroy():
            self._state.alive[self.kind] -= 1
            self._give_back()

    def _give_back(self) -> None:
        """Give back what it held."""

    def __del__(self) -> None:
        self._destroy()


class Stream(_Dependent):
    """Does work at once, or keeps it while a graph is captured."""

    kind = 'stream'

    def __init__(self, state: State) -> None:
        self._made(state)
        state.handles += 1
        self.handle = state.handles
        self.recording: list[Callable[[], Any]] | None = None
        state.streams[self.handle] = self

    def do(self, work: Callable[[], Any]) -> None:
        """Run or record; a context must be current."""
        assert _Context.current() is not None, 'no CUDA context is current'
        self._state.check()
        work() if self.recording is None else self.recording.append(work)

    def synchronize(self) -> None:
        """Wait: everything is done already."""
        self._state.check()
        assert self.recording is None, 'synchronising while a graph is captured is an error'

    def wait_for_event(self, event: Any) -> None:
        """Wait: everything is done already."""


class _Event(_Dependent):

    kind = 'event'

    def __init__(self, state: State) -> None:
        self._made(state)

    def record(self, stream: Stream) -> None:
        stream.do(lambda: None)

    def synchronize(self) -> None:
        _Context.state.check()

    def time_since(self, other: Any) -> float:
        return 0.001


class _Memcpy2D:
    """Copies rows; like pycuda's it keeps addresses, and holds nobody's memory."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.width_in_bytes = self.height = self.src_pitch = self.dst_pitch = 0

    def set_src_host(self, source: np.ndarray) -> None:
        """Note where a buffer begins."""
        assert source.flags.c_contiguous
        self._source = source.ctypes.data

    def set_dst_device(self, address: int) -> None:
        """Note where to."""
        self._target = address

    def __call__(self, stream: Stream) -> None:
        """Copy in stream order."""
        stream.do(self._copy)

    def _copy(self) -> None:
        end = self._source + (self.height - 1) * self.src_pitch + self.width_in_bytes
        self._state.fetched += any(
            start <= self._source and end <= start + size
            for start, size in self._state.locked.items()
        )
        for row in range(self.height):
            ctypes.memmove(
                self._target + row * self.dst_pitch, self._source + row * self.src_pitch,
                self.width_in_bytes,
            )


class EmulatedDriverLibrary:
    """Stands in for libcuda: what is page-locked; `refuse` is the error that locking gives."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.refuse = 0

    def cuMemHostRegister_v2(self, address: Any, size: Any, flags: int) -> int:  # noqa: N802
        """Lock."""
        assert _Context.current() is not None and address.value not in self._state.locked
        if not self.refuse:
            self._state.locked[address.value] = size.value
        return self.refuse

    def cuMemHostUnregister(self, address: Any) -> int:  # noqa: N802
        """Unlock."""
        assert _Context.current() is not None
        return 0 if self._state.locked.pop(address.value, 0) else 713

    def cuThreadExchangeStreamCaptureMode(self, mode: Any) -> int:  # noqa: N802
        """Do nothing."""
        return 0


class _Allocation(_Dependent):

    kind = 'device memory'

    def __init__(self, state: State, size: int) -> None:
        state.take(size)
        self._size = size
        self._made(state)
        # aligned as CUDA's, and poisoned: whoever reads what nobody wrote is found out
        self._memory = np.full(size + 256, 0xA5, np.uint8)
        self._address = -(-self._memory.ctypes.data // 256) * 256

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        assert self._context is not None, 'freed twice'
        self._destroy()

    def _give_back(self) -> None:
        self._state.used -= self._size
        self._memory[:] = 0x5A


class _Pinned(_Dependent):

    kind = 'page-locked memory'

    def __init__(self, state: State, size: int) -> None:
        state.take(0)
        self._made(state)
        self._memory = np.full(size + 64, 0xA5, np.uint8)
        self.address = -(-self._memory.ctypes.data // 64) * 64
        self.__array_interface__ = {
            'shape': (size,), 'typestr': '|u1', 'data': (self.address, False), 'version': 3,
        }

    def get_device_pointer(self) -> int:
        return self.address

    def free(self) -> None:
        self._destroy()

    def _give_back(self) -> None:
        self._memory[:] = 0x5A


def _pinned(state: State, size: int) -> np.ndarray:
    return np.asarray(_Pinned(state, size))


def _no_kernels(*_: Any) -> None:
    raise AssertionError('no kernels were given to the emulated device')


class _Module(_Dependent):
    """A module; its 'cubin' is the list of its kernels."""

    kind = 'module'

    def __init__(self, state: State, cubin: bytes) -> None:
        self._made(state)
        self._names = cubin.decode().split()

    def get_function(self, name: str) -> _Function:
        """Return a kernel."""
        if name not in self._names:
            raise self._state.error('named symbol not found')
        return _Function(self, self._state, name)


class _Function:
    """A kernel, which keeps its module loaded."""

    def __init__(self, module: _Module, state: State, name: str) -> None:
        self._module, self._state, self._name = module, state, name

    def prepare(self, types_: str) -> None:
        """Note the types of the arguments."""
        kinds = {'P': np.uint64, 'i': np.int32, 'f': np.float32}
        self._kinds = [kinds[letter] for letter in types_]

    def prepared_async_call(self, grid: Any, block: Any, stream: Stream, *arguments: Any) -> None:
        """Run it in stream order."""
        values = [kind(value) for kind, value in zip(self._kinds, arguments, strict=True)]
        launch, name = self._state.launch, self._name
        stream.do(lambda: launch(name, (*grid, 1)[:3], block, *values))


class EmulatedDriver:
    """Stands in for cuda.bindings.driver: graphs are lists of recorded work."""

    class CUstreamCaptureMode:
        """Names."""

        CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1

    def __init__(self, state: State) -> None:
        self._state = state
        self.alive = 0

    def CUstream(self, handle: int) -> int:  # noqa: N802  (CUDA's name)
        """Return a handle, which keeps no stream."""
        return handle

    def cuStreamBeginCapture(self, stream: int, mode: int) -> tuple[int]:  # noqa: N802
        """Record from now on."""
        self._state.streams[stream].recording = []
        return (0,)

    def cuStreamEndCapture(self, stream: int) -> tuple[int, Any]:  # noqa: N802
        """Return what was recorded."""
        of = self._state.streams[stream]
        recorded, of.recording = of.recording, None
        self._state.alive['graph'] += 1
        return 0, recorded

    def cuGraphInstantiate(self, graph: Any, flags: int) -> tuple[int, Any]:  # noqa: N802
        """Return an executable graph."""
        self.alive += 1
        return 0, list(graph)

    def cuGraphUpload(self, graph: Any, stream: int) -> tuple[int]:  # noqa: N802
        """Do nothing."""
        return (0,)

    def cuGraphDestroy(self, graph: Any) -> tuple[int]:  # noqa: N802
        """Count."""
        self._state.alive['graph'] -= 1
        return (0,)

    def cuGraphExecDestroy(self, graph: Any) -> tuple[int]:  # noqa: N802
        """Count."""
        self.alive -= 1
        return (0,)

    def cuGraphLaunch(self, graph: Any, stream: int) -> tuple[int]:  # noqa: N802
        """Do what was recorded."""
        self._state.check()
        for work in graph:
            work()
        return (0,)


class EmulatedApi:
    """Stands in for TrtApi: 'plans' are ONNX files that ONNX Runtime runs."""

    flavour, version = MACHINE.flavour, MACHINE.tensorrt_version
    weakly_typed, refits_by_parser, logger = True, False, None

    def __init__(self, state: State, profiles: tuple[ShapeRange, ...]) -> None:
        self.state, self.profiles = state, profiles
        self.fail_next = 0
        self.messages = types.SimpleNamespace(clear=lambda: None, last=lambda: '')
        self.refit = RefitFaults()
        self.module = types.SimpleNamespace(
            Weights=np.asarray, OnnxParserRefitter=EmulatedParserRefitter,
        )

    def deserialize(self, plan: bytes) -> EmulatedEngine:
        """Open the ONNX model."""
        try:
            return EmulatedEngine(self, plan)
        except Exception as exc:  # noqa: BLE001  (ONNX Runtime has no common base)
            raise PlanError(f'cannot load the plan: {exc}') from exc


class EmulatedEngine:
    """Stands in for TrtEngine."""

    device_memory_bytes = 1 << 16

    def __init__(self, api: EmulatedApi, model: bytes) -> None:
        self.api, self.onnx = api, model
        self.profiles = api.profiles
        self.session = onnxruntime.InferenceSession(model, providers=['CPUExecutionProvider'])
        self.inputs = tuple(map(_info, self.session.get_inputs()))
        self.outputs = tuple(map(_info, self.session.get_outputs()))
        self._is_open = True
        api.state.alive['engine'] += 1

    def create_context(self, profile: int, stream_handle: int) -> EmulatedContext:
        """Return a context."""
        self.api.state.contexts += 1
        return EmulatedContext(self, profile)

    def new_refitter(self) -> EmulatedRefitter:
        """Return what exchanges weights."""
        return EmulatedRefitter(self)

    def serialize(self) -> bytes:
        """Return the ONNX model as it is now."""
        return bytes(self.onnx)

    def close(self) -> None:
        """Count, once."""
        self.api.state.alive['engine'] -= self._is_open
        self._is_open = False


@dataclasses.dataclass
class RefitFaults:
    """
    What goes wrong at refits: nothing.

    Attributes
    ----------
    fixed
        Weights that TensorRT has built in.
    refused, lost
        Those that it does not take, and that it takes and does not use.
    missing
        Those that it wants besides.
    fails
        The refit itself fails.

    """

    fixed: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    fails: bool = False


class EmulatedRefitter:
    """Stands in for TensorRT's Refitter."""

    def __init__(self, engine: EmulatedEngine) -> None:
        self._engine, self.faults = engine, engine.api.refit
        self._model = onnx.load_from_string(engine.onnx)
        self._stored = {each.name: each for each in self._model.graph.initializer}
        self._set: set[str] = set()

    def get_all_weights(self) -> list[str]:
        """Return the names of the floats."""
        kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
        return [
            name for name, each in self._stored.items()
            if each.data_type in kinds and name not in self.faults.fixed
        ]

    def set_named_weights(self, name: str, values: np.ndarray) -> bool:
        """Take weights of the same size."""
        stored = self._stored[name]
        if name in self.faults.refused or list(values.shape) != list(stored.dims):
            return False
        self._set.add(name)
        if name not in self.faults.lost:
            stored.CopyFrom(onnx.numpy_helper.from_array(values, name))
        return True

    def get_missing_weights(self) -> list[str]:
        """Return what is wanted besides, once a weight was set."""
        return sorted(set(self.faults.missing) - self._set) if self._set else []

    def refit_cuda_engine(self) -> bool:
        """Let the engine have them."""
        if self.faults.fails:
            return False
        self._engine.onnx = self._model.SerializeToString()
        return True


class EmulatedParserRefitter:
    """Stands in for OnnxParserRefitter."""

    num_errors = 1

    def __init__(self, refitter: EmulatedRefitter, logger: Any) -> None:
        self._refitter = refitter

    def get_error(self, index: int) -> Any:
        """Return the one that there may be."""
        return types.SimpleNamespace(desc=lambda: 'shapes differ')

    def refit_from_bytes(self, model: bytes) -> bool:
        """Set all weights of a model."""
        to_array = onnx.numpy_helper.to_array
        stored = onnx.load_from_string(model).graph.initializer
        return all(
            self._refitter.set_named_weights(each.name, to_array(each)) for each in stored
        )


class EmulatedContext:
    """Stands in for TrtContext."""

    def __init__(self, engine: EmulatedEngine, profile: int) -> None:
        self._engine, self._profile = engine, engine.profiles[profile]
        self._shape: tuple[int, ...] = ()
        self._addresses: dict[str, int] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._memory = self._profiled = 0

    def set_device_memory(self, address: int, size_bytes: int) -> None:
        """Note it."""
        assert size_bytes >= self._engine.device_memory_bytes
        self._memory = address

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> None:
        """Check it against the profile and find the output shapes by a run."""
        if not self._profile.contains(shape):
            raise InferenceError(f'{shape} does not fit {self._profile}')
        self._shape = shape
        outputs = self._run(np.zeros(shape, self._engine.inputs[0].dtype))
        names = [tensor.name for tensor in self._engine.outputs]
        self._shapes = {name: array.shape for name, array in zip(names, outputs, strict=True)}

    def output_shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an output."""
        return self._shapes[name]

    def set_address(self, name: str, address: int) -> None:
        """Note it."""
        self._addresses[name] = address

    def enqueue(self, stream_handle: int) -> None:
        """Run in stream order, with the shapes and addresses of now."""
        assert self._memory, 'no device memory'
        api = self._engine.api
        if api.fail_next:
            api.fail_next -= 1
            raise InferenceError('TensorRT cannot run the network: emulated failure')
        addresses, shape = dict(self._addresses), self._shape
        api.state.streams[stream_handle].do(lambda: self._execute(addresses, shape))

    def profile(self, stream_handle: int) -> list[tuple[str, float]]:
        """Run, and tell of two layers, slower each time."""
        self.enqueue(stream_handle)
        self._profiled += 1
        return [('first', 1.0 * self._profiled), ('second', 0.5 * self._profiled)]

    def close(self) -> None:
        """Count."""
        self._engine.api.state.contexts -= 1

    def _execute(self, addresses: dict[str, int], shape: tuple[int, ...]) -> None:
        info = self._engine.inputs[0]
        outputs = self._run(_at(addresses[info.name], shape, info.dtype).copy())
        for tensor, array in zip(self._engine.outputs, outputs, strict=True):
            _at(addresses[tensor.name], array.shape, tensor.dtype)[...] = array

    def _run(self, array: np.ndarray) -> list[np.ndarray]:
        return list(self._engine.session.run(None, {self._engine.inputs[0].name: array}))


def _at(address: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = (ctypes.c_uint8 * size).from_address(address)
    return np.frombuffer(memory, dtype).reshape(shape)


def _info(value: Any) -> TensorInfo:
    kinds = {'tensor(float)': 'float32', 'tensor(float16)': 'float16', 'tensor(int32)': 'int32',
             'tensor(int64)': 'int64'}
    shape = tuple(dim if isinstance(dim, int) else None for dim in value.shape)
    return TensorInfo(value.name, shape, kinds[value.type])


def install() -> EmulatedCuda:
    """Take pycuda's place; call it before engine.cuda_device and its like are imported."""
    driver = EmulatedCuda()
    package = types.ModuleType('pycuda')
    package.driver = driver  # type: ignore[attr-defined]
    sys.modules['pycuda'], sys.modules['pycuda.driver'] = package, driver
    return driver
