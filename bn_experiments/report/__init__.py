"""The report: one self-contained page of what a sweep, or a folder of sweeps, found."""

from pathlib import Path

FILE = "report.html"


def write_page(folder: Path, images: bool = False) -> Path:
    """Writes `report.html` into a sweep's folder, or a folder of sweeps, from their results; nothing is trained.

    The claims are judged anew, by each sweep's own `experiment.json`, and its `verdicts.json` is written again.

    Args:
        folder: The folder, such as outputs/sigmoid_mlp, or outputs.
        images: Whether the figures are also written as images for TensorBoard; the folder is then that of a sweep.

    Returns:
        The path of the page.

    Raises:
        Refusal: There is no finished cell.
    """
    from bn_experiments.report.contents import collect  # matplotlib and pandas take a second
    from bn_experiments.report.page import html
    from bn_experiments.system.files import write_whole

    page, sweeps = folder / FILE, collect(folder)
    if not images:
        write_whole(page, html(sweeps))
        return page
    from bn_experiments.report.images import Images  # TensorBoard takes a moment

    shown = Images(folder, [section for sweep in sweeps for section in sweep.sections])
    write_whole(page, html(sweeps, shown.draw))
    shown.write()
    return page
