"""The documents hold together: links, command lines, names of parameters, numbers, layouts."""

from __future__ import annotations

import ast
from collections.abc import Iterator
import inspect
import json
import os
from pathlib import Path
import re
import shlex
import signal
import subprocess
import time
from typing import Any

import pytest

from yolov7_trt_ros import errors
from yolov7_trt_ros.cli.main import build_parser, VERBS

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / 'docs'
MODEL_CARD = REPOSITORY / 'yolov7_trt_ros' / 'models' / 'README.md'
MOST_WORDS = 35
DOCUMENTS = [
    REPOSITORY / 'README.md', REPOSITORY / 'CONTRIBUTING.md', *sorted(DOCS.rglob('*.md')),
]
RESULTS = REPOSITORY / 'benchmarks' / 'results'
LAUNCH = REPOSITORY / 'launch'
LAUNCH_PARTS = REPOSITORY / 'yolov7_trt_ros' / 'nodes' / 'process' / 'launch_parts.py'
PLAYER = REPOSITORY / 'yolov7_trt_ros' / 'nodes' / 'tools' / 'image_player_node.py'

_FENCE = re.compile(r'^```(\w*)\n(.*?)^```', re.MULTILINE | re.DOTALL)
_LINK = re.compile(r'\[[^\]]*\]\(([^)\s]+)\)')
_HEADING = re.compile(r'^#+\s+(.*?)\s*$', re.MULTILINE)
_CODE = re.compile(r'`(?:[^`\n]|\n(?!\s*\n))*`')
_COMMENT = re.compile(r'<!--.*?-->', re.DOTALL)
_LINK_TEXT = re.compile(r'!?\[((?:[^\]\n]|\n(?!\s*\n))*)\]\([^)]*\)')
_BLOCK_START = re.compile(r'^\s*(?:#+ |[-*] |\d+[.] |> )')
_SENTENCE_END = re.compile(r'(?<!\be[.]g)(?<!\bi[.]e)(?<!\bvs)[.!?][)"\'*_]*(?=\s)|\s·(?=\s)')
_ASSIGNED = re.compile(r'(?<![\w:])([a-z]\w*):=')
# What ROS 2 itself takes with :=, and topics that are remapped
_OF_ROS = {'use_sim_time', 'image_raw', 'detections', 'overlay'}


def name_of(path: Path) -> str:
    """Return a document's name in the report."""
    return path.relative_to(REPOSITORY).as_posix()


def prose(path: Path) -> str:
    """Return a document without its fenced blocks."""
    return _FENCE.sub('', path.read_text(encoding='utf-8'))


def anchors(path: Path) -> set[str]:
    """Return the anchors that a page of GitHub gives the headings of a document."""
    found: set[str] = set()
    for heading in _HEADING.findall(prose(path)):
        text = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', heading).lower()
        found.add(re.sub(r'[^\w\- ]', '', text).replace(' ', '-'))
    return found


def shell_commands(path: Path) -> Iterator[list[str]]:
    """Yield the words of each command in the `sh` blocks of a document."""
    for language, block in _FENCE.findall(path.read_text(encoding='utf-8')):
        if language != 'sh':
            continue
        for line in block.replace('\\\n', ' ').splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars='&|;')
            lexer.whitespace_split, lexer.commenters = True, '#'
            words: list[str] = []
            for word in lexer:
                if set(word) <= set('&|;'):
                    yield words
                    words = []
                else:
                    words.append(word)
            if words:
                yield words


def arguments_of_ours(words: list[str]) -> list[str] | None:
    """Return what follows `yolov7_trt` in a command that runs it, or None."""
    if words[:4] == ['ros2', 'run', 'yolov7_trt_ros', 'yolov7_trt']:
        return words[4:]
    if words[:1] == ['sudo']:
        words = words[1:]
    if words and Path(words[0]).name == 'yolov7_trt':
        return words[1:]
    return None


