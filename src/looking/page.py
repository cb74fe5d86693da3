"""look.html: what was seen of a data set, on one page that needs no network."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from augmentations import AUGMENTATIONS
from competition.mask_source import MaskSource
from competition.spec import Competition
from core.errors import UserError
from core.files import writing
from data.specs import DataSpec
from imaging.drawings import TRUTH, draw_contours, draw_planes, paint_classes, to_rgb
from imaging.images import read_image
from looking.findings import FINDINGS, Finding
from looking.lines import Line
from looking.scan import BINS, Pair
from looking.seen import Seen
from looking.shift import Shift
from reporting.blocks import Card, Cell, Figure, Gallery, Section, Table, render_page
from reporting.cases import encode_pictures
from reporting.charts import Series, draw_chart, fit_axis

SHOWN, SUSPECTS, VIEWS = 12, 24, 8
SIDE = 420
ROWS = 200


def write_look_page(
    path: Path,
    name: str,
    seen: Seen,
    sections: Mapping[str, Mapping[str, Line]],
    findings: Sequence[Finding],
    shift: Shift,
    painter: "Painter",
) -> Path:
    """Writes the page; returns its path."""
    chapters = [
        _findings_section(findings),
        _gallery("samples", "Samples", painter.samples(seen), "Masks as they will be trained on."),
        _gallery("views", "Augmented", painter.augmented(seen), "One image as training sees it."),
        _gallery(
            "policies", "Augmentations", painter.policies(seen), "What --augmentation may be."
        ),
        _gallery(
            "suspects", "Suspects", painter.suspects(seen, findings), "What to look at first."
        ),
        _shift_section(shift),
        _recipe_section(sections),
    ]
    tiles = [
        ("training images", str(len(seen.train)), ""),
        ("test images", str(len(seen.test)), ""),
        ("findings", str(len(findings)), "files to look at"),
        ("task", seen.task, f"{seen.classes} classes" if seen.classes > 1 else ""),
    ]
    page = render_page(
        [chapter for chapter in chapters if chapter],
        kicker="A look before training",
        title=name,
        subtitle=f"training images {seen.layout.train.files.told()}",
        tiles=tiles,
        footer="Made by src/look.py.",
    )
    with writing(path) as part:
        part.write_text(page, encoding="utf-8")
    return path


class Painter:
    """Draws images with their masks; what cannot be read is left out.

    Args:
        competition: whose images and masks they are.
        spec: how an image is read, and of which task.
        augmentation: the row of AUGMENTATIONS that is shown.
        mix: rows of MIXES, likewise.
        seed: of what it draws.
    """

    def __init__(
        self,
        competition: Competition,
        spec: DataSpec,
        *,
        augmentation: str,
        mix: tuple[str, ...] = (),
        seed: int,
    ):
        from competition.masks import build_masks

        self.masks: MaskSource | None = None
        self.root, self.task, self.spec = competition.input, spec.task, spec
        self.augmentation, self.mix, self.seed = augmentation, mix, seed
        with contextlib.suppress(UserError):
            self.masks = build_masks(competition)

    def read(self, pair: Pair) -> tuple[np.ndarray, np.ndarray | None] | None:
        """Image uint8 or uint16 (H, W, C) and its mask, None where it has none."""
        try:
            image = read_image(self.root / pair.picture.path, **self.spec.pixels)
        except UserError:
            return None
        if pair.mask is None or self.masks is None or pair.mask.problem:
            return image, None
        return image, self.masks.read(pair.row, (image.shape[0], image.shape[1]))

    def draw(self, image: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """RGB uint8 with contours, or classes in colours, no side longer than SIDE."""
        zoom = min(1.0, SIDE / max(image.shape[:2]))
        size = (max(1, round(image.shape[1] * zoom)), max(1, round(image.shape[0] * zoom)))
        small = cv2.resize(to_rgb(image), size, interpolation=cv2.INTER_AREA)
        if mask is None:
            return small
        planes = mask if mask.ndim == 3 else mask[None]
        fitted = [cv2.resize(p, size, interpolation=cv2.INTER_NEAREST_EXACT) for p in planes]
        if self.task == "multiclass":
            return paint_classes(small, fitted[0])
        if self.task == "multilabel":
            return draw_planes(small, np.stack(fitted))
        return draw_contours(small, np.stack(fitted), TRUTH)

    def samples(self, seen: Seen) -> list[tuple[np.ndarray, str, str]]:
        """(picture, name, words) of images evenly picked."""
        chosen = [p for p in seen.train if not p.picture.problem]
        chosen = chosen[:: -(-len(chosen) // SHOWN) or 1]
        found = []
        for pair in chosen:
            if read := self.read(pair):
                share = pair.mask.share if pair.mask else 0
                found.append((self.draw(*read), f"{share:.1%}", pair.picture.path))
        return found

    def augmented(self, seen: Seen) -> list[tuple[np.ndarray, str, str]]:
        """(picture, name, words) of one image as the augmentation and mixes show it."""
        return self._views(seen, [(self.augmentation, str(at + 1)) for at in range(VIEWS)])

    def policies(self, seen: Seen) -> list[tuple[np.ndarray, str, str]]:
        """(picture, name, words) of the same image as each row of AUGMENTATIONS shows it."""
        return self._views(seen, [(name, name) for name in AUGMENTATIONS])

    def _views(
        self, seen: Seen, wanted: Sequence[tuple[str, str]]
    ) -> list[tuple[np.ndarray, str, str]]:
        """A picture for each (row of AUGMENTATIONS, name) of an image full of objects."""
        from dataset import SegmentationDataset

        full = sorted(
            seen.masked, key=lambda p: (0.02 < p.mask.share < 0.9, p.mask.parts), reverse=True
        )
        if not full or self.masks is None:
            return []
        rows = [pair.row for pair in full[:VIEWS]]  # mixes take from the others
        found = []
        for at, (augment, name) in enumerate(wanted):
            data = SegmentationDataset(
                rows,
                self.root,
                spec=self.spec,
                masks=self.masks,
                augment=augment,
                mixes=self.mix,
                seed=self.seed,
            )
            sample = data[(0, at)]
            image = sample["image"].permute(1, 2, 0).numpy()
            found.append((self.draw(image, sample["mask"].numpy()), name, rows[0]["img"]))
        return found

    def suspects(
        self, seen: Seen, findings: Sequence[Finding]
    ) -> list[tuple[np.ndarray, str, str]]:
        """(picture, kind, words) of what was found, where there is something to see."""
        by_path = {p.picture.path: p for p in (*seen.train, *seen.test)}
        by_path |= {p.mask.path: p for p in seen.train if p.mask and p.mask.path}
        found: list[tuple[np.ndarray, str, str]] = []
        for finding in findings:
            pair = by_path.get(finding.file)
            if pair and len(found) < SUSPECTS and (read := self.read(pair)):
                words = f"{finding.file} {finding.text}"
                found.append((self.draw(*read), FINDINGS[finding.kind][0], words))
        return found


def _gallery(
    key: str, title: str, pictures: Sequence[tuple[np.ndarray, str, str]], lead: str
) -> Section | None:
    if not pictures:
        return None
    sources = encode_pictures([picture for picture, _, _ in pictures], budget=2_000_000)
    cards = [
        Card(source, alt=words, caption=words, score=name, size=(p.shape[1], p.shape[0]))
        for source, (p, name, words) in zip(sources, pictures, strict=True)
    ]
    return Section(key, title, [Gallery("", cards)], lead=[lead])


def _findings_section(findings: Sequence[Finding]) -> Section:
    if not findings:
        return Section("findings", "Findings", lead=["Nothing wrong was found."])
    tables = []
    for kind, (title, _) in FINDINGS.items():
        rows = [one for one in findings if one.kind == kind]
        cells = [[Cell(one.file), Cell(one.text, text=True)] for one in rows[:ROWS]]
        if rows:
            caption = f"{title}: {len(rows)}"
            tables.append(Table(caption, ["file", "what"], cells, closed=len(rows) > 10))
    return Section("findings", "Findings", tables, figures={"count": len(findings)})


def _shift_section(shift: Shift) -> Section | None:
    if shift.histograms is None:
        return None
    centres = (np.arange(BINS) + 0.5) / BINS
    train, test = shift.histograms.mean(1)
    series = [
        Series(name, list(zip(centres.tolist(), values.tolist(), strict=True)), colour)
        for colour, (name, values) in enumerate((("training", train), ("test", test)))
    ]
    chart = draw_chart(
        series,
        x=fit_axis("value", [0, 1]),
        y=fit_axis("share of pixels", [0, *train, *test], percent=True),
        alt="Values of training and test images",
    )
    figure = Figure("Values", chart, [(0, "training"), (1, "test")])
    return Section("shift", "Training against test", [figure], lead=[shift.verdict()])


def _recipe_section(sections: Mapping[str, Mapping[str, Line]]) -> Section:
    tables = []
    for heading, lines in sections.items():
        rows = [
            [Cell(one.knob), Cell(one.value, text=True), Cell(one.why, text=True)]
            for one in lines.values()
        ]
        if rows:
            tables.append(Table(heading, ["knob", "value", "why"], rows))
    return Section("recipe", "Recipe", tables)
