"""
Stand-ins for the Python packages of TensorRT 8.5, 8.6, 10, 11 and TensorRT-RTX.

Each has only the names that its version has, as NVIDIA's published bindings list them: code that
touches a name that is gone, or not there yet, fails. They record what they are told in `record`
and build plans that are JSON texts.

"""

from __future__ import annotations

import enum
import json
import types
from typing import Any

VERSIONS = ('8.5', '8.6', '10', '11', 'RTX')

_FLAGS_8_5 = ('FP16', 'INT8', 'OBEY_PRECISION_CONSTRAINTS', 'REFIT', 'GPU_FALLBACK', 'TF32')
_FLAGS = {
    '8.5': _FLAGS_8_5,
    '8.6': (*_FLAGS_8_5, 'VERSION_COMPATIBLE'),
    '10': (*_FLAGS_8_5, 'VERSION_COMPATIBLE'),
    '11': ('REFIT', 'GPU_FALLBACK', 'TF32', 'VERSION_COMPATIBLE'),
    'RTX': ('REFIT', 'GPU_FALLBACK', 'TF32', 'VERSION_COMPATIBLE'),
}
_NETWORK_FLAGS = {
    '8.5': ('EXPLICIT_BATCH',), '8.6': ('EXPLICIT_BATCH',),
    '10': ('EXPLICIT_BATCH', 'STRONGLY_TYPED'), '11': ('STRONGLY_TYPED',),
    'RTX': ('STRONGLY_TYPED',),
}
_PREVIEW = {
    '8.5': ('FASTER_DYNAMIC_SHAPES_0805',),
    '8.6': ('FASTER_DYNAMIC_SHAPES_0805', 'PROFILE_SHARING_0806'),
    '10': ('PROFILE_SHARING_0806',), '11': ('ALIASED_PLUGIN_IO_10_03',),
    'RTX': ('ALIASED_PLUGIN_IO_10_03',),
}
_NAMES = {'8.5': '8.5.2.2', '8.6': '8.6.0', '10': '10.3.0', '11': '11.1.0', 'RTX': '1.7.1.116'}


class Value:
    """A member of one of pybind's enumerations: `str` gives `DataType.HALF`."""

    def __init__(self, kind: str, name: str, number: int) -> None:
        self.kind, self.name, self.number = kind, name, number

    def __int__(self) -> int:
        return self.number

    def __repr__(self) -> str:
        return f'{self.kind}.{self.name}'


def values(kind: str, *names: str) -> type:
    return type(kind, (), {name: Value(kind, name, number) for number, name in enumerate(names)})


class Logger:
    """`ILogger`: the severities are its attributes."""

    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = (
        Value('Severity', name, number)
        for number, name in enumerate(('INTERNAL_ERROR', 'ERROR', 'WARNING', 'INFO', 'VERBOSE'))
    )


class Monitor:
    """`IProgressMonitor`."""


class Memory(bytes):
    """`IHostMemory`."""


