"""Explain files that are no YOLOv7 checkpoint, with one line of advice each."""

from __future__ import annotations

from collections.abc import Collection, Iterable
import re

_OWN_PROGRAM = 'only heads of YOLOv7 are decoded here: use the program that it is from'
_EXPORT_THERE = (
    'its head is not that of YOLOv7 and is not decoded here: run it with its own program'
)

# By the package that a pickled class is from.
_PACKAGES = {
    'ultralytics': f'a checkpoint of Ultralytics (YOLOv8 or later, or YOLOv5u): {_EXPORT_THERE}',
    'yolov5': 'a checkpoint of YOLOv5, exported with its own export.py --include onnx: that ONNX '
              'file is taken',
    'yolov6': f'a checkpoint of YOLOv6: {_EXPORT_THERE}',
    'yolox': f'a checkpoint of YOLOX: {_EXPORT_THERE}',
    'damo': f'a checkpoint of DAMO-YOLO: {_EXPORT_THERE}',
    'super_gradients': f'a checkpoint of SuperGradients (YOLO-NAS): {_EXPORT_THERE}',
    'mmengine': f'a checkpoint of OpenMMLab (MMDetection, MMYOLO): {_OWN_PROGRAM}',
    'mmdet': f'a checkpoint of OpenMMLab (MMDetection): {_OWN_PROGRAM}',
    'mmcv': f'a checkpoint of OpenMMLab: {_OWN_PROGRAM}',
    'detectron2': f'a checkpoint of Detectron2: {_OWN_PROGRAM}',
    'transformers': f'a checkpoint of Transformers: {_OWN_PROGRAM}',
    'torchvision': f'a model of torchvision: {_OWN_PROGRAM}',
    'timm': f'a model of timm: {_OWN_PROGRAM}',
    'sklearn': 'a pickle of scikit-learn, not a checkpoint of a detector',
    'pandas': 'a pickle of pandas, not a checkpoint of a detector',
    'keras': 'a pickle of Keras, not a checkpoint of YOLOv7',
    'tensorflow': 'a pickle of TensorFlow, not a checkpoint of YOLOv7',
}

# By names of weights in a plain state_dict; the first that fits.
_WEIGHT_NAMES = (
    (r'(^|\.)dfl\.conv', f'of YOLOv8 or later, or of YOLOv9 (their head has a dfl): '
                         f'{_EXPORT_THERE}'),
    (r'^backbone\.backbone\.', f'of YOLOX: {_EXPORT_THERE}'),
    (r'^(module\.)?module_list\.', f'of YOLOR or Scaled-YOLOv4: {_OWN_PROGRAM}'),
    (r'^(backbone\.ERBlock|detect\.stems)', f'of YOLOv6: {_EXPORT_THERE}'),
    (r'^backbone\.stage|^bbox_head\.', f'of OpenMMLab: {_OWN_PROGRAM}'),
    (r'^backbone\.(body|0\.body)\.|^roi_heads\.', f'of a detector of torchvision: {_OWN_PROGRAM}'),
    (r'^(transformer|encoder|decoder)\.', f'of a transformer: {_OWN_PROGRAM}'),
    (r'^(fc|classifier)\.(\d+\.)?weight$', 'of a classifier, which finds no boxes'),
    (r'^model\.\d+\.m\.\d+\.cv[12]\.', 'of YOLOv5 or another network with blocks of its own; '
                                       'export it with its own export.py: an ONNX file of YOLOv5 '
                                       'is taken'),
)

# By kinds of layers of a pickled models.yolo model.
_LAYERS = (
    ({'RepNCSPELAN4', 'SPPELAN', 'ADown', 'CBLinear', 'DDetect', 'DualDDetect', 'TripleDDetect',
      'ELAN1'},
     f'YOLOv9: {_EXPORT_THERE}'),
    ({'C3', 'SPPF', 'Focus', 'C3TR', 'BottleneckCSP', 'SPP'},
     'YOLOv5 or its kin; export it with its own export.py --include onnx: that ONNX file is '
     'taken'),
    ({'C2f', 'C3k2', 'A2C2f'}, f'YOLOv8 or later: {_EXPORT_THERE}'),
)

