"""The tiny models of onnx_models.py as a fixture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from onnx_models import brightness_grid, classifier, ends_in_plugin, two_inputs
import pytest

BuildModel = Callable[..., Path]


@pytest.fixture
def build(tmp_path: Path) -> BuildModel:
    """Build one of the models of onnx_models.py by its function's name and return its path."""
    makers = {maker.__name__: maker
              for maker in (brightness_grid, ends_in_plugin, classifier, two_inputs)}

    def build_model(kind: str, **options: Any) -> Path:
        return makers[kind](tmp_path / f'{kind}.onnx', **options)

    return build_model
