"""Origin: what made a record - code, versions, data and kind of device - and what of it has changed since."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

DATA_OF_SEED = "the data of seed "  # with which the name of data begins that one replica alone has


class Origin(NamedTuple):
    """What a cell's numbers depend on beside its configuration and its seeds.

    Args:
        code: The digest of each module that makes numbers, by its name (see `system.sources`); and of data that one
            replica alone has, by its seed.
        versions: The version of each package that makes numbers, by its name.
        data: The digest of the data set.
        device: The kind of device: cpu, cuda or mps.
    """

    code: dict[str, str]
    versions: dict[str, str]
    data: str
    device: str

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> "Origin":
        """The origin that a record holds; an empty one, which differs from every other, for an old record.

        Args:
            record: The entry `made_by` of a result.
        """
        return cls(record.get("code", {}), record.get("versions", {}), record.get("data", ""), record.get("device", ""))


UNKNOWN = Origin({}, {}, "", "")  # of a record that an old version wrote, or that is damaged


def is_mixed(origins: Iterable[Origin]) -> bool:
    """Whether several origins differ in a module or package that they share, in data or device, or one is unknown.

    >>> one = Origin({"slot": "a"}, {"torch": "2.15.0"}, "d", "cpu")
    >>> is_mixed([one, one._replace(code={"slot": "a", "rms": "b"})]), is_mixed([one, one._replace(code={"slot": "c"})])
    (False, True)
    """
    seen: dict[str, str] = {}
    parts = [{**each.code, **each.versions, "the data": each.data, "the device": each.device} for each in origins]
    differs = any(seen.setdefault(name, value) != value for part in parts for name, value in part.items())
    return differs or not all(each["the data"] for each in parts)


def changes(before: Origin, now: Origin) -> list[str]:
    """What differs between two origins, each as a clause.

    >>> one = Origin({"my.norm": "a"}, {"torch": "2.14.0"}, "d", "cpu")
    >>> changes(one, one._replace(code={"my.norm": "b"}, versions={"torch": "2.15.0"}))
    ['my.norm changed', 'torch was 2.14.0, is 2.15.0']
    """
    if not before.code:
        return ["the code that made them is not recorded"]
    names = sorted({*before.code, *now.code})
    both = before.code.keys() & now.code.keys()
    names = [name for name in names if name in both or not name.startswith(DATA_OF_SEED)]
    found = [f"{name} changed" for name in names if before.code.get(name) != now.code.get(name)]
    for name in sorted({*before.versions, *now.versions}):
        was, is_now = before.versions.get(name, "absent"), now.versions.get(name, "absent")
        found += [f"{name} was {was}, is {is_now}"] if was != is_now else []
    found += ["the data changed"] if before.data != now.data else []
    found += [f"the device was {before.device}, is {now.device}"] if before.device != now.device else []
    return found
