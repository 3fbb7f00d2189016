"""BuildTarget: the TensorRT version and the GPU that a plan is built for."""

from __future__ import annotations

import dataclasses

RTX = 'TensorRT-RTX'


@dataclasses.dataclass(frozen=True)
class BuildTarget:
    """
    The TensorRT, CUDA and GPU that a plan is built for, or that it is to run with.

    Attributes
    ----------
    flavour
        `TensorRT` or `TensorRT-RTX`.
    tensorrt_version
        Such as `8.6.0`.
    cuda_version
        That of the driver, `12.2`; '' if there is none.
    gpu_name, compute_capability
        Such as `Orin` and `8.7`; both '' for plans that TensorRT-RTX built for every GPU it knows.

    """

    flavour: str
    tensorrt_version: str
    cuda_version: str
    gpu_name: str
    compute_capability: str

    def __str__(self) -> str:
        """Return `TensorRT 8.6.0 on Orin (compute capability 8.7)`."""
        gpu = (
            f'{self.gpu_name} (compute capability {self.compute_capability})'
            if self.gpu_name else 'any GPU it supports'
        )
        return f'{self.flavour} {self.tensorrt_version} on {gpu}'


def version_info(text: str) -> tuple[int, ...]:
    """Return `8.6.0` as (8, 6, 0); what is no number ends it."""
    numbers = []
    for part in text.split('.'):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)
