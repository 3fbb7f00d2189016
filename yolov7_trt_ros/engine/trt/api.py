"""
TrtApi: the interface to TensorRT 8.5, 8.6, 10, 11 and TensorRT-RTX; handles their differences.

No version number is compared: each difference is detected by a name that exists or not. Building
is in `network.py`, which gets the module from here; no other module uses it.

"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import importlib
import json
from types import ModuleType
from typing import Any

from yolov7_trt_ros.core.forms.model_spec import TensorInfo
from yolov7_trt_ros.engine.plan.build_target import RTX, version_info
from yolov7_trt_ros.engine.plan.shape_range import ShapeRange
from yolov7_trt_ros.engine.trt.messages import Messages, shared_logger
from yolov7_trt_ros.errors import InferenceError, MissingDependencyError, PlanError, RefitError

MODULES = ('tensorrt', 'tensorrt_rtx', 'tensorrt_rtx_bindings')
"""In the order they are tried; the last is what NVIDIA's RTX wheels for CUDA 13 are called."""

_DTYPES = {'FLOAT': 'float32', 'HALF': 'float16', 'BF16': 'bfloat16', 'INT8': 'int8',
           'INT32': 'int32', 'INT64': 'int64', 'UINT8': 'uint8', 'BOOL': 'bool', 'FP8': 'float8'}


class TrtApi:
    """
    TensorRT as the rest of the package sees it.

    Parameters
    ----------
    module
        `tensorrt`, `tensorrt_rtx`, or a stand-in.

    Attributes
    ----------
    flavour
        `TensorRT` or `TensorRT-RTX`.
    version, version_info
        `8.6.0`, (8, 6, 0).
    dla_core
        The DLA that plans with parts for one are loaded for; set before the first is.

    """

    def __init__(self, module: ModuleType) -> None:
        self.module: Any = module
        self.flavour = RTX if 'rtx' in module.__name__ else 'TensorRT'
        self.version = str(getattr(module, '__version__', '0'))
        self.version_info = version_info(self.version)
        self.logger = shared_logger(module)
        self.messages: Messages = self.logger.messages
        self.dla_core: int | None = None

    @classmethod
    def load(cls) -> TrtApi:
        """
        Import TensorRT, or else TensorRT-RTX.

        Raises
        ------
        MissingDependencyError
            Neither can be imported; the message has both reasons, and what to install.

        """
        failures = []
        for name in MODULES:
            try:
                return cls(importlib.import_module(name))
            except (ImportError, OSError) as exc:  # OSError: a library it loads is missing
                failures.append(f'{name}: {exc}')
        raise MissingDependencyError(
            f'TensorRT cannot be imported ({"; ".join(failures)}). On a Jetson it comes with '
            'JetPack (sudo apt install nvidia-jetpack; a virtual environment needs '
            '--system-site-packages); elsewhere: pip install tensorrt, for GeForce RTX also '
            'tensorrt-rtx-cu13'
        )

    # What this TensorRT has. Each is one probe, and one row of the table in the tests.

    @property
    def builds_without_gpu(self) -> bool:
        """Whether plans can be built if there is no GPU, for any that is supported."""
        return self.flavour == RTX

    @property
    def weakly_typed(self) -> bool:
        """Whether precisions are flags of the builder rather than types in the model."""
        return hasattr(self.module.BuilderFlag, 'FP16')

    @property
    def has_timing_cache(self) -> bool:
        """Whether timings can be kept between builds."""
        return self.flavour != RTX and hasattr(self.module, 'ITimingCache')

    @property
    def has_progress(self) -> bool:
        """Whether the builder reports its progress and can be cancelled."""
        return hasattr(self.module, 'IProgressMonitor')

    @property
    def has_optimization_level(self) -> bool:
        """Whether the effort of a build can be chosen."""
        return hasattr(self.module.IBuilderConfig, 'builder_optimization_level')

    @property
    def has_version_compatible(self) -> bool:
        """Whether plans can be built for later versions as well."""
        return self.flavour != RTX and hasattr(self.module.BuilderFlag, 'VERSION_COMPATIBLE')

    @property
    def has_hardware_compatible(self) -> bool:
        """Whether plans can be built for other GPUs as well."""
        levels = getattr(self.module, 'HardwareCompatibilityLevel', None)
        return self.flavour != RTX and hasattr(levels, 'AMPERE_PLUS')

    @property
    def has_plugins(self) -> bool:
        """Whether TensorRT's own plugins, EfficientNMS_TRT among them, come with it."""
        return self.flavour != RTX and hasattr(self.module, 'init_libnvinfer_plugins')

    @property
    def refits_by_parser(self) -> bool:
        """Whether weights can be read from an ONNX model, including combined ones."""
        return hasattr(self.module, 'OnnxParserRefitter')

    def load_plugins(self) -> None:
        """Make TensorRT's own plugins known; needed before parsing and deserialising."""
        if self.has_plugins:
            self.module.init_libnvinfer_plugins(self.logger, '')

    def deserialize(self, plan: bytes) -> TrtEngine:
        """
        Load a plan. The CUDA context it is to live in must be current.

        A plan holds code for the GPU and, if it is version-compatible, for the CPU: open only
        plans that you trust.

        Raises
        ------
        PlanError
            TensorRT refuses it; the message has TensorRT's reason.

        """
        self.messages.clear()
        runtime = self._make_runtime()
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise PlanError(
                f'{self.flavour} {self.version} cannot load the plan: '
                + (self.messages.last() or 'no reason given')
            )
        return TrtEngine(self, engine, runtime)

    def _make_runtime(self) -> Any:
        """Return a runtime, which goes with the engine that it loads."""
        self.load_plugins()
        try:
            runtime = self.module.Runtime(self.logger)
        except (RuntimeError, TypeError) as exc:  # pybind: a null pointer for the object
            raise PlanError(
                f'{self.flavour} {self.version} has no runtime here: '
                + (self.messages.last() or str(exc))
            ) from exc
        if hasattr(runtime, 'engine_host_code_allowed'):
            runtime.engine_host_code_allowed = True
        if self.dla_core is not None:
            runtime.DLA_core = self.dla_core
        return runtime


