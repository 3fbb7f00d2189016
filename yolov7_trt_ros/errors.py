"""
The exceptions that this package raises on purpose, in one tree.

    Yolov7TrtError
    ├── InputError                 input from outside cannot be used
    │   ├── ImageError             an image message or file: size, step, encoding, truncated data
    │   ├── BagError               a bag that is missing, corrupt or half written
    │   ├── CalibrationError       pictures that do not show the ranges of a model's activations
    │   └── SettingError           a parameter or command line value out of its range
    ├── ModelError                 the model cannot be used as a YOLOv7 detector
    │   ├── ModelNotFoundError     no such file and no such embedded model
    │   ├── ModelFormatError       the file is not a readable model
    │   │   └── CheckpointError    a PyTorch checkpoint that is damaged, foreign, or holds code
    │   ├── ModelLayoutError       inputs or outputs are not those of a YOLOv7 export, or ambiguous
    │   ├── ExportError            what was written does not compute what the model computes
    │   ├── UntrustedPlanError     a plan, which can run code, that others could have written
    │   ├── BuildError             TensorRT could not build a plan from the model
    │   │   └── RefitError         the weights of a plan cannot be exchanged for the model's
    │   └── PlanError              a TensorRT plan cannot be used here
    │       ├── PlanMissingError   no plan was built yet for this model on this machine
    │       └── PlanMismatchError  the plan was built for another GPU, TensorRT or model
    ├── InferenceError             the engine failed or returned unusable numbers for one frame
    │   ├── DeviceMemoryError      the GPU has too little free memory
    │   └── DeviceLostError        CUDA is lost to this process: only a new one can use it
    ├── PowerError                 the board's power cannot be read or changed
    │   ├── PowerFormatError       the text of a power tool or file cannot be understood
    │   ├── PowerPermissionError   root is needed; the message has the sudoers line
    │   ├── PowerRebootError       only a reboot would set this power mode
    │   └── PowerCommandError      a tool is missing, hangs, refuses, or did nothing
    │       └── PowerTimeoutError  it took too long; whether it took effect is not known
    ├── ReceiveError               images cannot be taken below rclpy here
    └── MissingDependencyError     an optional package is needed and not installed

Each message says what was expected, what was found and what to do. The node counts an `InputError`
or `InferenceError` as a failed frame and continues (after a `DeviceLostError` it stops detecting,
or exits for a restart); a `ModelError` fails the lifecycle transition.

"""

from __future__ import annotations


class Yolov7TrtError(Exception):
    """Base of all errors of this package; catching it catches nothing else."""


class InputError(Yolov7TrtError):
    """Input from outside cannot be used."""


class ImageError(InputError):
    """An image message, buffer or file cannot be read as an image."""


class BagError(InputError):
    """A bag is missing, corrupt or half written."""


class CalibrationError(InputError):
    """The pictures do not show the ranges of a model's activations."""


class SettingError(InputError):
    """A parameter or command line value is out of its range."""


class ModelError(Yolov7TrtError):
    """The model cannot be used as a YOLOv7 detector."""


class ModelNotFoundError(ModelError):
    """Neither a file nor the name of an embedded model."""


class ModelFormatError(ModelError):
    """The file exists but is not a readable model."""


class CheckpointError(ModelFormatError):
    """A PyTorch checkpoint is damaged, of no known architecture, or holds code."""


class ModelLayoutError(ModelError):
    """Inputs or outputs are not those of a YOLOv7 export, or fit more than one layout."""


class ExportError(ModelError):
    """What was written does not compute what the model computes."""


class BuildError(ModelError):
    """TensorRT could not build a plan from the model."""


class RefitError(BuildError):
    """The weights of a plan cannot be exchanged for those of the model: it has to be built."""


class UntrustedPlanError(ModelError):
    """Others could have written the plan, which can run code: it is not loaded."""


class PlanError(ModelError):
    """A TensorRT plan cannot be used here."""


class PlanMissingError(PlanError):
    """No plan was built yet for this model on this machine."""


class PlanMismatchError(PlanError):
    """The plan was built for another GPU, another TensorRT or another model."""


class InferenceError(Yolov7TrtError):
    """The engine failed, or its output holds no usable numbers."""


class DeviceMemoryError(InferenceError):
    """The GPU has too little free memory; the message says how much is missing."""


class DeviceLostError(InferenceError):
    """CUDA is lost to this process, as after an illegal access; only a new process can use it."""


class PowerError(Yolov7TrtError):
    """The board's power cannot be read or changed."""


class PowerFormatError(PowerError):
    """The text of a power tool or file cannot be understood."""


class PowerPermissionError(PowerError):
    """Root is needed for this; the message says how to grant it."""


class PowerRebootError(PowerError):
    """Only a reboot would set this power mode; nothing is ever rebooted."""


class PowerCommandError(PowerError):
    """A power tool is missing, hangs, refuses, or reports success without effect."""


class PowerTimeoutError(PowerCommandError):
    """A power tool took too long and was ended; whether it took effect is not known."""


class ReceiveError(Yolov7TrtError):
    """Messages cannot be taken through librcl directly; rclpy is used instead."""


class MissingDependencyError(Yolov7TrtError):
    """An optional package is needed for this and is not installed."""


_DISTRIBUTIONS = {'cv2': 'opencv-python', 'yaml': 'PyYAML', 'skimage': 'scikit-image'}
"""Of modules whose package has another name."""


NEEDS_NUMPY_1 = 'numpy.core.multiarray failed to import'
"""What a package says that was compiled for NumPy 1, with a later one."""


def missing_package(exc: ImportError, **needed: str) -> str:
    """
    Return a message about a package that cannot be imported, with the install command.

    `needed` maps the name of a module to its purpose: the words before `cannot be imported`.

    """
    module = (exc.name or '').partition('.')[0]
    if NEEDS_NUMPY_1 in str(exc):
        return (
            f'a package cannot be imported ({exc}): it was compiled for NumPy 1, as OpenCV and '
            "ROS of Ubuntu 22.04 are; replace the NumPy that is installed: pip install 'numpy<2'"
        )
    if not module:
        return f'a package cannot be imported: {exc}'
    what = needed.get(module, f'the package {module}')
    return (
        f'{what} cannot be imported ({exc}); install it with: pip install '
        + _DISTRIBUTIONS.get(module, module)
    )
