"""
A simulated Orin Nano Super: its clocks, the time of a frame and the power it draws.

Calibrated on published numbers. Where each comes from:

Measured and published
    Latency of YOLOv7-tiny 9.04 ms and YOLOv7 27.70 ms at 640, TensorRT alone, on an Orin Nano 8 GB
    with JetPack 5 (trtutils); the power mode is not stated, 15W (GPU 612, EMC 2133) is assumed.
    A GPU clock 12 % lower makes convolutions 10.6 % slower (Thor): 78 % of a frame follows the GPU
    clock where both count. EMC 2133 instead of 3199: 11 to 48 % slower (arXiv 2606.16106); the
    two networks here come to 15 and 30 %.
    A new clock holds after 1 / 5 / 8 ms (CPU / GPU / EMC), the stall is under 0.1 ms (the same).
    YOLOv8n from Python: 10.80 ms in 15W, 10.07 in 25W, 95th percentile 1.53 times the mean
    (InferEdgeLab). Solving both modes gives 6.6 ms of CPU work at 1497.6 MHz: `PYTHON_CPU_MS`.
    A late frame is followed by a late one with up to 74 % (arXiv 2606.16106): slow spells.
    Orin Nano Super, all clocks locked at the top: 6.61 W idle, 21.1 to 21.5 W loaded. Of that load
    (a language model: GPU 99 %, EMC 81 %, CPU 0 %) 7.65 W came on the GPU's rail and 7.5 W on SOC
    and input, taken here as the price of memory traffic (tegrastats log of hokwangchoi). 25W mode
    idles at 4.5 W. The same log: the die warms by 6 degrees within seconds.
Interpolated or assumed
    Between the clocks: a cubic mean of compute and memory time, plus a fixed deviation of each
    clock state of about 2 %, so that no formula fits. GPU power goes with clock ** 2.2 (published
    values reach from 0.5 on Thor to over 3; see `BoardModel.gpu_exponent`). How the 2.1 W between
    locked and idle divide: GPU 0.9, EMC 0.7, CPU 0.5. One busy CPU core: 1 W. Thermal resistance
    and times, over-current limit, and what the hardware does about both. 2 ms of CPU work a frame.
Not reproduced
    12.8 W for 25W mode under load: what load that was is not stated.

"""

from __future__ import annotations

from dataclasses import dataclass, replace
import math

from yolov7_trt_ros.power.governor.table import ClockState

GPU_MHZ = (306.0, 408.0, 510.0, 612.0, 714.0, 816.0, 918.0, 1020.0)
EMC_MHZ = (2133.0, 3199.0)
CPU_MHZ = (960.0, 1344.0, 1728.0)
TOP = ClockState(GPU_MHZ[-1], EMC_MHZ[-1], CPU_MHZ[-1])
MODES = {
    '7W': ClockState(408.0, 2133.0, 960.0),
    '15W': ClockState(612.0, 2133.0, 1497.6),
    '25W': ClockState(918.0, 3199.0, 1344.0),
    'MAXN_SUPER': TOP,
}
"""Orin Nano 8 GB Super; 7W is of the release before, where it needed a reboot."""

MEASURED_AT = MODES['15W']
PYTHON_CPU_MS = 6.6


def clock_states() -> tuple[ClockState, ...]:
    """Return all clock states a governor may choose from."""
    return tuple(ClockState(g, e, c) for g in GPU_MHZ for e in EMC_MHZ for c in CPU_MHZ)