def commands_of_ours() -> list[Any]:
    """Return every command line of ours, with its document in the test's name."""
    found = []
    for document in DOCUMENTS:
        for words in shell_commands(document):
            arguments = arguments_of_ours(words)
            if arguments is not None:
                text = ' '.join(arguments)
                found.append(pytest.param(arguments, id=f'{name_of(document)}: {text}'))
    return found


def string_keys(path: Path) -> set[str]:
    """Return every text that is a key of a dict in a Python file."""
    tree = ast.parse(path.read_text(encoding='utf-8'))
    return {
        key.value
        for node in ast.walk(tree) if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }


def launch_arguments(file: str) -> set[str]:
    """Return the arguments that a launch file may declare."""
    return string_keys(LAUNCH / file) | string_keys(LAUNCH_PARTS)


def node_parameters(file: str) -> set[str]:
    """Return the parameters in a file of `config/`, which holds them all."""
    yaml = pytest.importorskip('yaml')
    content = yaml.safe_load((REPOSITORY / 'config' / file).read_text(encoding='utf-8'))
    return set(content['/**']['ros__parameters'])


def known_names() -> set[str]:
    """Return all that may stand before `:=`: parameters and launch arguments."""
    player = set(re.findall(r"'([a-z_]+)'", PLAYER.read_text(encoding='utf-8')))
    nodes = node_parameters('detector.yaml') | node_parameters('power.yaml') | {'autostart'}
    files = [launch_arguments(file.name) for file in LAUNCH.glob('*.launch.py')]
    return nodes.union(player, _OF_ROS, *files)


# ---- links