# By the first bytes of a file: where they stand, what they are, what it is.
_FIRST_BYTES = (
    (0, b'version https://git-lfs', 'a Git LFS pointer, not the file: fetch it with git lfs pull'),
    (0, b'\x89HDF\r\n', 'an HDF5 file (Keras), not a checkpoint of PyTorch'),
    (0, b'\x1f\x8b', 'compressed with gzip: unpack it first'),
    (0, b'\x28\xb5\x2f\xfd', 'compressed with zstd: unpack it first'),
    (0, b'\xfd7zXZ', 'compressed with xz: unpack it first'),
    (0, b'7z\xbc\xaf', 'a 7-Zip archive: unpack it first'),
    (0, b'Rar!', 'a RAR archive: unpack it first'),
    (257, b'ustar', 'a tar archive: unpack it first (PyTorch before 0.2 wrote such files as well: '
                    'load and save it again with a later one)'),
    (0, b'ptrt', 'a TensorRT plan, not a checkpoint: give it to detect or bench as it is'),
    (0, b'ftrt', 'a TensorRT plan, not a checkpoint: give it to detect or bench as it is'),
    (0, b'\x93NUMPY', 'an array of NumPy, not a checkpoint'),
    (0, b'GGUF', 'a GGUF file, not a checkpoint of PyTorch'),
    (4, b'TFL3', 'a TensorFlow Lite model, not a checkpoint of PyTorch'),
)
_WEB_PAGE = re.compile(rb'\s*<(!doctype|html|\?xml)', re.IGNORECASE)
_SAFETENSORS = re.compile(rb'.{8}\{\s*"', re.DOTALL)
_ONNX = re.compile(rb'\x08[\x03-\x20](\x12.|:|\x42|\x72)', re.DOTALL)


def describe_file(head: bytes) -> str | None:
    """Return the kind of a file that is neither archive nor pickle, by its first kilobyte."""
    if not head:
        return 'empty'
    for place, mark, what in _FIRST_BYTES:
        if head[place:].startswith(mark):
            return what
    if _WEB_PAGE.match(head):
        return 'a web page or XML, not a checkpoint: the download failed; fetch it again'
    if _SAFETENSORS.match(head):
        return (
            'a safetensors file, which is not read here: save its weights with '
            'torch.save(safetensors.torch.load_file(...))'
        )
    if _ONNX.match(head):
        return 'an ONNX model, not a checkpoint: call it .onnx'
    return None


def describe_archive(names: Collection[str]) -> str:
    """Return the kind of a zip archive not written by torch.save, by its members."""
    inner = [name for name in names if name.endswith(('.pt', '.pth', '.onnx'))]
    if inner:
        return f'a zip archive that holds {inner[0][:100]}: unpack it first'
    if names and all(name.endswith('.npy') for name in names):
        return 'arrays of NumPy (.npz), not a checkpoint'
    return 'a zip archive, but not one that torch.save wrote: no data.pkl'


def describe_foreign_name(path: str) -> str:
    """Return the reason for refusing a checkpoint that names `path` (module and name)."""
    package = path.partition('.')[0]
    if package in _PACKAGES:
        return f'{_PACKAGES[package]} (it names {path[:100]})'
    if package == 'torch':
        return (
            f'the checkpoint names {path[:100]}, which is not read: it may be compiled, quantised '
            'or sparse, or hold code. Save its plain state_dict with the program that it is from'
        )
    return (
        f'the checkpoint names {path[:100]}, which is no part of a YOLOv7 model: it may hold '
        'code, and is not read. Save its state_dict with the program that it is from'
    )


def describe_weights(names: Iterable[str]) -> str | None:
    """Return the origin of the weights of a state_dict by their names; None if unknown."""
    listed = list(names)
    for pattern, what in _WEIGHT_NAMES:
        if any(re.search(pattern, name) for name in listed):
            return f'the weights are {what}'
    return None


def describe_layers(kinds: Collection[str]) -> str | None:
    """Return the origin of a pickled model by the kinds of its layers; None if unknown."""
    for known, what in _LAYERS:
        if known & set(kinds):
            return f'the model is of {what}'
    return None
