"""What a JPEG or PNG file says of itself, without decoding it: its size, and whether it ends."""

from __future__ import annotations

from yolov7_trt_ros.errors import ImageError

_PNG_MAGIC = b'\x89PNG\r\n\x1a\n'
_JPEG_MAGIC = b'\xff\xd8'
_STAND_ALONE = {0x01, *range(0xD0, 0xD9)}
_JPEG_END = b'\xff\xd9'
_JPEG_TAIL_BYTES = 4096  # cameras pad after the end mark
_NOT_A_FRAME = {0xC4, 0xC8, 0xCC}


def read_size(data: memoryview) -> tuple[int, int]:
    """
    Return width and height that a JPEG or PNG header states.

    Parameters
    ----------
    data
        The compressed bytes.

    Raises
    ------
    ImageError
        Neither JPEG nor PNG, or the header is cut off.

    """
    head = bytes(data[:24])
    if head.startswith(_PNG_MAGIC):
        if len(head) < 24:
            raise ImageError(f'truncated PNG: {len(data)} bytes')
        return int.from_bytes(head[16:20], 'big'), int.from_bytes(head[20:24], 'big')
    if head.startswith(_JPEG_MAGIC):
        return _jpeg_size(data)
    start = head[:8].hex(' ') or 'nothing'
    raise ImageError(f'compressed image is neither JPEG nor PNG: it starts with {start}')


def check_complete(data: memoryview) -> None:
    """
    Raise ImageError for a JPEG or PNG that is cut off, before a decoder sees it.

    Of a JPEG without its end OpenCV 4 fills the rest with grey and says nothing. For a PNG chunk
    whose length is damaged OpenCV 5 clears gigabytes of memory, which takes seconds.

    """
    if bytes(data[:8]) == _PNG_MAGIC:
        _check_png_chunks(data)
    elif bytes(data[:2]) == _JPEG_MAGIC and _JPEG_END not in bytes(data[-_JPEG_TAIL_BYTES:]):
        raise ImageError(f'truncated JPEG: no end mark within {len(data)} bytes')


def _check_png_chunks(data: memoryview) -> None:
    """Walk the chunks (length, type, content, checksum) up to the last one, IEND."""
    at = 8
    while at + 12 <= len(data):
        if bytes(data[at + 4:at + 8]) == b'IEND':
            return
        at += 12 + int.from_bytes(data[at:at + 4], 'big')
    raise ImageError(f'truncated or damaged PNG: no end chunk within {len(data)} bytes')


def _jpeg_size(data: memoryview) -> tuple[int, int]:
    """Walk the segments up to the start-of-frame one."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            break
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _STAND_ALONE:
            at += 2
        else:
            if 0xC0 <= marker <= 0xCF and marker not in _NOT_A_FRAME:
                frame = bytes(data[at + 5:at + 9])
                if len(frame) < 4:
                    break
                return int.from_bytes(frame[2:], 'big'), int.from_bytes(frame[:2], 'big')
            at += 2 + int.from_bytes(bytes(data[at + 2:at + 4]), 'big')
    raise ImageError(f'truncated or damaged JPEG: no frame header within {len(data)} bytes')