def surface(version: str) -> Any:
    """Return a new stand-in for the package of a version; its `record` starts empty."""
    rtx = version == 'RTX'
    module: Any = types.ModuleType('tensorrt_rtx' if rtx else 'tensorrt')
    module.__version__ = _NAMES[version]
    module.record = {'flags': [], 'profiles': [], 'contexts': [], 'layers': []}
    module.refuse_build = module.refuse_plan = ''
    module.parser_errors = []
    module.ILogger = Logger
    module.BuilderFlag = values('BuilderFlag', *_FLAGS[version])
    module.NetworkDefinitionCreationFlag = values(
        'NetworkDefinitionCreationFlag', *_NETWORK_FLAGS[version]
    )
    module.PreviewFeature = values('PreviewFeature', *_PREVIEW[version])
    module.MemoryPoolType = values('MemoryPoolType', 'WORKSPACE')
    module.DeviceType = values('DeviceType', 'GPU', 'DLA')
    module.ProfilingVerbosity = values('ProfilingVerbosity', 'LAYER_NAMES_ONLY', 'DETAILED')
    module.DataType = values('DataType', 'FLOAT', 'HALF', 'INT8', 'INT32')
    module.LayerType = values(
        'LayerType', 'CONVOLUTION', 'SHAPE', 'CONSTANT', 'QUANTIZE', 'DEQUANTIZE'
    )
    module.TensorIOMode = values('TensorIOMode', 'NONE', 'INPUT', 'OUTPUT')
    module.LayerInformationFormat = values('LayerInformationFormat', 'ONELINE', 'JSON')
    module.ITimingCache = type('ITimingCache', (), {})
    module.IProfiler = type('IProfiler', (), {})
    module.init_libnvinfer_plugins = lambda logger, namespace: True
    if version != '8.5':
        module.HardwareCompatibilityLevel = values(
            'HardwareCompatibilityLevel', 'NONE', 'AMPERE_PLUS'
        )
    if version not in ('8.5', '8.6'):
        module.IProgressMonitor = Monitor
        module.ExecutionContextAllocationStrategy = values(
            'ExecutionContextAllocationStrategy', 'STATIC', 'USER_MANAGED'
        )
    if version != '11':
        module.TacticSource = enum.IntEnum(
            'TacticSource', 'CUBLAS CUBLAS_LT CUDNN EDGE_MASK JIT', start=0
        )
    if version != '8.5':
        kept = ('INCLUDE_REFIT',) if version not in ('8.6', '10') else ()
        module.SerializationFlag = values(
            'SerializationFlag', 'EXCLUDE_WEIGHTS', 'EXCLUDE_LEAN_RUNTIME', *kept
        )
    module.IBuilderConfig = _config_class(module, version)
    _add_builder(module, version)
    _add_runtime(module, version)
    _add_refitter(module, version)
    return module


def _add_refitter(module: Any, version: str) -> None:
    """Let an engine have two weights, of which `head.bias` comes with `head.weight`."""

    class Refitter:

        def __init__(self, engine: Any, logger: Any) -> None:
            self.logger, self.done = logger, set()

        def get_all_weights(self) -> list[str]:
            return ['head.weight', 'head.bias']

        def set_named_weights(self, name: str, weights: Any) -> bool:
            if name == module.refuse_weights:
                self.logger.log(Logger.ERROR, f'{name}: count mismatch')
                return False
            module.record.setdefault('weights', []).append((name, weights.tolist()))
            self.done.add(name)
            return True

        def get_missing_weights(self) -> list[str]:
            return sorted({'head.weight', 'head.bias'} - self.done) if self.done else []

        def refit_cuda_engine(self) -> bool:
            return not self.get_missing_weights()

    class OnnxParserRefitter:
        num_errors = 1

        def __init__(self, refitter: Refitter, logger: Any) -> None:
            self.refitter = refitter

        def get_error(self, index: int) -> Any:
            return types.SimpleNamespace(desc=lambda: 'shape mismatch')

        def refit_from_bytes(self, model: bytes) -> bool:
            module.record['refit_model'] = model
            self.refitter.done = {'head.weight', 'head.bias'}
            return not module.refuse_weights

    module.refuse_weights = ''
    module.Weights = lambda array: array
    module.Refitter = Refitter
    if version not in ('8.5', '8.6'):
        module.OnnxParserRefitter = OnnxParserRefitter


def _config_class(module: Any, version: str) -> type:
    class Config:

        def __init__(self) -> None:
            self.profiling_verbosity = self.default_device_type = self.DLA_core = None
            self.cache: Any = None
            self.count = 0
            if version not in ('8.5', '8.6'):
                self.progress_monitor: Any = None

        def __setattr__(self, name: str, value: Any) -> None:
            """Pybind objects take no new attributes."""
            known = {'profiling_verbosity', 'default_device_type', 'DLA_core', 'cache', 'count'}
            if version != '8.5':
                known |= {'builder_optimization_level', 'hardware_compatibility_level'}
            if version not in ('8.5', '8.6'):
                known.add('progress_monitor')
            if name not in known:
                raise AttributeError(name)
            object.__setattr__(self, name, value)
            if name not in ('cache', 'count', 'progress_monitor') and value is not None:
                module.record[name] = value

        def set_flag(self, flag: Value) -> None:
            module.record['flags'].append(flag.name)

        def clear_flag(self, flag: Value) -> None:
            module.record['flags'].append(f'no {flag.name}')

        def set_preview_feature(self, feature: Value, on: bool) -> None:
            module.record['flags'].append(feature.name)

        def get_tactic_sources(self) -> int:
            return 0b11111

        def set_tactic_sources(self, sources: int) -> None:
            module.record['tactic_sources'] = sources

        def set_memory_pool_limit(self, pool: Value, size: int) -> None:
            module.record['workspace'] = size

        def add_optimization_profile(self, profile: Any) -> int:
            module.record['profiles'].append(profile.shapes)
            self.count += 1
            return self.count - 1

        def create_timing_cache(self, data: bytes) -> Any:
            return types.SimpleNamespace(data=data, serialize=lambda: Memory(b'timings'))

        def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
            fits = cache.data in (b'', b'timings')
            module.record['timings'] = cache.data if fits else 'refused'
            self.cache = cache
            return fits

        def get_timing_cache(self) -> Any:
            return self.cache

    if version != '8.5':
        Config.builder_optimization_level = None  # type: ignore[attr-defined]
        Config.hardware_compatibility_level = None  # type: ignore[attr-defined]
    return Config


