from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from bn_experiments.data.image_folder import image_folder
from bn_experiments.data.splits import Splitting
from tests.data.test_sources import pixels, refusal_of

AS_THEY_ARE = {
    "val_split": "tail",
    "val_fraction": 0.1,
    "split_seed": 0,
    "test_examples": None,
    "normalization": "none",
    "mean": 0,
    "std": 1,
}


def save(array, *parts, **options):
    file = Path(*parts)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(file, **options)
    return file


def small_folder(root, *, height=5, width=4):
    """Two classes in train and test, an image each."""
    for i, part in enumerate(("train", "test")):
        for j, name in enumerate(("cat", "dog")):
            save(pixels(2 * i + j, height, width, 3), root, part, name, "0.png")
    return root


def test_images_keep_their_pixels_and_get_the_labels_of_their_sorted_folders(tmp_path):
    arrays = {(part, name, i): pixels(i, 5, 4, 3) for part in ("train", "test") for i, name in enumerate("zam")}
    for (part, name, i), array in arrays.items():
        save(array, tmp_path, part, name, f"{i}.png")
    source = image_folder(str(tmp_path), None)
    assert source.classes == ("a", "m", "z")
    expected = np.stack([pixels(i, 5, 4, 3) for i in (1, 2, 0)]).transpose(0, 3, 1, 2)
    for x, y in ((source.train_x, source.train_y), (source.test_x, source.test_y)):
        np.testing.assert_array_equal(x[y.argsort()].numpy(), expected)
        assert sorted(y.tolist()) == [0, 1, 2]
    assert source.train_x.dtype == torch.uint8


def has(x, image):
    """Whether an image (3, H, W) is among others."""
    return any(np.array_equal(each.numpy(), image) for each in x)


def test_the_first_images_are_a_sample_of_all_classes_and_the_same_in_every_process(tmp_path):
    small_folder(tmp_path)
    for name in ("cat", "dog"):
        for i in range(1, 50):
            save(np.full((5, 4, 3), i, dtype=np.uint8), tmp_path, "train", name, f"{i:03}.png")
    first = image_folder(str(tmp_path), None)
    image_folder.cache_clear()
    assert torch.equal(first.train_x, image_folder(str(tmp_path), None).train_x)
    kept = Splitting(train_examples=40, **AS_THEY_ARE).split(first).train
    assert 20 - 10 < kept.y.sum() < 20 + 10, "of the first 40 files all are cats"


def test_test_images_are_not_in_the_order_of_their_classes_and_always_in_the_same(tmp_path):
    small_folder(tmp_path)
    for name in ("cat", "dog"):
        for i in range(1, 50):
            save(np.full((5, 4, 3), i, dtype=np.uint8), tmp_path, "test", name, f"{i:03}.png")
    first = image_folder(str(tmp_path), None)
    image_folder.cache_clear()
    again = image_folder(str(tmp_path), None)
    assert torch.equal(first.test_x, again.test_x)
    # of a random half, dogs number 25 with a standard deviation of 3.5 sqrt(1 / 2)
    assert 25 - 10 < first.test_y[:50].sum() < 25 + 10


def test_jpeg_and_grey_images_are_read_as_pillow_reads_them_in_rgb(tmp_path):
    small_folder(tmp_path)
    grey = pixels(7, 5, 4)
    save(grey, tmp_path, "train", "cat", "1.png")
    jpeg = save(pixels(8, 5, 4, 3), tmp_path, "train", "cat", "2.jpg", quality=60)
    x = image_folder(str(tmp_path), None).train_x
    assert has(x, np.stack([grey] * 3))
    with Image.open(jpeg) as image:
        assert has(x, np.asarray(image).transpose(2, 0, 1))


def test_the_middle_is_cut_out_of_an_image_whose_shorter_side_is_image_size(tmp_path):
    small_folder(tmp_path, height=4, width=8)
    x = image_folder(str(tmp_path), 4).train_x
    assert has(x, pixels(0, 4, 8, 3)[:, 2:6].transpose(2, 0, 1))


def test_images_of_several_sizes_are_resized_as_torchvisions_transforms_do(tmp_path):
    small_folder(tmp_path, height=12, width=9)
    files = [tmp_path / "train" / "cat" / "0.png", save(pixels(9, 7, 15, 3), tmp_path, "train", "cat", "1.png")]
    transform = transforms.Compose([transforms.Resize(6), transforms.CenterCrop(6), transforms.PILToTensor()])
    x = image_folder(str(tmp_path), 6).train_x
    for file in files:
        with Image.open(file) as image:
            assert has(x, transform(image).numpy())


def test_a_folder_of_images_that_is_not_there_is_refused(tmp_path):
    line = refusal_of(image_folder, str(tmp_path / "nowhere"), None)
    assert line.startswith(f"data.root={tmp_path / 'nowhere'}: no images in {tmp_path / 'nowhere' / 'train'}")


def test_a_folder_without_classes_and_a_class_without_images_are_refused(tmp_path):
    for part in ("train", "test"):
        (tmp_path / "a" / part).mkdir(parents=True)
    assert "no images" in refusal_of(image_folder, str(tmp_path / "a"), None)
    small_folder(tmp_path / "b")
    (tmp_path / "b" / "test" / "dog" / "0.png").unlink()
    assert str(tmp_path / "b" / "test") in refusal_of(image_folder, str(tmp_path / "b"), None)


def test_classes_that_only_one_part_has_are_refused_by_name(tmp_path):
    small_folder(tmp_path)
    save(pixels(0, 5, 4, 3), tmp_path, "test", "bird", "0.png")
    assert "(bird)" in refusal_of(image_folder, str(tmp_path), None)


def test_a_damaged_image_is_refused_by_name(tmp_path):
    file = small_folder(tmp_path) / "test" / "dog" / "0.png"
    file.write_bytes(file.read_bytes()[:60])
    assert f"{file} is damaged" in refusal_of(image_folder, str(tmp_path), None)


def test_images_of_several_sizes_are_refused_where_no_image_size_is_set(tmp_path):
    small_folder(tmp_path)
    file = save(pixels(0, 6, 7, 3), tmp_path, "train", "dog", "1.png")
    line = refusal_of(image_folder, str(tmp_path), None)
    assert f"{file} is 7x6" in line
    assert "data.image_size" in line