class TrtEngine:
    """
    A loaded plan.

    Attributes
    ----------
    inputs, outputs
        Tensors as the plan declares them.
    profiles
        Shapes of the image input, one range per optimisation profile; empty if the first
        input is no image.
    device_memory_bytes
        What one context needs for its activations, with the largest profile.

    """

    def __init__(self, api: TrtApi, engine: Any, runtime: Any) -> None:
        self._api = api
        self._engine = engine
        self._runtime = runtime  # has to outlive the engine
        self.inputs = self._tensors(api.module.TensorIOMode.INPUT)
        self.outputs = self._tensors(api.module.TensorIOMode.OUTPUT)
        self.profiles = self._read_profiles()
        # device_memory_size counts in 32 bits in some versions and is gone in the latest
        size = getattr(engine, 'device_memory_size_v2', None)
        self.device_memory_bytes = int(engine.device_memory_size if size is None else size)

    def create_context(self, profile: int, stream_handle: int) -> TrtContext:
        """
        Return a context on one profile, without device memory.

        Give it `device_memory_bytes` before the first enqueue. Work that was put on the stream
        here has to be done before another stream uses the context.

        Raises
        ------
        InferenceError
            TensorRT cannot create it, or the profile is taken by another context.

        """
        if self._engine is None:
            raise InferenceError('the engine is closed')
        messages = self._api.messages
        messages.clear()
        context = self._new_context()
        if context is None:
            raise InferenceError(
                f'TensorRT cannot create an execution context: {messages.last() or "no reason"}'
            )
        try:
            chosen = context.set_optimization_profile_async(profile, stream_handle)
        except RuntimeError:  # versions differ in how they refuse
            chosen = False
        if not chosen:
            raise InferenceError(
                f'TensorRT refuses profile {profile} of {len(self.profiles)}: '
                + (messages.last() or 'another context uses it')
            )
        return TrtContext(self, context, messages)

    def new_refitter(self) -> Any:
        """
        Return TensorRT's refitter of this engine.

        Raises
        ------
        RefitError
            The engine was not built to be refitted.

        """
        if not self._engine.refittable:
            raise RefitError('the plan was built without --refittable')
        return self._api.module.Refitter(self._engine, self._api.logger)

    def serialize(self) -> bytes:
        """Return the plan as it is now, refittable still if it was."""
        flags: Any = getattr(self._api.module, 'SerializationFlag', None)
        if not hasattr(flags, 'INCLUDE_REFIT'):  # before that it always stayed so
            return bytes(self._engine.serialize())
        config = self._engine.create_serialization_config()
        config.set_flag(flags.INCLUDE_REFIT)
        return bytes(self._engine.serialize_with_config(config))

    def layers(self) -> list[dict[str, Any]]:
        """Return the inspector's record of each layer; only `Name` if no details were kept."""
        found = self.layer_information().get('Layers', [])
        return [layer if isinstance(layer, dict) else {'Name': str(layer)} for layer in found]

    def layer_information(self) -> dict[str, Any]:
        """
        Return the full report of the inspector: `Layers` (dicts or names) and `Bindings`.

        Formats of tensors with free dimensions are those of the first profile's optimum. Empty
        for a plan that kept no layer information, and once the engine is closed.

        """
        if self._engine is None:
            return {}
        inspector = self._engine.create_engine_inspector()
        context = self._context_for_inspector()
        if context is not None:
            inspector.execution_context = context
        text = inspector.get_engine_information(self._api.module.LayerInformationFormat.JSON)
        try:
            # not strict: Metadata separates names with a raw control character
            found = json.loads(text, strict=False)
        except ValueError:  # a plan without any layer information
            return {}
        return found if isinstance(found, dict) else {}

    def _context_for_inspector(self) -> Any:
        """
        Return a context with the shapes to inspect; None if the network has only one shape.

        What counts is the network: its side is free even if the profile leaves it but one size.

        """
        if not self.profiles or None not in self.inputs[0].shape:
            return None
        context = self._new_context()
        if context is None:
            return None
        if not context.set_input_shape(self.inputs[0].name, self.profiles[0].optimum):
            return None
        context.infer_shapes()  # until then 8.6 reports "N/A due to dynamic shapes" (seen there)
        return context

    def new_recorder(self) -> Any:
        """Return a profiler for contexts, which keeps name and milliseconds in `layers`."""
        return _make_recorder(self._api.module)

    def _new_context(self) -> Any:
        strategies = getattr(self._api.module, 'ExecutionContextAllocationStrategy', None)
        if strategies is not None:
            return self._engine.create_execution_context(strategies.USER_MANAGED)
        return self._engine.create_execution_context_without_device_memory()

    def close(self) -> None:
        """Free the engine and its runtime, after its contexts; calling it twice is harmless."""
        self._engine = None
        self._runtime = None

    def _tensors(self, mode: Any) -> tuple[TensorInfo, ...]:
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        return tuple(
            self._tensor_info(name) for name in names
            if self._engine.get_tensor_mode(name) == mode
        )

    def _tensor_info(self, name: str) -> TensorInfo:
        shape = tuple(
            None if side < 0 else int(side) for side in self._engine.get_tensor_shape(name)
        )
        return TensorInfo(name, shape, dtype_name(self._engine.get_tensor_dtype(name)))

    def _read_profiles(self) -> tuple[ShapeRange, ...]:
        if not self.inputs or len(self.inputs[0].shape) != 4 or self.inputs[0].shape[1] != 3:
            return ()
        name = self.inputs[0].name
        return tuple(
            ShapeRange(*(_shape(s) for s in self._engine.get_tensor_profile_shape(name, index)))
            for index in range(self._engine.num_optimization_profiles)
        )


