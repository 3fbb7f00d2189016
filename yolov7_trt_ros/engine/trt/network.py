"""TrtNetwork: parse an ONNX model and build a plan with TensorRT."""

from __future__ import annotations

from collections.abc import Callable, Collection
import dataclasses
import re
from typing import Any

from yolov7_trt_ros.core.forms.model_spec import TensorInfo
from yolov7_trt_ros.engine.plan.shape_range import ShapeRange
from yolov7_trt_ros.engine.trt.api import dtype_name, TrtApi
from yolov7_trt_ros.engine.trt.build_progress import BuildProgress
from yolov7_trt_ros.engine.trt.dla_report import DlaReport, place_layers
from yolov7_trt_ros.errors import BuildError

MIB = 1 << 20
_SHOWN_ERRORS = 3
_SHOWN_NAMES = 5

NodeLabel = Callable[[int], str]
"""From the number of an ONNX node to its name and operator, for people."""


@dataclasses.dataclass(frozen=True)
class BuildSettings:
    """
    Settings of the builder, apart from the network.

    Attributes
    ----------
    profiles
        Shapes of the image input.
    fp16, int8, tf32
        Precisions that layers may take; the first two only matter where `weakly_typed`.
    workspace_mib, opt_level
        None for TensorRT's defaults.
    dla_core
        Run on this core what it can, the rest on the GPU.
    plugins
        The network has plugin layers.
    timing_cache
        What an earlier build kept; b'' for a new one, None for none.

    """

    profiles: tuple[ShapeRange, ...]
    fp16: bool = False
    int8: bool = False
    tf32: bool = True
    obey_precisions: bool = False
    workspace_mib: int | None = None
    opt_level: int | None = None
    dla_core: int | None = None
    refittable: bool = False
    version_compatible: bool = False
    hardware_compatible: bool = False
    plugins: bool = False
    timing_cache: bytes | None = None