def _add_builder(module: Any, version: str) -> None:
    class Profile:

        def set_shape(self, name: str, *shapes: Any) -> None:
            self.shapes = (name, *shapes)

    class Builder:
        num_DLA_cores = 2

        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def create_network(self, flags: int = 0) -> Any:
            module.record['network_flags'] = flags
            return _network(module, version)

        def create_builder_config(self) -> Any:
            return module.IBuilderConfig()

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, network: Any, config: Any) -> Memory | None:
            _narrate(module, self.logger, config)
            monitor = getattr(config, 'progress_monitor', None)
            if monitor is not None and not _walk(monitor):
                return None
            if module.refuse_build:
                self.logger.log(Logger.ERROR, module.refuse_build)
                return None
            return Memory(b'{"plan": true}')

    class OnnxParser:

        def __init__(self, network: Any, logger: Any) -> None:
            self.num_errors = len(module.parser_errors)

        def parse(self, model: bytes) -> bool:
            module.record['model'] = model
            return not module.parser_errors

        def get_error(self, index: int) -> Any:
            node, name, operator, text = module.parser_errors[index]
            error = types.SimpleNamespace(node=lambda: node, desc=lambda: text)
            if version not in ('8.5', '8.6'):
                error.node_name, error.node_operator = (lambda: name), (lambda: operator)
            return error

    module.Builder, module.OnnxParser = Builder, OnnxParser


def _network(module: Any, version: str) -> Any:
    image = types.SimpleNamespace(
        name='images', shape=(-1, 3, -1, -1), dtype=module.DataType.FLOAT
    )
    layers = [
        _layer(module, version, 'backbone.0', 'CONVOLUTION', 'FLOAT'),
        _layer(module, version, 'head.0', 'CONVOLUTION', 'FLOAT'),
        _layer(module, version, 'head.shape', 'SHAPE', 'INT32'),
        _layer(module, version, 'head.1', 'CONVOLUTION', 'FLOAT'),
    ]
    outputs = [types.SimpleNamespace(name=name) for name in ('output', 'raw_head')]
    return types.SimpleNamespace(
        num_inputs=1, get_input=lambda index: image, num_layers=len(layers),
        get_layer=lambda index: layers[index], num_outputs=len(outputs),
        get_output=lambda index: outputs[index], unmark_output=outputs.remove,
    )


def _layer(module: Any, version: str, name: str, kind: str, dtype: str) -> Any:
    tensor = types.SimpleNamespace(is_shape_tensor=False, dtype=getattr(module.DataType, dtype))

    class Layer:
        num_outputs, num_inputs = 1, 2

        def __init__(self) -> None:
            self.name, self.type = name, getattr(module.LayerType, kind)

        def get_input(self, index: int) -> Any:
            return tensor if index == 0 else None

        def get_output(self, index: int) -> Any:
            return tensor

        if version in ('8.5', '8.6', '10'):
            def set_output_type(self, index: int, dtype: Value) -> None:
                module.record['layers'].append((name, dtype.name))

    return Layer()


def _narrate(module: Any, logger: Any, config: Any) -> None:
    """Say what builders of TensorRT 8 say."""
    for text in (
        'After concat removal: 2 layers',
        'Constructing optimization profile number 0 [1/1].',
        '--------------- Timing Runner: backbone.0 + act (CaskConvolution[0x80000009])',
        '--------------- Timing Runner: head.0 (CaskConvolution[0x80000009])',
    ):
        logger.log(Logger.VERBOSE, text)


