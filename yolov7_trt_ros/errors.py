"""
Every exception this package raises on purpose, in one tree.

    Yolov7TrtError
    ├── InputError                 something handed in from outside cannot be used
    │   ├── ImageError             an image message or file: size, step, encoding, truncated data
    │   ├── BagError               a bag that is missing, corrupt or half written
    │   └── SettingError           a parameter or command line value out of its range
    ├── ModelError                 the model cannot be used as a YOLOv7 detector
    │   ├── ModelNotFoundError     no such file and no such embedded model
    │   ├── ModelFormatError       the file is not a readable model
    │   └── ModelLayoutError       inputs or outputs are not those of a YOLOv7 export, or ambiguous
    ├── InferenceError             the engine failed or returned unusable numbers for one frame
    └── MissingDependencyError     an optional package is needed and not installed

Each message says what was expected, what was found and what to do. The node counts an `InputError`
or `InferenceError` against the frame and lives on; a `ModelError` fails the lifecycle transition.

"""

from __future__ import annotations


class Yolov7TrtError(Exception):
    """Base of all errors of this package; catching it catches nothing else."""


class InputError(Yolov7TrtError):
    """Something handed in from outside cannot be used."""


class ImageError(InputError):
    """An image message, buffer or file cannot be read as an image."""


class BagError(InputError):
    """A bag is missing, corrupt or half written."""


class SettingError(InputError):
    """A parameter or command line value is out of its range."""


class ModelError(Yolov7TrtError):
    """The model cannot be used as a YOLOv7 detector."""


class ModelNotFoundError(ModelError):
    """Neither a file nor the name of an embedded model."""


class ModelFormatError(ModelError):
    """The file exists but is not a readable model."""


class ModelLayoutError(ModelError):
    """Inputs or outputs are not those of a YOLOv7 export, or fit more than one layout."""


class InferenceError(Yolov7TrtError):
    """The engine failed, or its output holds no usable numbers."""


class MissingDependencyError(Yolov7TrtError):
    """An optional package is needed for this and is not installed."""
