"""Which files a parameter may name while the node runs."""

from __future__ import annotations

from pathlib import Path

from onnx_models import brightness_grid
import pytest
from ros_probe import DetectorProcess, Probe

from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.nodes.detector_parameters.trusted_folders import TrustedFolders

EMBEDDED = {
    'model': 'yolov7-nano', 'class_names': 'auto', 'plan_cache': '', 'model_folders': '',
}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Return a folder that is trusted and one that is not, each with a model."""
    for name in ('good', 'bad'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'v7.onnx').touch()
    return tmp_path / 'good', tmp_path / 'bad'


def test_the_folder_of_the_model_at_start_is_trusted(folders) -> None:
    good, bad = folders
    trusted = TrustedFolders(EMBEDDED | {'model': f'{good}/v7.onnx'})
    trusted.check({'model': f'{good}/other.onnx'})
    trusted.check({'model': f'{good}/deeper/other.plan', 'class_names': f'{good}/names.txt'})
    with pytest.raises(SettingError, match=rf'only name files in {good}.*model_folders:={bad}'):
        trusted.check({'model': f'{bad}/v7.onnx'})


def test_names_of_embedded_models_and_other_parameters_are_no_files(folders) -> None:
    TrustedFolders(EMBEDDED).check({
        'model': 'yolov7-nano', 'class_names': 'coco80', 'plan_cache': '', 'classes': '/etc',
    })


@pytest.mark.parametrize('name', ['model', 'class_names', 'plan_cache'])
@pytest.mark.parametrize('value', [
    '{bad}/v7.onnx', '{good}/../bad/v7.onnx', '{good}/link/v7.onnx', 'relative.onnx', '/', '~root',
])
def test_ways_out_of_the_folders_are_refused(folders, name, value) -> None:
    good, bad = folders
    (good / 'link').symlink_to(bad)
    trusted = TrustedFolders(EMBEDDED | {'model_folders': str(good)})
    with pytest.raises(SettingError, match=f'{name} may only name files in'):
        trusted.check({name: value.format(good=good, bad=bad)})


def test_several_folders_and_a_plan_cache_at_start(folders) -> None:
    good, bad = folders
    trusted = TrustedFolders(EMBEDDED | {
        'model_folders': f'{good}, {bad}', 'plan_cache': f'{bad}/plans',
    })
    trusted.check({'model': f'{bad}/v7.onnx', 'plan_cache': f'{good}/plans'})


def test_what_is_opened_is_checked_again_and_reached_without_links_of_others(folders) -> None:
    good, bad = folders
    trusted = TrustedFolders(EMBEDDED | {'model_folders': str(good)})
    link = bad / 'link.onnx'
    link.symlink_to(good / 'v7.onnx')
    values = EMBEDDED | {'model': str(link)}
    assert trusted.files_to_open(values) == {'model': str(good / 'v7.onnx')}
    link.unlink()
    link.symlink_to(bad / 'v7.onnx')
    with pytest.raises(SettingError, match='model may only name files in'):
        trusted.files_to_open(values)


def test_a_link_inside_keeps_its_name_which_tells_what_the_file_is(folders) -> None:
    good, bad = folders
    (good / 'blobs').mkdir()
    (good / 'blobs' / 'c0ffee').touch()
    (good / 'v8.plan').symlink_to(good / 'blobs' / 'c0ffee')
    (bad / 'good').symlink_to(good)
    trusted = TrustedFolders(EMBEDDED | {'model_folders': str(good)})
    for value in (good / 'v8.plan', bad / 'good' / 'v8.plan'):
        assert trusted.files_to_open({'model': str(value)}) == {'model': str(good / 'v8.plan')}
    for value in (good, f'{good}/blobs/..'):
        assert trusted.files_to_open({'model': str(value)}) == {'model': str(good)}


def test_what_it_was_started_with_is_opened_as_it_was_given(folders) -> None:
    _, bad = folders
    start = EMBEDDED | {'model': str(bad / 'v7.onnx'), 'model_folders': '/opt'}
    assert TrustedFolders(start).files_to_open(start) == {}


@pytest.mark.parametrize('name', ['model', 'class_names', 'plan_cache'])
@pytest.mark.parametrize('value', ['\0', '~nosuchuser/model.onnx'])
def test_what_is_no_path_is_a_setting_error(folders, name, value) -> None:
    with pytest.raises(SettingError, match='NUL|home folder'):
        TrustedFolders(EMBEDDED).check({name: value})


def test_the_node_refuses_a_model_from_elsewhere(probe: Probe, log, tmp_path) -> None:
    (tmp_path / 'good').mkdir()
    good, bad = (brightness_grid(tmp_path / name) for name in ('good/v7.onnx', 'v7.onnx'))
    with DetectorProcess(log, model=str(good)):
        probe.wait_for_state('unconfigured')
        assert 'model may only name files in' in probe.set_parameter('model', str(bad))
        assert probe.set_parameter('model', 'yolov7-nano') == ''
        assert probe.set_parameter('model', str(good)) == ''
        assert 'read-only' in probe.set_parameter('model_folders', str(bad.parent))
        link = good.with_name('link.onnx')
        link.symlink_to(good)
        assert probe.set_parameter('model', str(link)) == ''
        link.unlink()
        link.symlink_to(bad)
        assert not probe.change_state('configure')
        assert 'model may only name files in' in log.read_text()
