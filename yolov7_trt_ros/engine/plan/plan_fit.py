"""Check whether a plan fits the TensorRT version and the GPU of this machine."""

from __future__ import annotations

from pathlib import Path

from yolov7_trt_ros.engine.plan.build_target import BuildTarget, version_info
from yolov7_trt_ros.engine.plan.plan_file import PlanManifest, rebuild_command
from yolov7_trt_ros.errors import PlanMismatchError

_OLDEST_VERSION_COMPATIBLE = (8, 6)
_AMPERE = (8, 0)


def check_fits(plan: Path, manifest: PlanManifest, machine: BuildTarget) -> None:
    """Raise PlanMismatchError with what differs and the command that builds the plan again."""
    found = differences(manifest, machine)
    if found:
        raise PlanMismatchError(
            f'the plan {plan} does not fit: {"; ".join(found)}. Build it again with: '
            + rebuild_command(manifest, plan)
        )


def differences(manifest: PlanManifest, machine: BuildTarget) -> list[str]:
    """
    Return in what a plan does not fit a machine; empty if it fits.

    The CUDA version is not compared: the driver may be renewed under a plan. A plan built with
    `version_compatible` fits later TensorRT, one with `hardware_compatible` every GPU from Ampere
    on, one that TensorRT-RTX built without a GPU all it supports.

    """
    built = manifest.machine
    if built.flavour != machine.flavour:
        return [f'it was built with {built.flavour}, here is {machine.flavour}']
    found = []
    if not _version_fits(manifest, machine):
        found.append(
            f'it was built with {built.flavour} {built.tensorrt_version}, here is '
            f'{machine.tensorrt_version}'
        )
    if built.compute_capability and not _gpu_fits(manifest, machine):
        found.append(
            f'it was built for {built.gpu_name} (compute capability {built.compute_capability}), '
            f'here is {machine.gpu_name or "no GPU"} ({machine.compute_capability or "none"})'
        )
    return found


def _version_fits(manifest: PlanManifest, machine: BuildTarget) -> bool:
    built, here = manifest.machine.tensorrt_version, machine.tensorrt_version
    if built == here:
        return True
    return bool(manifest.options.get('version_compatible')) and (
        _OLDEST_VERSION_COMPATIBLE <= version_info(built) <= version_info(here)
    )


def _gpu_fits(manifest: PlanManifest, machine: BuildTarget) -> bool:
    built = manifest.machine
    if manifest.options.get('hardware_compatible'):
        return version_info(machine.compute_capability) >= _AMPERE
    return (built.gpu_name, built.compute_capability) == (
        machine.gpu_name, machine.compute_capability,
    )
