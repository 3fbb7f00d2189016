"""
CudaDevice: the primary context, pushed and popped around each use; CUDA errors translated.

No context is current outside a `with` block, so any thread may use the device, one at a time; this
package shares the primary context with whatever else runs in the process (TensorRT, PyTorch).

PyCUDA destroys an object only where the PyCUDA context that it was made in is current, or in the
thread that made that context; once that context is detached it destroys nothing, without a word.
So a process has one PyCUDA context per device, and keeps it.

"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import threading
import types
from typing import Any, TYPE_CHECKING

import pycuda.driver as cuda

from yolov7_trt_ros.engine.plan.build_target import BuildTarget
from yolov7_trt_ros.errors import DeviceLostError, DeviceMemoryError, InferenceError

if TYPE_CHECKING:
    from yolov7_trt_ros.engine.trt.api import TrtApi

MIB = 1 << 20

# Measured with driver 580 and CUDA 13.0: after an illegal access every new context of the process,
# of a reset primary one too, fails with the same error.
_STICKY = ('illegal', 'launch failure', 'launch failed', 'misaligned', 'hardware', 'assert')
LOST_CURE = 'CUDA cannot be used again in this process: restart it'


class _Primary:
    """
    What a process keeps of a device.

    Attributes
    ----------
    context
        The only PyCUDA context.
    lost
        Whether an error has destroyed it.
    idle_streams
        Streams that nobody uses.

    """

    def __init__(self, context: Any) -> None:
        self.context = context
        self.lost = False
        self.idle_streams: list[cuda.Stream] = []


_PRIMARIES: dict[int, _Primary] = {}
_PRIMARIES_LOCK = threading.Lock()


def _primary_of(index: int, device: cuda.Device) -> _Primary:
    """Return what is kept of a device; raises cuda.Error if it is lost."""
    with _PRIMARIES_LOCK:
        if index not in _PRIMARIES:
            _PRIMARIES[index] = _Primary(device.retain_primary_context())
        primary = _PRIMARIES[index]
    if primary.lost:
        _synchronize(primary.context)
        primary.lost = False
    return primary


def _synchronize(context: Any) -> None:
    context.push()
    try:
        cuda.Context.synchronize()
    finally:
        cuda.Context.pop()


class CudaDevice:
    """
    A device and its primary context, which all of its users in a process share.

    Used as a context manager: `with device:` makes it current in this thread. CUDA errors inside
    come out as InferenceError, DeviceMemoryError or, when the context is lost, DeviceLostError.

    Raises
    ------
    InferenceError
        There is no such device, or no driver.
    DeviceLostError
        An earlier error of this process has made CUDA unusable to it.

    """

    def __init__(self, index: int = 0) -> None:
        try:
            cuda.init()
            self.device = cuda.Device(index)
            self._primary = _primary_of(index, self.device)
        except cuda.Error as exc:
            if any(sign in str(exc) for sign in _STICKY):
                raise DeviceLostError(f'CUDA is lost to this process: {exc}; {LOST_CURE}') from exc
            raise InferenceError(
                f'no CUDA device {index}: {exc}; check the driver with nvidia-smi (on a Jetson: '
                'tegrastats), or set the backend to onnx'
            ) from exc

    @property
    def lost(self) -> bool:
        """Whether an error has destroyed the context; nothing works on it any more."""
        return self._primary.lost

    def __enter__(self) -> CudaDevice:
        """Make the context current in this thread."""
        self._primary.context.push()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        """Take the context off this thread; turn a CUDA error into one of ours."""
        ours = None
        if isinstance(error, cuda.Error) or type(error) is InferenceError:
            ours = self._translate(error)
        cuda.Context.pop()
        if ours is not None:
            raise ours from error

    @property
    def name(self) -> str:
        """Of the GPU, such as `Orin`."""
        return str(self.device.name())

    @property
    def architecture(self) -> str:
        """Return what the compilers call the GPU: `sm_87`."""
        return 'sm_{}{}'.format(*self.device.compute_capability())

    @property
    def driver_version(self) -> str:
        """Return the CUDA version that the driver has: `12.2`."""
        version = cuda.get_driver_version()
        return f'{version // 1000}.{version % 1000 // 10}'

    def attribute(self, name: str) -> int:
        """Return a device attribute by pycuda's name, 0 if this CUDA does not know it."""
        attribute = getattr(cuda.device_attribute, name, None)
        return 0 if attribute is None else int(self.device.get_attribute(attribute))

    def is_alive(self) -> bool:
        """Whether the context still works; one that met an illegal access does not."""
        if not self.lost:
            try:
                _synchronize(self._primary.context)
            except cuda.Error:
                self._primary.lost = True
        return not self.lost

    @contextlib.contextmanager
    def lent_stream(self) -> Iterator[cuda.Stream]:
        """
        Lend a stream, one that was given back or a new one; the context must be current.

        PyCUDA destroys a stream with the last reference to it, wherever that goes, so it is kept.

        """
        streams = self._primary.idle_streams
        try:
            stream = streams.pop()
        except IndexError:
            stream = cuda.Stream()
        try:
            yield stream
        finally:
            if not self.lost:
                with contextlib.suppress(cuda.Error):  # one that cannot be waited for is given up
                    stream.synchronize()
                    streams.append(stream)

    def _translate(self, error: BaseException) -> InferenceError | None:
        """Return what a CUDA error, or a failure that may hide one, means; None: as it was."""
        if isinstance(error, cuda.MemoryError):
            return out_of_memory(0, error)
        try:
            cuda.Context.synchronize()
        except cuda.Error as exc:
            self._primary.lost = True
            return DeviceLostError(f'the CUDA context is lost: {exc}; {LOST_CURE}')
        if isinstance(error, InferenceError):
            return None
        return InferenceError(f'CUDA failed: {error}')


def out_of_memory(needed_bytes: int, error: BaseException) -> DeviceMemoryError:
    """Return an error with the amount of missing memory; a context must be current."""
    try:
        free, total = cuda.mem_get_info()
    except cuda.Error:
        return DeviceMemoryError(f'the GPU has too little free memory: {error}')
    missing = max(0, needed_bytes - free)
    wanted = f'{needed_bytes / MIB:.0f} MiB are needed, ' if needed_bytes else ''
    short = f', {missing / MIB:.0f} MiB are missing' if missing else ''
    return DeviceMemoryError(
        f'the GPU has too little free memory: {wanted}{free / MIB:.0f} of {total / MIB:.0f} MiB '
        f'are free{short}; use a smaller network size, batch or plan, or stop other GPU programs'
    )


def has_cuda_device() -> bool:
    """Whether a CUDA driver with at least one device is here."""
    try:
        cuda.init()
        return int(cuda.Device.count()) > 0
    except cuda.Error:
        return False


def find_target(api: TrtApi, index: int = 0) -> BuildTarget:
    """
    Return what a plan must fit here.

    Raises
    ------
    InferenceError
        There is no CUDA device.

    """
    try:
        cuda.init()
        device = cuda.Device(index)
        driver = cuda.get_driver_version()
        return BuildTarget(
            flavour=api.flavour,
            tensorrt_version=api.version,
            cuda_version=f'{driver // 1000}.{driver % 1000 // 10}',
            gpu_name=str(device.name()),
            compute_capability='{}.{}'.format(*device.compute_capability()),
        )
    except cuda.Error as exc:
        raise InferenceError(f'no CUDA device {index}: {exc}') from exc