class TrtContext:
    """One thread's hold on an engine: shapes, addresses and the call that runs it."""

    def __init__(self, engine: TrtEngine, context: Any, messages: Messages) -> None:
        self._engine = engine  # lives as long as the context
        self._context = context
        self._messages = messages
        self._execute: Callable[[int], bool] = context.execute_async_v3
        self._recorder: Any = None

    def set_device_memory(self, address: int, size_bytes: int) -> None:
        """Lend device memory, aligned to 256 bytes; it must outlive the context's use of it."""
        if hasattr(self._context, 'set_device_memory'):
            self._context.set_device_memory(address, size_bytes)
        else:
            self._context.device_memory = address

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> None:
        """
        Choose the shape of an input.

        Raises
        ------
        InferenceError
            It is outside the profile; the message names the shapes that fit.

        """
        if not self._context.set_input_shape(name, shape):
            fitting = ', or '.join(map(str, self._engine.profiles)) or 'none'
            raise InferenceError(
                f'input {name} {"x".join(map(str, shape))} does not fit the plan, which takes '
                f'{fitting}; build one with a larger --max, or use a smaller network size or batch'
            )

    def output_shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an output for the chosen input shape."""
        return tuple(int(side) for side in self._context.get_tensor_shape(name))

    def set_address(self, name: str, address: int) -> None:
        """
        Set where an input is or an output goes, in device memory.

        Raises
        ------
        InferenceError
            No such tensor.

        """
        if not self._context.set_tensor_address(name, address):
            raise InferenceError(f'TensorRT refuses an address for tensor {name}')

    def enqueue(self, stream_handle: int) -> None:
        """
        Put one inference on a stream.

        Raises
        ------
        InferenceError
            TensorRT refused; the message has its reason.

        """
        if not self._execute(stream_handle):
            raise InferenceError(
                f'TensorRT cannot run the network: {self._messages.last() or "no reason given"}'
            )

    def profile(self, stream_handle: int) -> list[tuple[str, float]]:
        """
        Run one inference and return name and milliseconds of each layer, in their order.

        TensorRT waits after each layer, so they take longer than without. From then on `enqueue`
        is profiled too: use a context for nothing else.

        Raises
        ------
        InferenceError
            TensorRT refused.

        """
        if self._recorder is None:
            self._recorder = self._engine.new_recorder()
            self._context.profiler = self._recorder
        self._recorder.layers = []
        self.enqueue(stream_handle)
        return list(self._recorder.layers)

    def close(self) -> None:
        """Free the context; calling it twice is harmless."""
        self._context = self._recorder = None
        self._execute = _closed


def _make_recorder(module: Any) -> Any:
    base: Any = module.IProfiler

    class Recorder(base):  # type: ignore[misc]

        def __init__(self) -> None:
            base.__init__(self)
            self.layers: list[tuple[str, float]] = []

        def report_layer_time(self, name: str, time_ms: float) -> None:
            self.layers.append((str(name), float(time_ms)))

    return Recorder()


def _closed(_stream_handle: int) -> bool:
    raise InferenceError('the execution context is closed')


def dtype_name(dtype: Any) -> str:
    """Return numpy's name of a TensorRT type."""
    name = str(dtype).rpartition('.')[2]
    return _DTYPES.get(name, name.lower())


def _shape(sides: Sequence[int]) -> tuple[int, int, int, int]:
    batch, channels, height, width = (int(side) for side in sides)
    return batch, channels, height, width
