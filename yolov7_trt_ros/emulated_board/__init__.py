"""An emulated Jetson: a root folder with its files, and the power tools as real executables."""

from yolov7_trt_ros.emulated_board.board import EmulatedBoard, create_board
from yolov7_trt_ros.emulated_board.boards import BOARDS, BoardDefinition

__all__ = ['BOARDS', 'BoardDefinition', 'EmulatedBoard', 'create_board']
