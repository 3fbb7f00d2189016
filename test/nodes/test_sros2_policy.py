"""The SROS2 policy names what the nodes open, no more and no less: asked of the running nodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
import xml.etree.ElementTree as ElementTree

import pytest
from rclpy._rclpy_pybind11 import NodeNameNonExistentError
from ros_probe import DetectorProcess, fresh_probe, Probe, start_node

POLICY = Path(__file__).resolve().parents[2] / 'config' / 'sros2_policy.xml'
# What a node opens only with use_sim_time, from Iron on, or while it configures.
OPTIONAL = {
    '/clock', '~/get_type_description',
    '~/_receive_check/image', '~/_receive_check/compressedimage',
}


@pytest.fixture(scope='module')
def probe(ros_domain: None) -> Iterator[Probe]:
    with fresh_probe() as probe:
        yield probe


def allowed(node: str, kind: str, action: str) -> set[str]:
    """Return the names that the policy allows a node."""
    profiles = ElementTree.parse(POLICY).getroot().findall('.//profile')
    profile = next(each for each in profiles if each.get('node') == node)
    return {
        str(each.text) for part in profile.findall(kind) if part.get(action) == 'ALLOW'
        for each in part
    }


def opened(probe: Probe, node: str, question: str) -> set[str]:
    """Return the names that a running node has opened, its own ones with ~."""
    ask: Any = getattr(probe.node, f'get_{question}_names_and_types_by_node')
    try:
        return {name.replace(f'/{node}/', '~/', 1) for name, _ in ask(node, '/')}
    except NodeNameNonExistentError:  # not discovered yet
        return set()


@pytest.fixture(scope='module')
def nodes(
    probe: Probe, detector: DetectorProcess, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """Run both nodes; the detector's own fixture starts it."""
    log = tmp_path_factory.mktemp('power') / 'log.txt'
    process = start_node('power_node', [
        '-p', 'emulate:=orin_nano_super', '-p', 'detections_topics:=/camera/detections',
    ], log)
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(600) == 0, log.read_text()


@pytest.mark.parametrize('node', ['detector', 'power_manager'])
@pytest.mark.parametrize(('kind', 'action', 'question'), [
    ('topics', 'publish', 'publisher'), ('topics', 'subscribe', 'subscriber'),
    ('services', 'reply', 'service'),
])
def test_the_policy_is_what_the_nodes_open(probe: Probe, nodes, node, kind, action, question):
    named = allowed(node, kind, action)
    assert named
    probe.wait_until(
        lambda: opened(probe, node, question) >= named - OPTIONAL, f'{node} to open {named}'
    )
    assert opened(probe, node, question) <= named


def test_only_the_operator_may_ask_for_services():
    root = ElementTree.parse(POLICY).getroot()
    assert root.tag == 'policy' and root.get('version') == '0.2.0'
    asking = {
        profile.get('node') for profile in root.findall('.//profile')
        if any(part.get('request') == 'ALLOW' for part in profile.findall('services'))
    }
    assert asking == {'operator'}
    services = allowed('operator', 'services', 'request')
    known = {
        name.replace('~', f'/{node}', 1) for node in ('detector', 'power_manager')
        for name in allowed(node, 'services', 'reply')
    }
    assert services <= known
