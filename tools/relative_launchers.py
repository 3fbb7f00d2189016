#!/usr/bin/env python3
"""
Let the scripts that pip wrote find their Python where a shell would misread its path.

pip starts the scripts of an environment with `#!/path/bin/python`, or, where the path has blanks
or is long, with two lines of sh that have it in double quotes. A quote, a dollar, a backquote or a
backslash in the name of a folder ends or changes what stands there, and sh would even run parts of
it. Such lines are exchanged for some that look beside the script. Run it with the environment's
own Python; nothing outside its `bin` is looked at.

"""

from __future__ import annotations

from pathlib import Path
import re
import sys

_MISREAD = re.compile(rb'["$`\\]')
_BY_SH = re.compile(rb"#!/bin/sh\n'''exec' \"(?P<python>[^\n]*)\" \"\$0\" \"\$@\"\n' '''\n")
_BESIDE = b"""#!/bin/sh\n'''exec' "$(dirname -- "$0")/python" "$0" "$@"\n' '''\n"""


def mend(script: Path) -> bool:
    """Exchange the first lines of a script where they are those of pip, and misread."""
    data = script.read_bytes()
    found = _BY_SH.match(data)
    if found is None or not _MISREAD.search(found['python']):
        return False
    script.write_bytes(_BESIDE + data[found.end():])
    return True


def main() -> int:
    """Mend all scripts beside the Python that runs this; return the exit status."""
    for path in sorted((Path(sys.prefix) / 'bin').iterdir()):
        if path.is_file() and not path.is_symlink():
            mend(path)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
