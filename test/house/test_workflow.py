"""The workflow for GitHub, which nobody has run there, does what this repository has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import re
from typing import Any

import pytest
from ruamel.yaml import YAML  # rosbags brings it

REPOSITORY = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((REPOSITORY / '.github' / 'workflows').glob('*.y*ml'))
PYTHON_OF = {'test': '3.11', 'test-jazzy': '3.12'}
"""By target of make: what the wheels of that ROS 2 distribution are for."""


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.name)
def workflow(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ='safe').load(request.param)
    return found


def steps(workflow: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for job in workflow['jobs'].values():
        yield from job['steps']


def targets_of(job: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what a job has make do, with the Python it has, for each of its variants."""
    variants = job.get('strategy', {}).get('matrix', {}).get('include', [{}])
    found = []
    for variant in variants:
        def filled(text: str, values: dict[str, str] = variant) -> str:
            names = re.findall(r'\$\{\{ matrix\.(\w+) \}\}', text)
            assert set(names) <= set(values)
            return re.sub(r'\$\{\{ matrix\.(\w+) \}\}', lambda each: values[each[1]], text)

        versions = [filled(str(step['with']['python-version'])) for step in job['steps']
                    if 'setup-python' in step.get('uses', '')]
        assert len(versions) == 1
        lines = ' '.join(filled(step.get('run', '')) for step in job['steps'])
        found += [(target, versions[0]) for target in re.findall(r'\bmake ([\w-]+)', lines)]
    return found


def test_there_is_one() -> None:
    assert WORKFLOWS


def test_jobs_end_and_may_read_only(workflow: dict[str, Any]) -> None:
    assert workflow['permissions'] == {'contents': 'read'}
    for job in workflow['jobs'].values():
        assert 0 < job['timeout-minutes'] <= 60
        assert re.fullmatch(r'ubuntu-\d\d\.\d\d', job['runs-on'])


def test_each_step_is_an_action_of_a_version_or_a_command(workflow: dict[str, Any]) -> None:
    for step in steps(workflow):
        assert ('uses' in step) != ('run' in step)
        if 'uses' in step:
            assert re.fullmatch(r'actions/[\w-]+@v\d+', step['uses'])


def test_make_has_the_targets_and_python_is_the_right_one(workflow: dict[str, Any]) -> None:
    makefile = (REPOSITORY / 'Makefile').read_text(encoding='utf-8')
    known = set(re.findall(r'^([a-z][\w-]*):', makefile, re.MULTILINE))
    asked = [pair for job in workflow['jobs'].values() for pair in targets_of(job)]
    assert {target for target, _ in asked} == {'check', 'test', 'test-jazzy'} <= known
    for target, version in asked:
        assert version == PYTHON_OF.get(target, version)


def test_the_files_it_names_are_there(workflow: dict[str, Any]) -> None:
    named = {word for step in steps(workflow) for word in step.get('run', '').split()
             if word.startswith(('docs/', 'test/', 'requirements/'))}
    assert named and all((REPOSITORY / word).is_file() for word in named)