def _walk(monitor: Any) -> bool:
    """Run through the phases of a build; False if it was cancelled."""
    monitor.phase_start('Building engine', None, 2)
    monitor.phase_start('Timing', 'Building engine', 4)
    answers = [monitor.step_complete('Timing', step) for step in range(4)]
    monitor.phase_finish('Timing')
    monitor.phase_finish('Building engine')
    return all(answers)


def _add_runtime(module: Any, version: str) -> None:
    old = version in ('8.5', '8.6')

    class Context:

        def __init__(self) -> None:
            self.told: dict[str, Any] = {}

        def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
            if profile > 1:
                raise RuntimeError('Error in set optimization profile async.')
            self.told['profile'] = (profile, stream)
            return True

        def set_input_shape(self, name: str, shape: Any) -> bool:
            self.told['shape'] = (name, shape)
            return max(shape) <= 1280

        def infer_shapes(self) -> list[str]:
            self.told['inferred'] = self.told['shape']
            return []

        def get_tensor_shape(self, name: str) -> Any:
            return (1, 25200, 85)

        def set_tensor_address(self, name: str, address: int) -> bool:
            return name in ('images', 'output')

        def execute_async_v3(self, stream: int) -> bool:
            self.told['stream'] = stream
            if 'profiler' in self.told:  # as by default: enqueueing waits and reports
                for name, time_ms in (('backbone.0', 0.5), ('head.0', 0.25)):
                    self.told['profiler'].report_layer_time(name, time_ms)
            return stream != 13

        def __setattr__(self, name: str, value: Any) -> None:
            if name == 'device_memory':
                self.told['memory'] = value
            elif name == 'profiler':
                assert isinstance(value, module.IProfiler)
                self.told['profiler'] = value
            elif name == 'told':
                object.__setattr__(self, name, value)
            else:
                raise AttributeError(name)

    if not old:
        Context.set_device_memory = (  # type: ignore[attr-defined]
            lambda self, address, size: self.told.update(memory=(address, size))
        )

    class Engine:
        num_io_tensors, num_optimization_profiles, num_layers = 2, 2, 2

        def get_tensor_name(self, index: int) -> str:
            return ('images', 'output')[index]

        def get_tensor_mode(self, name: str) -> Value:
            return getattr(module.TensorIOMode, 'INPUT' if name == 'images' else 'OUTPUT')

        def get_tensor_shape(self, name: str) -> Any:
            return (-1, 3, -1, -1) if name == 'images' else (-1, 25200, 85)

        def get_tensor_dtype(self, name: str) -> Value:
            return module.DataType.FLOAT if name == 'images' else module.DataType.HALF

        def get_tensor_profile_shape(self, name: str, index: int) -> Any:
            batch = index + 1
            return [(batch, 3, 320, 320), (batch, 3, 640, 640), (batch, 3, 1280, 1280)]

        def create_engine_inspector(self) -> Any:
            return types.SimpleNamespace(get_engine_information=lambda form: json.dumps(
                {
                    'Layers': [{'Name': 'backbone.0', 'Metadata': 'a@b'}, 'head.0'],
                    'Bindings': ['images'],
                }
            ).replace('@', '\x1e'))  # as 8.6 writes it, not escaped

        refittable = True

        def serialize(self) -> Memory:
            return Memory(b'{"plan": "refitted"}')

        if version != '8.5':
            def create_serialization_config(self) -> Any:
                return types.SimpleNamespace(
                    set_flag=lambda flag: module.record['flags'].append(flag.name)
                )

            def serialize_with_config(self, config: Any) -> Memory:
                return Memory(b'{"plan": "refitted"}')

        if version in ('8.5', '8.6', '10'):
            device_memory_size = 4096

            def create_execution_context_without_device_memory(self) -> Context:
                return self._keep('without memory')

        if not old:
            device_memory_size_v2 = 4096

            def create_execution_context(self, strategy: Value) -> Context:
                return self._keep(strategy.name)

        def _keep(self, kind: str) -> Context:
            context = Context()
            module.record['contexts'].append((kind, context.told))
            return context

    class Runtime:

        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, plan: bytes) -> Any:
            if plan != b'{"plan": true}':
                self.logger.log(Logger.ERROR, 'Magic tag does not match')
                return None
            return Engine()

    if version != '8.5':
        Runtime.engine_host_code_allowed = False  # type: ignore[attr-defined]
    module.Runtime = Runtime
