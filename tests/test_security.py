"""What docs/security.md promises: no connections, no pickles, no way out of the output folder."""

import json
import subprocess
import sys

from tests.command_line import ENVIRONMENT, ROOT, command

# raises at a connection to another machine, and at a class that a pickle names
WATCHED = """
import json, runpy, sys
seen = []
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo") and not isinstance(arguments[-1], (str, bytes)):
        seen.append([event, repr(arguments)])
    if event == "pickle.find_class":
        seen.append([event, *arguments])
sys.addaudithook(hook)
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print("seen", json.dumps(seen), file=sys.stderr)
"""


def test_training_and_going_on_open_no_connection_and_unpickle_nothing(data_dir, tmp_path):
    words = command(data_dir, tmp_path, "model=mlp", "norm=bn")
    (tmp_path / "watched.py").write_text(WATCHED)
    words = [sys.executable, str(tmp_path / "watched.py"), *words[1:]]

    def train() -> str:
        done = subprocess.run(
            words, capture_output=True, text=True, env=ENVIRONMENT, cwd=ROOT, timeout=100, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    assert json.loads(train().rpartition("seen ")[2]) == []
    (record,) = tmp_path.rglob("result.json")
    record.unlink()  # now it goes on from its checkpoint
    assert json.loads(train().rpartition("seen ")[2]) == []
    assert "Restored all states" in (record.parent / "train.log").read_text()