class TrtNetwork:
    """
    One model on its way from ONNX to a plan.

    Raises
    ------
    BuildError
        There is no builder here: no driver, no GPU.

    """

    def __init__(self, api: TrtApi) -> None:
        self._api = api
        self._module = api.module
        api.messages.clear()
        api.load_plugins()
        self._builder = self._try(lambda: self._module.Builder(api.logger), 'create a builder')
        flags = 0
        creation_flags = self._module.NetworkDefinitionCreationFlag
        if hasattr(creation_flags, 'EXPLICIT_BATCH'):
            flags |= 1 << int(creation_flags.EXPLICIT_BATCH)
        self._network = self._builder.create_network(flags)
        self._parser = self._module.OnnxParser(self._network, api.logger)
        self.timing_cache: bytes | None = None
        """What the build measured, to be kept for the next; None if there is none."""

    def parse(self, model: bytes, label: NodeLabel) -> None:
        """
        Read a serialised ONNX model.

        Raises
        ------
        BuildError
            TensorRT refuses it; the message names the nodes that caused it.

        """
        self._api.messages.clear()
        if self._parser.parse(model) and not self._parser.num_errors:
            return
        errors = [self._parser.get_error(index) for index in range(self._parser.num_errors)]
        reasons = [_parser_error(error, label) for error in errors[:_SHOWN_ERRORS]]
        if len(errors) > _SHOWN_ERRORS:
            reasons.append(f'and {len(errors) - _SHOWN_ERRORS} more')
        raise BuildError(
            f'{self._api.flavour} {self._api.version} does not take this ONNX model: '
            + ('; '.join(reasons) or self._api.messages.last() or 'no reason given')
        )

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """Return the inputs, free dimensions None."""
        tensors = [self._network.get_input(index) for index in range(self._network.num_inputs)]
        return tuple(
            TensorInfo(
                tensor.name, tuple(None if side < 0 else int(side) for side in tensor.shape),
                dtype_name(tensor.dtype),
            )
            for tensor in tensors
        )

    def keep_outputs(self, names: Collection[str]) -> None:
        """Drop the outputs that are not in `names`, with all that only they need."""
        count = self._network.num_outputs
        for tensor in [self._network.get_output(index) for index in range(count)]:
            if tensor.name not in names:
                self._network.unmark_output(tensor)

    def keep_float32(self, pattern: str) -> list[str]:
        """
        Keep the layers whose name a regular expression finds in float32; returns their names.

        For weakly typed networks; there, too, TensorRT may pass over what it cannot do.

        Raises
        ------
        BuildError
            It finds none.

        """
        expression = re.compile(pattern)
        layers = [self._network.get_layer(index) for index in range(self._network.num_layers)]
        kept = []
        for layer in layers:
            if expression.search(layer.name) and self._set_float32(layer):
                kept.append(str(layer.name))
        if not kept:
            names = ', '.join(str(layer.name) for layer in layers[-_SHOWN_NAMES:])
            raise BuildError(
                f'--keep-fp32 {pattern!r} finds none of the {len(layers)} layers; the last are '
                f'{names}'
            )
        return kept

    def _set_float32(self, layer: Any) -> bool:
        """Constrain a layer that computes with floats; False for those of shapes and indices."""
        floats = (self._module.DataType.FLOAT, self._module.DataType.HALF)
        kinds = self._module.LayerType
        if layer.type in (kinds.SHAPE, kinds.CONSTANT, kinds.QUANTIZE, kinds.DEQUANTIZE):
            return False
        tensors = [layer.get_output(index) for index in range(layer.num_outputs)]
        tensors += [layer.get_input(index) for index in range(layer.num_inputs)]
        if any(
            tensor.is_shape_tensor or tensor.dtype not in floats
            for tensor in tensors if tensor is not None
        ):
            return False
        layer.precision = self._module.DataType.FLOAT
        for index in range(layer.num_outputs):
            layer.set_output_type(index, self._module.DataType.FLOAT)
        return True

    def build(self, settings: BuildSettings, progress: BuildProgress) -> bytes:
        """
        Build the plan: seconds to tens of minutes.

        Raises
        ------
        BuildError
            TensorRT cannot, this TensorRT lacks what is asked for, or it was cancelled.

        """
        config = self._builder.create_builder_config()
        self._configure(config, settings)
        self._add_profiles(config, settings.profiles)
        self._use_timing_cache(config, settings.timing_cache)
        messages = self._api.messages
        messages.clear()
        monitor = self._watch(config, progress)
        progress.enter('build')
        try:
            plan = self._try(
                lambda: self._builder.build_serialized_network(self._network, config), 'build',
                progress,
            )
        finally:
            messages.listener = None
            del monitor
        if settings.timing_cache is not None and self._api.has_timing_cache:
            self.timing_cache = bytes(config.get_timing_cache().serialize())
        return bytes(plan)

    def place_on_dla(self, settings: BuildSettings) -> DlaReport:
        """Return what a DLA would run of the network: asked of TensorRT where that has one."""
        config = self._builder.create_builder_config()
        cores = int(getattr(self._builder, 'num_DLA_cores', 0))
        asks = (settings.dla_core or 0) < cores and hasattr(config, 'can_run_on_DLA')
        if asks:
            self._configure(config, settings)
            self._add_profiles(config, settings.profiles)
        logged: list[str] = []
        self._api.messages.listener = logged.append
        try:
            return place_layers(
                self._module, self._network, config, settings.profiles, asks=asks,
                logged=logged,
            )
        finally:
            self._api.messages.listener = None

    def _try(
        self, action: Callable[[], Any], verb: str, progress: BuildProgress | None = None
    ) -> Any:
        """Return the result of an action, or raise with TensorRT's reason if it is None."""
        try:
            result = action()
            reason = ''
        except (RuntimeError, TypeError) as exc:  # pybind: a null pointer where a value belongs
            result, reason = None, str(exc)
        if progress is not None and progress.is_cancelled():
            raise BuildError('the build was cancelled')
        if result is None:
            raise BuildError(
                f'{self._api.flavour} {self._api.version} cannot {verb}: '
                + (self._api.messages.last() or reason or 'no reason given')
            )
        return result

    def _configure(self, config: Any, settings: BuildSettings) -> None:
        flags = self._module.BuilderFlag
        if self._api.weakly_typed:
            _set_flags(config, flags, {
                'FP16': settings.fp16, 'INT8': settings.int8,
                'OBEY_PRECISION_CONSTRAINTS': settings.obey_precisions,
            })
        if not settings.tf32 and hasattr(flags, 'TF32'):
            config.clear_flag(flags.TF32)
        _set_flags(config, flags, {
            'REFIT': settings.refittable, 'VERSION_COMPATIBLE': settings.version_compatible,
        })
        if settings.hardware_compatible:
            levels = self._module.HardwareCompatibilityLevel
            config.hardware_compatibility_level = levels.AMPERE_PLUS
        if settings.workspace_mib is not None:
            pool = self._module.MemoryPoolType.WORKSPACE
            config.set_memory_pool_limit(pool, settings.workspace_mib * MIB)
        if settings.opt_level is not None:
            config.builder_optimization_level = settings.opt_level
        config.profiling_verbosity = self._module.ProfilingVerbosity.DETAILED
        preview: Any = getattr(self._module, 'PreviewFeature', None)
        if hasattr(preview, 'PROFILE_SHARING_0806'):  # later versions always share
            config.set_preview_feature(preview.PROFILE_SHARING_0806, True)
        if settings.plugins:
            self._leave_out_libraries(config)
        if settings.dla_core is not None:
            self._use_dla(config, settings.dla_core)

    def _leave_out_libraries(self, config: Any) -> None:
        """Do without cuBLAS and cuDNN, which TensorRT 8 otherwise loads for every plugin."""
        sources = getattr(self._module, 'TacticSource', None)
        if sources is None:
            return
        kept = config.get_tactic_sources()
        for name in ('CUBLAS', 'CUBLAS_LT', 'CUDNN'):
            if hasattr(sources, name):
                kept &= ~(1 << int(getattr(sources, name)))
        config.set_tactic_sources(kept)

    def _use_dla(self, config: Any, core: int) -> None:
        count = int(getattr(self._builder, 'num_DLA_cores', 0))
        if core >= count:
            raise BuildError(
                f'--dla-core {core}: TensorRT finds {count} DLA cores on this machine'
            )
        config.default_device_type = self._module.DeviceType.DLA
        config.DLA_core = core
        config.set_flag(self._module.BuilderFlag.GPU_FALLBACK)

    def _add_profiles(self, config: Any, profiles: tuple[ShapeRange, ...]) -> None:
        name = self._network.get_input(0).name
        for number, shapes in enumerate(profiles):
            profile = self._builder.create_optimization_profile()
            try:
                profile.set_shape(name, shapes.minimum, shapes.optimum, shapes.maximum)
                added = config.add_optimization_profile(profile)
            except RuntimeError:
                added = -1
            if added != number:
                raise BuildError(
                    f'TensorRT refuses the profile {shapes}: '
                    + (self._api.messages.last() or 'no reason given')
                )

    def _use_timing_cache(self, config: Any, kept: bytes | None) -> None:
        if kept is None or not self._api.has_timing_cache:
            return
        # one of another GPU or TensorRT is refused, and a new one begun in its place
        for data in (kept, b''):
            cache = config.create_timing_cache(data)
            if cache is not None and config.set_timing_cache(cache, False):
                return

    def _watch(self, config: Any, progress: BuildProgress) -> Any:
        """Make the builder report its progress; the result must live until the build ends."""
        if not self._api.has_progress:
            self._api.messages.listener = progress.read_message
            return None
        monitor = _make_monitor(self._module, progress)
        config.progress_monitor = monitor
        return monitor


def _set_flags(config: Any, flags: Any, wanted: dict[str, bool]) -> None:
    for name, value in wanted.items():
        if value:
            config.set_flag(getattr(flags, name))


def _make_monitor(module: Any, progress: BuildProgress) -> Any:
    base: Any = module.IProgressMonitor

    class Monitor(base):  # type: ignore[misc, valid-type, unused-ignore]
        """Forwards to BuildProgress, from TensorRT's threads."""

        def __init__(self) -> None:
            base.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.phase_start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return progress.step_complete(phase_name)

        def phase_finish(self, phase_name: str) -> None:
            progress.phase_finish(phase_name)

    return Monitor()


def _parser_error(error: Any, label: NodeLabel) -> str:
    """Return `node head.2 (Conv): reason`."""
    text = ' '.join(str(error.desc()).split())
    name = str(error.node_name()) if hasattr(error, 'node_name') else ''
    operator = str(error.node_operator()) if hasattr(error, 'node_operator') else ''
    where = f'{name} ({operator})' if name and operator else label(int(error.node()))
    return f'node {where}: {text}' if where else text
