"""What docs/security.md promises: no connections, no pickles, no way out of the output folder."""

import json
import subprocess
import sys

from tests.command_line import ENVIRONMENT, ROOT, command

# trains, removes the record, and goes on from the checkpoint; it tells of each connection to another machine, and of
# each class that a pickle names
WATCHED = """
import json, runpy, sys
from pathlib import Path
seen = []
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo") and not isinstance(arguments[-1], (str, bytes)):
        seen.append([event, repr(arguments)])
    if event == "pickle.find_class":
        seen.append([event, *arguments])
sys.addaudithook(hook)
_, output, *sys.argv = sys.argv
for _ in range(2):
    for record in Path(output).rglob("result.json"):
        record.unlink()
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as ended:
        assert not ended.code, ended.code
print("seen", json.dumps(seen), file=sys.stderr)
"""


def test_training_and_going_on_open_no_connection_and_unpickle_nothing(data_dir, tmp_path):
    output, watched = tmp_path / "output", tmp_path / "watched.py"
    watched.write_text(WATCHED)
    _, *words = command(data_dir, output, "model=mlp", "norm=bn")
    done = subprocess.run(
        [sys.executable, str(watched), str(output), *words],
        capture_output=True, text=True, env=ENVIRONMENT, cwd=ROOT, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stderr.rpartition("seen ")[2]) == []
    (record,) = output.rglob("result.json")
    assert "Restored all states" in (record.parent / "train.log").read_text()