@pytest.mark.parametrize('document', DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(document: Path) -> None:
    broken = []
    for target in _LINK.findall(prose(document)):
        if target.startswith(('http://', 'https://')):
            continue
        file, _, anchor = target.partition('#')
        page = (document.parent / file).resolve() if file else document
        if not page.exists() or (anchor and anchor not in anchors(page)):
            broken.append(target)
    assert broken == []


def test_anchors_are_made_as_github_makes_them(tmp_path: Path) -> None:
    page = tmp_path / 'page.md'
    page.write_text('# CPU and `executor`\n\n```sh\n# none\n```\n\n## What (holds) [a](b)?\n')
    assert anchors(page) == {'cpu-and-executor', 'what-holds-a'}


def test_every_document_can_be_reached_from_the_readme() -> None:
    seen, todo = set(), [REPOSITORY / 'README.md']
    while todo:
        page = todo.pop()
        if page in seen or page.suffix != '.md' or not page.is_file():
            continue
        seen.add(page)
        targets = [target.partition('#')[0] for target in _LINK.findall(prose(page))]
        todo += [(page.parent / target).resolve() for target in targets if target]
    assert set(DOCUMENTS) - seen == set()


# ---- sentences


def same_lines(pattern: re.Pattern[str], replacement: str, text: str) -> str:
    """Return the text with every match replaced and its line breaks kept."""
    return pattern.sub(
        lambda match: match.expand(replacement) + '\n' * (
            match.group().count('\n') - match.expand(replacement).count('\n')
        ), text,
    )


def blocks(text: str) -> Iterator[tuple[int, str]]:
    """Yield paragraphs, list items, headings and table cells, each with its line number."""
    first, lines = 1, list[str]()
    for number, line in enumerate([*text.splitlines(), ''], start=1):
        table = line.startswith('|')
        if table or not line.strip() or _BLOCK_START.match(line):
            yield first, '\n'.join(lines)
            lines = []
        if table:
            yield from ((number, cell) for cell in line.replace(r'\|', '/').split('|'))
            continue
        if not lines:
            first = number
        lines.append(_BLOCK_START.sub('', line, count=1))
        if line.startswith('#'):
            yield first, lines.pop()
    yield first, '\n'.join(lines)


def sentences(text: str) -> Iterator[tuple[int, str]]:
    """
    Yield each sentence of a document and the number of the line where it begins.

    Only `.`, `!`, `?` and the dot between links end a sentence inside a block. Fenced blocks and
    comments are left out. Inline code is one word; a link is its text.

    """
    text = same_lines(_FENCE, '', text)
    text = same_lines(_COMMENT, '', text)
    text = same_lines(_CODE, 'CODE', text)
    text = same_lines(_LINK_TEXT, r'\1', text)
    for first, block in blocks(text):
        start = 0
        for end in [*(match.end() for match in _SENTENCE_END.finditer(block)), len(block)]:
            skipped = len(block[start:end]) - len(block[start:end].lstrip())
            if block[start:end].strip():
                line = first + block.count('\n', 0, start + skipped)
                yield line, ' '.join(block[start:end].split())
            start = end


def word_count(sentence: str) -> int:
    """Return the number of words; a dash or an arrow is none."""
    return sum(any(char.isalnum() for char in word) for word in sentence.split())


@pytest.mark.parametrize('document', [*DOCUMENTS, MODEL_CARD], ids=name_of)
def test_no_sentence_is_too_long(document: Path) -> None:
    long = [
        f'{name_of(document)}:{line}: {word_count(sentence)} words: {sentence}'
        for line, sentence in sentences(document.read_text(encoding='utf-8'))
        if word_count(sentence) > MOST_WORDS
    ]
    assert not long, '\n'.join([f'split these, {MOST_WORDS} words at most:', *long])


def test_sentences_are_split_where_a_reader_stops() -> None:
    page = (
        '# Heading\nOne `a. b\nc` two, e.g. 3.5 ms. [Link\ntext](x. y.md) ends! (Third?) '
        '**Fourth.**\nfifth\n- item - it\n  goes on\n1. other\n\n```sh\nno sentence\n```\n'
        '| cell. `x|y` | b \\| c |\n|---|---|\n<!-- none -->\n[a](b) · [c](d)\n'
    )
    assert list(sentences(page)) == [
        (1, 'Heading'), (2, 'One CODE two, e.g. 3.5 ms.'), (3, 'Link text ends!'), (4, '(Third?)'),
        (4, '**Fourth.**'), (5, 'fifth'), (6, 'item - it goes on'), (8, 'other'), (13, 'cell.'),
        (13, 'CODE'), (13, 'b / c'), (14, '---'), (14, '---'), (16, 'a ·'), (16, 'c'),
    ]
    assert word_count('a - `b` → c, 3.5 (d)') == 5


# ---- commands


@pytest.mark.parametrize('arguments', commands_of_ours())
def test_commands_are_such_as_the_program_takes(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        build_parser().parse_args(arguments)
    except SystemExit as exc:
        assert exc.code == 0, capsys.readouterr().err  # 0: -h and --version


def test_commands_are_found_in_all_their_spellings(tmp_path: Path) -> None:
    page = tmp_path / 'page.md'
    page.write_text(
        '```sh\nsudo yolov7_trt power permissions --install  # as root\n'
        'ros2 run yolov7_trt_ros yolov7_trt doctor && .venv/bin/yolov7_trt info \\\n    a.onnx\n'
        'pip install x\n```\n```text\nyolov7_trt: error: no command\n```\n'
    )
    found = [arguments_of_ours(words) for words in shell_commands(page)]
    assert found == [
        ['power', 'permissions', '--install'], ['doctor'], ['info', 'a.onnx'], None,
    ]


@pytest.mark.parametrize('document', DOCUMENTS, ids=name_of)
def test_verbs_in_the_text_exist(document: Path) -> None:
    named = set(re.findall(r'`yolov7_trt ([a-z]+)\b', prose(document)))
    assert named - set(VERBS) == set()


@pytest.mark.parametrize('document', DOCUMENTS, ids=name_of)
def test_launch_commands_have_arguments_that_are_declared(document: Path) -> None:
    unknown = []
    for words in shell_commands(document):
        if words[:3] != ['ros2', 'launch', 'yolov7_trt_ros']:
            continue
        names = {name for word in words[4:] for name in _ASSIGNED.findall(word)}
        unknown += sorted(names - launch_arguments(words[3]))
    assert unknown == []


@pytest.mark.parametrize('document', DOCUMENTS, ids=name_of)
def test_names_that_are_assigned_exist(document: Path) -> None:
    text = document.read_text(encoding='utf-8')
    named = set(_ASSIGNED.findall(text))
    assert named - known_names() == set()


@pytest.mark.parametrize('document', DOCUMENTS, ids=name_of)
def test_parameters_that_are_set_exist(document: Path) -> None:
    sets = re.compile(
        r'ros2 param (?:set|get|describe|delete) /(\w+) (?:topics\.\S+\.)?([a-z]\w*)'
    )
    files = {'detector': 'detector.yaml', 'power_manager': 'power.yaml'}
    unknown = [
        (node, name) for node, name in sets.findall(document.read_text(encoding='utf-8'))
        if name not in node_parameters(files[node])
    ]
    assert unknown == []


# ---- errors.md


def error_classes() -> set[str]:
    """Return the name of every class of errors.py but the base."""
    return {
        name for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.Yolov7TrtError)
    } - {'Yolov7TrtError'}


def test_errors_md_has_a_row_for_each_class() -> None:
    text = (DOCS / 'errors.md').read_text(encoding='utf-8')
    rows = re.findall(r'^\| `(\w+Error)` \|', text, re.MULTILINE)
    assert sorted(rows) == sorted(error_classes())


def test_errors_md_has_the_exit_status_of_each_verb() -> None:
    text = (DOCS / 'errors.md').read_text(encoding='utf-8')
    table = text.partition('## Exit status')[2].partition('\n## ')[0]
    firsts = re.findall(r'^\| (`.*?) \|', table, re.MULTILINE)
    assert {verb for first in firsts for verb in re.findall(r'`(\w+)`', first)} == set(VERBS)


# ---- numbers


def tuning_rows(file: str, shape: str) -> list[dict[str, Any]]:
    """Return the rows of one shape in a result file."""
    rows: list[dict[str, Any]] = json.loads((RESULTS / file).read_text())['rows']
    return [row for row in rows if row['shape'] == shape]


def tuning_table_row(section: str, network_size: int) -> str:
    """Return the line of a size in a section of tuning.md."""
    text = (DOCS / 'tuning.md').read_text(encoding='utf-8').partition(f'## {section}\n')[2]
    lines = text.partition('\n## ')[0].splitlines()
    (line,) = [each for each in lines if each.startswith((f'| {network_size} |',
                                                          f'| {network_size}:'))]
    return line


@pytest.mark.parametrize(('section', 'file', 'shape'), [
    ('Input size', 'tuning.json', 'rectangle'),
    ('Input size', 'tuning_tiny.json', 'rectangle'),
    ('Rectangle or square', 'tuning.json', 'rectangle'),
    ('Rectangle or square', 'tuning.json', 'square'),
])
def test_tuning_md_quotes_what_was_measured(section: str, file: str, shape: str) -> None:
    for row in tuning_rows(file, shape):
        line = tuning_table_row(section, row['network_size'])
        assert f'{row["cpu_ms_per_frame"] + 1e-9:.1f}' in line
        assert f'{row["ap50"] + 1e-9:.3f}' in line


def test_tuning_md_quotes_what_the_node_took() -> None:
    rows = json.loads((RESULTS / 'node_tuning.json').read_text())['rows']
    text = (DOCS / 'tuning.md').read_text(encoding='utf-8')
    for phase in {row['phase'] for row in rows}:
        first, second = [row['cpu_percent'] for row in rows if row['phase'] == phase]
        assert f'| {first}, {second} %' in text


def test_tuning_md_quotes_how_images_travel() -> None:
    rows = json.loads((RESULTS / 'transport_parts.json').read_text())['runs']
    text = (DOCS / 'tuning.md').read_text(encoding='utf-8')
    for row in rows:
        line = f'| {row["size"]} | {row["reliability"]} | {row["settings"]} | '
        line += f'{row["lost_percent"]} % | {row.get("cpu_ms_per_message", "-")} |'
        assert line in text


def test_every_advice_has_its_measurement_or_says_that_it_has_none() -> None:
    text = (DOCS / 'tuning.md').read_text(encoding='utf-8')
    for section in text.split('\n## ')[1:]:
        title = section.partition('\n')[0]
        told = '.json)' in section or 'measured*' in section
        assert told, f'tuning.md: {title} has neither a result nor "not measured"'


# ---- files that other programs read


def files_of(*patterns: str) -> list[Path]:
    """Return the files of the repository that match."""
    return sorted(path for pattern in patterns for path in REPOSITORY.glob(pattern))


@pytest.mark.parametrize(
    'path', files_of('config/*.json', 'benchmarks/results/*.json'), ids=name_of
)
def test_json_files_can_be_read(path: Path) -> None:
    assert json.loads(path.read_text(encoding='utf-8'))


@pytest.mark.parametrize('path', files_of('config/*.yaml', 'config/*.rviz'), ids=name_of)
def test_yaml_files_can_be_read(path: Path) -> None:
    yaml = pytest.importorskip('yaml')
    assert yaml.safe_load(path.read_text(encoding='utf-8'))


def test_rviz_shows_the_overlay_with_the_qos_it_is_published_with() -> None:
    yaml = pytest.importorskip('yaml')
    content = yaml.safe_load((REPOSITORY / 'config' / 'detector.rviz').read_text())
    displays = content['Visualization Manager']['Displays']
    topics = {each['Topic']['Value']: each for each in displays}
    assert topics['/camera/detections/overlay']['Enabled'] is True
    assert sum(each['Enabled'] for each in displays) == 1  # an overlay costs while it is looked at
    for each in displays:
        assert each['Class'] == 'rviz_default_plugins/Image'
        assert each['Topic']['Reliability Policy'] == 'Reliable'
        assert each['Topic']['Durability Policy'] == 'Volatile'
        assert each['Value'] == each['Enabled']


def layout_panels(node: Any) -> list[str]:
    """Return the panels at the leaves of a Foxglove layout."""
    if isinstance(node, str):
        return [node]
    assert node['direction'] in ('row', 'column')
    return layout_panels(node['first']) + layout_panels(node['second'])


def layout_topics(config: Any) -> Iterator[str]:
    """Yield every topic that the panels of a layout name."""
    for value in config.values():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                yield from layout_topics(item)
            elif isinstance(item, str) and item.startswith('/'):
                yield item


def test_foxglove_layout_is_whole_and_names_our_topics() -> None:
    content = json.loads((REPOSITORY / 'config' / 'foxglove_layout.json').read_text())
    panels = layout_panels(content['layout'])
    assert sorted(panels) == sorted(content['configById'])
    kinds = {panel.partition('!')[0] for panel in panels}
    assert kinds == {
        'Image', 'RawMessages', 'Plot', 'DiagnosticSummary', 'DiagnosticStatusPanel',
    }
    documented = (DOCS / 'power.md').read_text(encoding='utf-8')
    power = set(re.findall(r'`~/(\w+)`', documented))
    known = {'/diagnostics', '/camera/detections', '/camera/detections/overlay',
             '/detector: /camera/image_raw'}
    known |= {f'/power_manager/{name}.data' for name in power}
    assert set(layout_topics(content['configById'])) <= known
    assert '/power_manager/power_w.data' in set(layout_topics(content['configById']))


# ---- Dockerfile


def instructions(path: Path) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile with what follows them, comments left out."""
    lines = [
        line for line in path.read_text(encoding='utf-8').splitlines()
        if line.strip() and not line.startswith('#')
    ]
    whole = '\n'.join(lines).replace('\\\n', ' ').splitlines()
    return [(name, rest) for name, _, rest in (line.partition(' ') for line in whole)]


def test_the_dockerfile_says_that_it_was_not_run_and_starts_what_is_there() -> None:
    path = DOCS / 'docker' / 'Dockerfile.jetpack'
    assert 'NOT RUN HERE' in path.read_text(encoding='utf-8').splitlines()[0]
    found = instructions(path)
    assert {name for name, _ in found} <= {
        'ARG', 'FROM', 'ENV', 'SHELL', 'RUN', 'COPY', 'WORKDIR', 'ENTRYPOINT',
    }
    entry = ' '.join(json.loads(dict(found)['ENTRYPOINT']))
    started = re.search(r'exec /workspace/src/yolov7_trt_ros/(\S+)', entry)
    assert started and os.access(REPOSITORY / started.group(1), os.X_OK)
    file = re.search(r'LAUNCH_FILE=(\S+)', path.read_text(encoding='utf-8'))
    assert file and (LAUNCH / file.group(1)).is_file()
    defaults = {name: text for line, rest in found if line == 'ARG'
                for name, _, text in [rest.partition('=')]}
    assert set(re.findall(r'\$\{(\w+)\}', dict(found)['FROM'])) <= set(defaults)
    readme = (DOCS / 'docker' / 'README.md').read_text(encoding='utf-8')
    images = set(re.findall(r'nvcr[.]io/[^\s`]+', readme))
    assert defaults['BASE'] in images and len(images) == 2
    assert set(re.findall(r'--build-arg (\w+)=', readme)) <= set(defaults)


ROS2 = """#!/bin/bash
echo "$@" > started
trap 'echo INT > got; sleep 0.3; echo ended >> got; exit 7' INT
trap 'echo TERM > got; exit 1' TERM
touch ready
while true; do sleep 0.05; done
"""


@pytest.mark.parametrize('sent', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_container_ends_after_what_it_launched(tmp_path: Path, sent: signal.Signals) -> None:
    """A stand-in for `ros2 launch` takes a while to end on SIGINT, and would drop its nodes."""
    (tmp_path / 'ros2').write_text(ROS2)
    (tmp_path / 'ros2').chmod(0o755)
    process = subprocess.Popen(
        [DOCS / 'docker' / 'launch_and_wait.sh', 'detect.launch.py', 'image_topics:=/a b'],
        cwd=tmp_path, env=os.environ | {'PATH': f'{tmp_path}:{os.environ["PATH"]}'},
    )
    deadline = time.monotonic() + 600
    while not (tmp_path / 'ready').exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(sent)
    assert process.wait(600) == 7
    assert (tmp_path / 'got').read_text().split() == ['INT', 'ended']
    started = (tmp_path / 'started').read_text().strip()
    assert started == 'launch yolov7_trt_ros detect.launch.py image_topics:=/a b'


def test_the_container_ends_with_what_it_launched(tmp_path: Path) -> None:
    (tmp_path / 'ros2').write_text('#!/bin/bash\nexit 3\n')
    (tmp_path / 'ros2').chmod(0o755)
    done = subprocess.run(
        [DOCS / 'docker' / 'launch_and_wait.sh', 'x'], timeout=600, check=False,
        env=os.environ | {'PATH': f'{tmp_path}:{os.environ["PATH"]}'},
    )
    assert done.returncode == 3


def test_the_names_that_these_tests_know_are_no_more_than_there_are() -> None:
    assert launch_arguments('detect.launch.py') >= {'model', 'namespace', 'autostart', 'name'}
    assert 'no_such_argument' not in known_names()
