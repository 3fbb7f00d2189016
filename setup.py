"""
Packaging of yolov7_trt_ros, for pip and for colcon (ament_python).

colcon builds through this file, so pyproject.toml holds tool settings only. The version is that
of package.xml; a test compares the two.

"""

from glob import glob

from setuptools import find_packages, setup

package_name = 'yolov7_trt_ros'

setup(
    name=package_name,
    version='0.1.0',
    description='YOLOv7 object detection for ROS 2, on a GPU through TensorRT or on a CPU',
    license='Apache-2.0',
    maintainer='yolov7_trt_ros maintainers',
    maintainer_email='maintainers@yolov7-trt-ros.dev',
    python_requires='>=3.10',
    # An explicit list of packages would leave out the sub-packages without a word.
    packages=find_packages(include=[package_name, f'{package_name}.*']),
    package_data={
        package_name: [
            'py.typed', 'models/*.onnx', 'models/*.md',
            'engine/device/kernels/*.cu', 'engine/device/kernels/*.cuh',
        ],
    },
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{package_name}']),
        (f'share/{package_name}', ['package.xml']),
        (f'share/{package_name}/launch', sorted(glob('launch/*.launch.*'))),
        (f'share/{package_name}/config', sorted(glob('config/*'))),
        # `ros2 run` and launch files look for executables here. pip puts console_scripts into bin/
        # and does not read setup.cfg, so the nodes are small scripts of their own: one way for
        # pip and colcon alike.
        (f'lib/{package_name}', [
            'scripts/detector_node', 'scripts/image_player_node', 'scripts/power_node',
        ]),
    ],
    entry_points={'console_scripts': ['yolov7_trt = yolov7_trt_ros.cli.main:main']},
    # ROS packages are not listed: colcon and rosdep take them from package.xml, pip from
    # requirements/ros-*.txt.
    install_requires=[
        'numpy>=1.21',
        # The same cv2 as in opencv-python, without the GUI libraries that a bare machine lacks.
        'opencv-python-headless>=4.5',
        # The embedded detector runs on the CPU with it, and without any GPU software.
        'onnxruntime>=1.16',
    ],
    extras_require={
        # For the GPU. TensorRT itself comes with JetPack, or with pip install tensorrt.
        'gpu': ['cuda-bindings>=12', 'nvidia-ml-py>=12', 'onnx>=1.14', 'pycuda>=2022.1'],
        'tools': [
            'argcomplete>=2', 'onnx>=1.14', 'pycocotools>=2.0.7', 'rich>=13', 'rosbags>=0.11.7',
        ],
        # many recordings at once: --workers and --dask
        'fleet': ['distributed>=2024.8'],
        'demo': ['matplotlib>=3.7', 'rich>=13', 'rosbags>=0.11.7', 'scikit-image>=0.21'],
        # export, pruning and the PyTorch row of the benchmark; quantising needs `tools` alone
        'torch': ['onnx>=1.14', 'torch>=2.1', 'torch-pruning>=1.5'],
        'test': ['hypothesis>=6.168', 'pytest>=8.3,<8.4', 'pytest-timeout>=2.3'],
    },
    zip_safe=False,
)
