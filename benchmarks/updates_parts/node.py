"""
The detector node for updates.py, with plans that a process only pretends to build.

There is no TensorRT on a machine with only a CPU: a model whose name begins with `unbuilt` lacks
its plan until a build has passed its phases, one file a phase, so that the build can be killed in
each. Everything else is the unchanged node.

    python benchmarks/updates_parts/node.py --ros-args ...
    python benchmarks/updates_parts/node.py --build       the process that builds

"""

from __future__ import annotations

from functools import partial
import json
import os
from pathlib import Path
import sys
import time

from yolov7_trt_ros.core.detector import Detector
from yolov7_trt_ros.engine.build_process import build_apart
from yolov7_trt_ros.engine.open import open_detector
from yolov7_trt_ros.engine.options import DetectorOptions
from yolov7_trt_ros.errors import PlanMissingError
from yolov7_trt_ros.parent_process import end_with_starter

PHASES = ('parse', 'tactics', 'write')
_PHASE_S = 30.0


def open_built(options: DetectorOptions) -> Detector:
    """Open a model, unless it lacks its plan."""
    path = Path(options.model)
    if path.name.startswith('unbuilt') and not path.with_suffix('.built').exists():
        raise PlanMissingError(f'no plan of {path} was built yet')
    return open_detector(options)


def build() -> None:
    """Pretend to build: each phase lasts until there is a file of its name."""
    end_with_starter(os.environ, lambda text: None)
    model = Path(json.load(sys.stdin)['model'])
    for index, phase in enumerate(PHASES):
        print(json.dumps(['progress', phase, index / len(PHASES)]), flush=True)
        deadline = time.monotonic() + _PHASE_S
        while not model.with_suffix(f'.{phase}').exists() and time.monotonic() < deadline:
            time.sleep(0.02)
    built = model.with_suffix('.built')
    built.touch()
    print(json.dumps(['built', str(built)]), flush=True)


def main() -> int:
    """Run the node, or build."""
    if sys.argv[1:] == ['--build']:
        build()
        return 0
    from yolov7_trt_ros.nodes.detector.detector_node import DetectorNode
    from yolov7_trt_ros.nodes.detector.plan_build import Engine, exit_despite_builds
    from yolov7_trt_ros.nodes.detector_parameters import parameters
    from yolov7_trt_ros.nodes.process.node_main import run_node

    command = [sys.executable, str(Path(__file__).resolve()), '--build']
    engine = Engine(open_built, build_apart=partial(build_apart, command=command))
    return exit_despite_builds(run_node(
        'detector', partial(DetectorNode, engine=engine), None, about=__doc__,
        table=parameters.PARAMETERS,
    ))


if __name__ == '__main__':
    raise SystemExit(main())