@dataclass(frozen=True)
class Workload:
    """
    What one frame asks of the board.

    Parameters
    ----------
    gpu_ms
        Time on the GPU in 15W mode, where the published numbers are from.
    memory_share
        How much of the time follows the memory clock at the highest clocks, 0 to 1.
    cpu_ms
        Work on the CPU at 1497.6 MHz.

    """

    gpu_ms: float
    memory_share: float
    cpu_ms: float = 2.0

    def parts_ms(self, clocks: ClockState) -> tuple[float, float, float]:
        """Return compute, memory and CPU time; the first two overlap."""
        scale = self.gpu_ms / self._gpu_ms_of_one(MEASURED_AT)
        compute, memory = self._of_one(clocks)
        return compute * scale, memory * scale, self.cpu_ms * MEASURED_AT.cpu_mhz / clocks.cpu_mhz

    def times(self, factor: float) -> Workload:
        """Return the work of so many cameras, or of a GPU shared with somebody else."""
        return replace(self, gpu_ms=self.gpu_ms * factor, cpu_ms=self.cpu_ms * factor)

    def _of_one(self, clocks: ClockState) -> tuple[float, float]:
        compute = math.pow(1.0 - self.memory_share, 1 / 3) * TOP.gpu_mhz / clocks.gpu_mhz
        return compute, math.pow(self.memory_share, 1 / 3) * TOP.emc_mhz / clocks.emc_mhz

    def _gpu_ms_of_one(self, clocks: ClockState) -> float:
        return overlapped(*self._of_one(clocks))


def overlapped(compute_ms: float, memory_ms: float) -> float:
    """Return the time of work whose compute and memory parts mostly overlap."""
    return math.pow(compute_ms**3 + memory_ms**3, 1 / 3)


TINY = Workload(9.04, 0.5)
BASE = Workload(27.70, 0.22)
TINY_PYTHON = Workload(9.04, 0.5, PYTHON_CPU_MS)


@dataclass(frozen=True)
class BoardModel:
    """
    Power and heat; what each default is taken from stands at the top of the file.

    Parameters
    ----------
    gpu_exponent
        GPU power goes with clock to this power; the least certain number of all.
    throttle_c
        From here on the hardware lowers the GPU clock, step by step.
    over_current_w
        Above this for 0.1 s the hardware halves the GPU clock for 0.2 s and raises an alarm.

    """

    gpu_exponent: float = 2.2
    floor_w: float = 4.5
    gpu_clock_w: float = 0.9
    emc_clock_w: float = 0.7
    cpu_clock_w: float = 0.5
    gpu_busy_w: float = 7.65
    traffic_w: float = 9.3
    cpu_busy_w: float = 1.0
    ambient_c: float = 25.0
    die_c_per_w: float = 0.35
    die_s: float = 3.0
    sink_c_per_w: float = 1.5
    sink_s: float = 60.0
    throttle_c: float = 95.0
    over_current_w: float = 25.0
    deviation: float = 0.02

    def idle_w(self, clocks: ClockState, cpu_awake: bool) -> float:
        """Return the power without work; `cpu_awake`: jetson_clocks forbids the CPU to sleep."""
        gpu = math.pow(clocks.gpu_mhz / TOP.gpu_mhz, self.gpu_exponent)
        cpu = math.pow(clocks.cpu_mhz / TOP.cpu_mhz, 2.2) if cpu_awake else 0.0
        emc = clocks.emc_mhz / TOP.emc_mhz
        return (self.floor_w + self.gpu_clock_w * gpu + self.emc_clock_w * emc
                + self.cpu_clock_w * cpu)

    def busy_w(self, clocks: ClockState, workload: Workload) -> float:
        """Return the mean power on top of idle while a frame is worked on."""
        compute_ms, memory_ms, cpu_ms = workload.parts_ms(clocks)
        gpu_ms = overlapped(compute_ms, memory_ms)
        traffic_ms = memory_ms * clocks.emc_mhz / TOP.emc_mhz
        gpu = self.gpu_busy_w * math.pow(clocks.gpu_mhz / TOP.gpu_mhz, self.gpu_exponent)
        cpu = self.cpu_busy_w * math.pow(clocks.cpu_mhz / TOP.cpu_mhz, 2.2)
        energy = gpu * gpu_ms + self.traffic_w * traffic_ms + cpu * cpu_ms
        return energy / (gpu_ms + cpu_ms)


ORIN_NANO_SUPER = BoardModel()
