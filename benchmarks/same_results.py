"""Same results: python -m benchmarks.same_results A B compares two output folders cell for cell.

For a change that must leave every number alone: the same commands before and after it, each with a `paths.output_dir`
of its own. The exit status is 1 where anything differs but the paths, the timing and the versions.
"""

import json
import sys
from pathlib import Path

import numpy as np

RECORD = ("status", "cell", "config_hash", "seeds", "metrics", "diverged", "probes")


def differing(one: Path, other: Path) -> list[str]:
    """What differs between the folders of one cell: fields of `result.json`, `probes.npz`, `metrics.csv`."""
    first, second = (json.loads((folder / "result.json").read_text()) for folder in (one, other))
    found = [field for field in RECORD if first[field] != second[field]]
    with np.load(one / "probes.npz") as a, np.load(other / "probes.npz") as b:
        same = list(a) == list(b) and all(np.array_equal(a[k], b[k], equal_nan=a[k].dtype.kind == "f") for k in a)
    found += [] if same else ["probes.npz"]
    curves = [(folder / "metrics.csv").read_bytes() for folder in (one, other)]
    return found if curves[0] == curves[1] else [*found, "metrics.csv"]


def main(one: Path, other: Path) -> int:
    """Prints a line for each cell, and gives the exit status."""
    cells = [{path.parent.relative_to(top) for path in top.rglob("result.json")} for top in (one, other)]
    lines = [f"{cell}  in one folder alone" for cell in sorted(cells[0] ^ cells[1])]
    for cell in sorted(cells[0] & cells[1]):
        found = differing(one / cell, other / cell)
        lines += [f"{cell}  {', '.join(found)}"] if found else []
        print(cell, "differs" if found else "same")
    print(*lines or [f"all {len(cells[0])} cells are the same"], sep="\n")
    return int(bool(lines) or not cells[0])


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:3])))
