import gzip
import hashlib
import http.server
import os
import pickle
import random
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from mnist1d.data import get_dataset_args, make_dataset
from scipy.io import savemat
from scipy.stats import chisquare, kstest
from torchvision import datasets

from bn_experiments.data import sources

IDX_FILES = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]


def pixels(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def refusal_of(load, *arguments):
    """The one line with which a source refuses."""
    with pytest.raises(ValueError, match="allowed: ") as caught:
        load(*arguments)
    (line,) = str(caught.value).splitlines()
    return line


@pytest.fixture
def no_network(monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setattr(socket.socket, "connect", unreachable)


# MNIST-1D


@pytest.fixture(scope="module")
def published():
    """What the mnist1d package makes."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    made = make_dataset(get_dataset_args())
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    return made


@pytest.fixture(scope="module")
def cached_mnist1d(tmp_path_factory, published):
    """A folder that the source has written, spared the seconds of making the signals again."""
    root = tmp_path_factory.mktemp("mnist1d")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sources, "_make_mnist1d", lambda seed: {key: published[key] for key in ("x", "y", "x_test", "y_test")}
        )
        sources.mnist1d(str(root))
    sources.mnist1d.cache_clear()
    return root


def assert_is_published(source, published):
    for x, y, part in ((source.train_x, source.train_y, ""), (source.test_x, source.test_y, "_test")):
        assert x.dtype == torch.float32
        assert y.dtype == torch.int64
        np.testing.assert_array_equal(x.numpy(), published["x" + part][:, None].astype(np.float32))
        np.testing.assert_array_equal(y.numpy(), published["y" + part])
    assert source.train_x.shape == (4000, 1, 40)
    assert source.test_x.shape == (1000, 1, 40)


def test_mnist1d_needs_no_folder_and_leaves_the_global_generators_as_they_were(tmp_path, published):
    (tmp_path / "file").touch()  # below a file, no folder can be made
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    drawn = random.random(), np.random.rand()  # noqa: NPY002
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    source = sources.mnist1d(str(tmp_path / "file" / "data"))
    assert (random.random(), np.random.rand()) == drawn  # noqa: NPY002
    assert_is_published(source, published)


def test_mnist1d_is_made_once_and_then_read_from_its_folder(cached_mnist1d, published, monkeypatch):
    monkeypatch.delattr(sources, "_make_mnist1d")
    assert_is_published(sources.mnist1d(str(cached_mnist1d)), published)


def test_mnist1d_is_read_without_writing_to_its_folder(cached_mnist1d, published, monkeypatch):
    sources.mnist1d.cache_clear()
    monkeypatch.delattr(sources, "write_whole")
    before = sorted(cached_mnist1d.rglob("*"))
    assert_is_published(sources.mnist1d(str(cached_mnist1d)), published)
    assert sorted(cached_mnist1d.rglob("*")) == before
    assert [path.name for path in before] == ["mnist1d", "mnist1d.npz"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"not an archive",
        lambda content: content[: len(content) // 2],
        lambda content: content[:20_000] + bytes([content[20_000] ^ 1]) + content[20_001:],
    ],
    ids=["empty", "something else", "cut short", "one bit flipped"],
)
def test_a_damaged_cache_of_mnist1d_is_refused_in_one_line_that_names_it(cached_mnist1d, tmp_path, damage):
    root = shutil.copytree(cached_mnist1d, tmp_path / "copy")
    file = root / "mnist1d" / "mnist1d.npz"
    file.write_bytes(damage(file.read_bytes()))
    assert f"{file} is damaged" in refusal_of(sources.mnist1d, str(root))


# MNIST and Fashion-MNIST


@pytest.fixture
def real_mnist():
    raw = Path(os.environ.get("BN_DATA_DIR", "data")) / "MNIST" / "raw"
    if not all((raw / name).exists() for name in IDX_FILES):
        pytest.skip("MNIST is not at hand; set BN_DATA_DIR to a folder with MNIST/raw")
    return raw


def link(raw, root):
    """A folder with the same files under other names."""
    (root / "MNIST" / "raw").mkdir(parents=True)
    for name in IDX_FILES:
        (root / "MNIST" / "raw" / name).symlink_to((raw / name).resolve())
    return root / "MNIST" / "raw"


def test_mnist_equals_torchvisions(real_mnist, tmp_path):
    link(real_mnist, tmp_path)
    source = sources.mnist(str(tmp_path))
    for x, y, train in ((source.train_x, source.train_y, True), (source.test_x, source.test_y, False)):
        expected = datasets.MNIST(real_mnist.parents[1], train=train)
        assert torch.equal(x, expected.data[:, None])
        assert torch.equal(y, expected.targets)
        assert x.dtype == torch.uint8
    assert len(source.classes) == 10


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_mnist_with_one_flipped_byte_is_refused_with_the_files_name(real_mnist, tmp_path, name):
    file = link(real_mnist, tmp_path) / name
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.unlink()
    file.write_bytes(content)
    line = refusal_of(sources.mnist, str(tmp_path))
    assert f"data=mnist: {file} is damaged" in line
    assert sources.MNIST_MD5[name] in line


def write_idx(file, array):
    """An idx file: two zero bytes, type 8 (uint8), the number of axes, each one's size, the values."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    file.write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes())


def write_fashion_mnist(root, folder="FashionMNIST/raw", train=6, test=4):
    """Synthetic files in a folder of their own below root, the folder and the arrays."""
    own = root / folder
    own.mkdir(parents=True)
    arrays = [pixels(0, train, 28, 28), pixels(1, train) % 10, pixels(2, test, 28, 28), pixels(3, test) % 10]
    for name, array in zip(IDX_FILES, arrays, strict=True):
        write_idx(own / name, array)
    return own, arrays


def publish(folder, monkeypatch):
    """Lets the digests of the files' content be the published ones."""
    md5 = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in IDX_FILES}
    monkeypatch.setattr(sources, "FASHION_MNIST_MD5", md5)


def compress(folder, seconds):
    """Puts archives in the place of the files; gzip writes the time into each."""
    for name in IDX_FILES:
        content = (folder / name).read_bytes()
        (folder / f"{name}.gz").write_bytes(gzip.compress(content, mtime=seconds))
        (folder / name).unlink()


def assert_holds(source, arrays):
    for found, expected in zip(source[:4], arrays, strict=True):
        np.testing.assert_array_equal(found.squeeze(1).numpy() if found.dim() == 4 else found.numpy(), expected)
    assert source.train_x.shape == (6, 1, 28, 28)
    assert source.train_x.dtype == torch.uint8
    assert source.train_y.dtype == torch.int64
    assert source.classes == tuple(datasets.FashionMNIST.classes)


def test_fashion_mnist_equals_what_its_idx_files_hold(tmp_path, monkeypatch, no_network):
    folder, arrays = write_fashion_mnist(tmp_path)
    publish(folder, monkeypatch)
    assert_holds(sources.fashion_mnist(str(tmp_path)), arrays)


@pytest.mark.parametrize("layout", ["FashionMNIST/raw", "fashion-mnist"])  # torchvision's, and that of Debian's package
@pytest.mark.parametrize("seconds", [0, 1_591_347_949])
def test_archives_with_the_right_content_are_taken_whenever_and_wherever_they_were_made(
    tmp_path, monkeypatch, no_network, layout, seconds
):
    folder, arrays = write_fashion_mnist(tmp_path, layout)
    publish(folder, monkeypatch)
    compress(folder, seconds)
    before = sorted(tmp_path.rglob("*"))
    assert_holds(sources.fashion_mnist(str(tmp_path)), arrays)
    assert sorted(tmp_path.rglob("*")) == before, "a folder of the system is left as it is"


@pytest.mark.parametrize("layout", ["FashionMNIST/raw", "fashion-mnist"])
def test_an_archive_with_another_content_is_refused_with_its_name(tmp_path, monkeypatch, no_network, layout):
    folder, _ = write_fashion_mnist(tmp_path, layout)
    publish(folder, monkeypatch)
    content = bytearray((folder / IDX_FILES[2]).read_bytes())
    content[-1] ^= 1
    (folder / IDX_FILES[2]).write_bytes(content)
    compress(folder, 0)
    line = refusal_of(sources.fashion_mnist, str(tmp_path))
    assert line.startswith(f"data=fashion_mnist: {folder / IDX_FILES[2]}.gz is damaged (the MD5 of its content is not ")
    assert sources.FASHION_MNIST_MD5[IDX_FILES[2]] in line


@pytest.mark.parametrize("cut", [0, 1, 30, 400])
def test_an_archive_that_is_cut_short_is_refused_with_its_name(tmp_path, monkeypatch, no_network, cut):
    folder, _ = write_fashion_mnist(tmp_path, "fashion-mnist")
    publish(folder, monkeypatch)
    compress(folder, 0)
    file = folder / f"{IDX_FILES[0]}.gz"
    file.write_bytes(file.read_bytes()[:cut])
    assert f"{file} is damaged" in refusal_of(sources.fashion_mnist, str(tmp_path))


def test_fashion_mnist_of_other_images_of_the_right_size_is_refused(tmp_path, no_network):
    folder, _ = write_fashion_mnist(tmp_path, train=60_000, test=10_000)
    line = refusal_of(sources.fashion_mnist, str(tmp_path))
    assert (
        f"{folder / IDX_FILES[0]} is damaged (the MD5 of its content is not f4a8712d7a061bf5bd6d2ca38dc4d50a)" in line
    )


@pytest.mark.parametrize(
    "content", [b"", b"\0\0\x08\x03", b"<html>not found</html>"], ids=["empty", "cut short", "something else"]
)
def test_a_damaged_idx_file_is_refused_in_one_line_that_names_it(tmp_path, content):
    folder, _ = write_fashion_mnist(tmp_path)
    (folder / IDX_FILES[0]).write_bytes(content)
    assert f"data=fashion_mnist: {folder / IDX_FILES[0]} is damaged" in refusal_of(sources.fashion_mnist, str(tmp_path))


DEBIAN = Path("/usr/share/datasets")


@pytest.mark.skipif(not (DEBIAN / "fashion-mnist").exists(), reason="needs Debian's package dataset-fashion-mnist")
def test_fashion_mnist_of_debians_package_is_taken(no_network):
    source = sources.fashion_mnist(str(DEBIAN))
    assert source.train_y.bincount().tolist() == [6000] * 10
    assert source.test_y.bincount().tolist() == [1000] * 10


# CIFAR-10


@pytest.fixture
def small_cifar10(tmp_path, monkeypatch):
    """Twelve images in CIFAR-10's own format, with their digests in the place of the real ones."""
    folder = tmp_path / datasets.CIFAR10.base_folder
    folder.mkdir()
    names = [name for name, _ in datasets.CIFAR10.train_list + datasets.CIFAR10.test_list]
    rows, labels = pixels(0, len(names), 2, 3 * 32 * 32), pixels(1, len(names), 2) % 3
    contents = {name: {"data": rows[i], "labels": labels[i].tolist()} for i, name in enumerate(names)} | {
        "batches.meta": {"label_names": ["frog", "ship", "cat"]}
    }
    digests = {}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
        digests[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [[name, digests[name]] for name in names[:-1]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [[names[-1], digests[names[-1]]]])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {**datasets.CIFAR10.meta, "md5": digests["batches.meta"]})
    return folder, rows, labels


def test_cifar10_is_read_channel_by_channel_and_in_the_order_of_its_files(small_cifar10):
    folder, rows, labels = small_cifar10
    source = sources.cifar10(str(folder.parent))
    np.testing.assert_array_equal(source.train_x.flatten(1).numpy(), rows[:-1].reshape(10, -1))
    np.testing.assert_array_equal(source.test_x.flatten(1).numpy(), rows[-1])
    np.testing.assert_array_equal(source.train_y.numpy(), labels[:-1].flatten())
    np.testing.assert_array_equal(source.test_y.numpy(), labels[-1])
    assert source.train_x.shape == (10, 3, 32, 32)
    assert source.train_x.dtype == torch.uint8
    assert source.train_y.dtype == torch.int64
    assert source.classes == ("frog", "ship", "cat")


def test_cifar10_with_one_flipped_byte_is_not_trained_on(small_cifar10, no_network):
    folder, *_ = small_cifar10
    content = bytearray((folder / "data_batch_3").read_bytes())
    content[200] ^= 1
    (folder / "data_batch_3").write_bytes(content)
    assert str(folder.parent) in refusal_of(sources.cifar10, str(folder.parent))


# CIFAR-100


def test_cifar100_is_read_with_its_fine_labels(tmp_path, monkeypatch):
    folder = tmp_path / datasets.CIFAR100.base_folder
    folder.mkdir()
    rows, labels = pixels(0, 2, 3, 3 * 32 * 32), pixels(1, 2, 3) % 100
    parts = {
        name: {"data": rows[i], "fine_labels": labels[i].tolist(), "coarse_labels": [0] * 3}
        for i, name in enumerate(("train", "test"))
    }
    names = [f"class {i}" for i in range(100)]
    digests = {}
    for name, content in {**parts, "meta": {"fine_label_names": names, "coarse_label_names": []}}.items():
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
        digests[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    monkeypatch.setattr(datasets.CIFAR100, "train_list", [["train", digests["train"]]])
    monkeypatch.setattr(datasets.CIFAR100, "test_list", [["test", digests["test"]]])
    monkeypatch.setattr(datasets.CIFAR100, "meta", {**datasets.CIFAR100.meta, "md5": digests["meta"]})
    source = sources.cifar100(str(tmp_path))
    for x, y, part in ((source.train_x, source.train_y, 0), (source.test_x, source.test_y, 1)):
        np.testing.assert_array_equal(x.numpy(), rows[part].reshape(3, 3, 32, 32))
        np.testing.assert_array_equal(y.numpy(), labels[part])
    assert source.classes == tuple(names)


# SVHN


@pytest.fixture
def small_svhn(tmp_path, monkeypatch):
    """A few images in SVHN's own format, with their digests in the place of the real ones."""
    held, split_list = {}, dict(datasets.SVHN.split_list)
    for seed, (part, count) in enumerate((("train", 12), ("test", 5))):
        x, y = pixels(seed, 32, 32, 3, count), (np.arange(count) % 10 + 1).astype(np.uint8)[:, None]  # 10 stands for 0
        file = tmp_path / f"{part}_32x32.mat"
        savemat(file, {"X": x, "y": y})
        split_list[part] = [*split_list[part][:2], hashlib.md5(file.read_bytes()).hexdigest()]
        held[part] = x, y[:, 0]
    monkeypatch.setattr(datasets.SVHN, "split_list", split_list)
    return tmp_path, held


def test_svhn_is_read_with_zero_in_the_place_of_ten(small_svhn, no_network):
    root, held = small_svhn
    source = sources.svhn(str(root))
    for x, y, part in ((source.train_x, source.train_y, "train"), (source.test_x, source.test_y, "test")):
        raw_x, raw_y = held[part]
        for i in range(len(y)):
            np.testing.assert_array_equal(x[i].numpy(), raw_x[..., i].transpose(2, 0, 1))
            assert y[i] == raw_y[i] % 10
        assert x.dtype == torch.uint8
        assert y.dtype == torch.int64
        assert x.is_contiguous()
    assert source.classes == tuple("0123456789")


def test_svhn_with_one_flipped_byte_is_not_trained_on(small_svhn, no_network):
    root, _ = small_svhn
    content = bytearray((root / "test_32x32.mat").read_bytes())
    content[-1] ^= 1
    (root / "test_32x32.mat").write_bytes(content)
    assert refusal_of(sources.svhn, str(root)).startswith("data=svhn: ")
    assert not list(root.glob(".svhn*")), "neither a lock nor half a download"


# Noise


def test_gaussian_noise_has_the_moments_of_its_distribution_and_uniform_labels():
    source = sources.gaussian([2, 5, 5], 4, 4000, 2000, 0)
    for x, y in ((source.train_x, source.train_y), (source.test_x, source.test_y)):
        assert x.shape[1:] == (2, 5, 5)
        count = x.numel()
        assert kstest(x.flatten().numpy(), "norm").pvalue > 1e-4
        assert abs(x.mean()) < 4.5 / count**0.5
        assert chisquare(y.bincount().numpy()).pvalue > 1e-4
        assert len(y.bincount()) == 4
    assert source.classes == ("0", "1", "2", "3")


def test_gaussian_noise_is_drawn_by_its_seed_and_differs_between_training_and_test_set():
    one, again, other = (sources.gaussian([1, 8], 3, 50, 50, seed) for seed in (0, 0, 1))
    assert one is again, "the check of a data set is done once"
    assert not torch.equal(one.train_x, one.test_x)
    assert not torch.equal(one.train_x, other.train_x)
    longer = sources.gaussian([1, 8], 3, 60, 50, 0)
    assert torch.equal(longer.test_x, one.test_x)
    assert torch.equal(longer.test_y, one.test_y)


# Data that are not there

DOWNLOADED = ["mnist", "fashion_mnist", "cifar10", "cifar100", "svhn"]


@pytest.mark.parametrize("name", DOWNLOADED)
def test_missing_data_without_a_network_are_refused_with_the_folder_and_a_way_out(name, tmp_path, no_network):
    line = refusal_of(getattr(sources, name), str(tmp_path))
    assert line.startswith(f"data={name}: not in {tmp_path}")
    assert "no network in this test" in line
    assert "data=mnist1d" in line
    assert not list(tmp_path.rglob("*.lock"))
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("name", DOWNLOADED)
def test_missing_data_whose_folder_cannot_be_made_are_refused_in_the_same_way(name, tmp_path, no_network):
    (tmp_path / "file").touch()
    line = refusal_of(getattr(sources, name), str(tmp_path / "file" / "data"))
    assert line.startswith(f"data={name}: not in {tmp_path}")


FETCHING = """
import sys
from torchvision.datasets import FashionMNIST
from bn_experiments.data import sources
FashionMNIST.mirrors = [sys.argv[1]]
FashionMNIST.resources = [(name, digest) for name, digest in zip(sys.argv[3::3], sys.argv[4::3])]
contents = dict(zip(sys.argv[3::3], sys.argv[5::3]))
sources.FASHION_MNIST_MD5 = {name: contents[f"{name}.gz"] for name in sources.MNIST_MD5}
source = sources.fashion_mnist(sys.argv[2])
print(source.train_x.sum().item(), source.test_y.sum().item())
"""


@pytest.fixture
def served(tmp_path_factory):
    """A server of a data set's four compressed files, slow enough to be interrupted; what it was asked for."""
    asked, folder = [], tmp_path_factory.mktemp("served")
    random = np.random.default_rng(0)
    for part, count in (("train", 60_000), ("t10k", 10_000)):
        for kind, shape in (("images-idx3", (count, 28, 28)), ("labels-idx1", (count,))):
            header = struct.pack(f">{1 + len(shape)}I", 0x800 + len(shape), *shape)
            body = random.integers(0, 10, shape[0], dtype=np.uint8)
            body = body if len(shape) == 1 else np.repeat(body, 28 * 28)
            (folder / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(header + body.tobytes(), 1))

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            content = (folder / self.path.strip("/")).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            for start in range(0, len(content), len(content) // 4):
                time.sleep(0.2)
                self.wfile.write(content[start : start + len(content) // 4])

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        digests = [
            word
            for file in sorted(folder.iterdir())
            for archive in [file.read_bytes()]
            for word in (file.name, *(hashlib.md5(each).hexdigest() for each in (archive, gzip.decompress(archive))))
        ]
        yield [f"http://127.0.0.1:{server.server_port}/", digests], asked
        server.shutdown()


def fetching(served, root):
    (url, digests), _ = served
    return subprocess.Popen(
        [sys.executable, "-c", FETCHING, url, str(root), *digests],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_processes_that_fetch_the_data_at_once_fetch_each_file_once(served, tmp_path):
    ends = [process.communicate(timeout=100) for process in [fetching(served, tmp_path) for _ in range(3)]]
    assert len({out for out, _ in ends}) == 1
    assert ends[0][0], ends[0][1]
    assert sorted(Counter(served[1]).values()) == [2] * 4, "torchvision asks where a file is, then for the file"
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.slow
def test_a_download_that_was_killed_leaves_nothing_half_and_the_next_mends_it(served, tmp_path):
    process = fetching(served, tmp_path)
    while len(served[1]) < 4:  # the second file is on its way
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert not (tmp_path / "FashionMNIST").exists()
    out, err = fetching(served, tmp_path).communicate(timeout=100)
    assert out, err
    assert len(list((tmp_path / "FashionMNIST" / "raw").glob("*-ubyte"))) == 4
