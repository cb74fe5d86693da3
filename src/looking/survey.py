"""What lies under a folder never seen: sets of files that lie alike, tables, annotation files."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from competition.patterns import same_name, small_type
from competition.polygon_files import ANNOTATION_SUFFIXES
from core.gates import json_value
from imaging.readers import is_image
from looking.ends import join_ends
from looking.file_sets import FileSet
from looking.folders import DOZEN, FEW, Files, Folders, find_alike
from looking.words import (
    COLOURED,
    IMAGE,
    MASK,
    NUMBER,
    ROLES,
    TEST,
    TRAIN,
    without_numbers,
    words_in,
)

# A tile's place, which ends many names without telling what they are.
PLACE = re.compile(r"[_\-](?:x\d+[_\-]y|r(?:ow)?\d+[_\-]c(?:ol)?)\d+", re.IGNORECASE)
# Names that every system leaves behind.
RUBBISH = {"thumbs.db", "desktop.ini", "__macosx"}
# Kinds of files that an image may have, by the words that end their names: at least, at most.
MANY, MOST = 6, 128
# Names of one file a folder with a number in them, that are no places in a series: band_08, B8A.
NUMBERED_KIND = re.compile(r"(?:.*[_-])?(?:b|band|ch|channel)[_-]?\d+[a-z]?", re.IGNORECASE)
# Words that count files: core003.
COUNTED = re.compile(r"[A-Za-z]{2,}\d{2,}")
# Words of files that say which class a colour is.
LEGEND = {"class", "classes", "label", "labels", "labelmap", "colors", "colormap", "palette"}
# Suffixes of lists of names.
NAMES = (".yaml", ".yml", ".names")
# The share of files that may have a like of another suffix by mistake.
SLIPS = 0.05


@dataclass(frozen=True)
class Survey:
    """All that lies under a folder.

    Attributes:
        root: the folder.
        sets: of pictures and arrays, the largest first.
        tables: CSV files, posix paths from the root.
        lists: text files, which may list ids.
        coco: JSON files with images and annotations.
        drawings: sets of further files that may hold polygons.
        small: text, JSON and YAML files by their names, which may tell colours or names of classes.
        other: names of further files by suffix, counted.
    """

    root: Path
    sets: list[FileSet]
    tables: list[str]
    lists: list[str]
    coco: list[str]
    drawings: list[FileSet]
    small: list[str]
    other: dict[str, int]


def survey(root: Path) -> Survey:
    """What lies under a folder, links followed; hidden files and systems' rubbish are passed by."""
    pictures: list[str] = []
    tables, lists, coco, drawings, named = [], [], [], [], []
    other: Counter[str] = Counter()
    for base, folders, names in os.walk(root, followlinks=True):
        folders[:] = sorted(f for f in folders if f[0] != "." and f.lower() not in RUBBISH)
        here = Path(base).relative_to(root).as_posix()
        prefix = "" if here == "." else f"{here}/"
        for name in sorted(names):
            if name[0] == "." or name.lower() in RUBBISH:
                continue
            suffix = Path(name).suffix.lower()
            if is_image(name):
                pictures.append(prefix + name)
            elif suffix == ".csv":
                tables.append(prefix + name)
            elif suffix == ".json" and _is_coco(root / prefix / name):
                coco.append(prefix + name)
            else:
                lists += [prefix + name] if suffix == ".txt" else []
                drawings += [prefix + name] if suffix in ANNOTATION_SUFFIXES else []
                named += [prefix + name] if suffix in NAMES else []
                other[suffix or name] += 1
    sets, drawn = _sets_of(pictures), _sets_of(drawings)
    small = [path for path in drawings if "/" not in path or words_in(Path(path).name) & LEGEND]
    small += named
    return Survey(root, sets, tables, lists, coco, drawn, small, dict(other.most_common()))


def what_to_do(survey: Survey) -> str:
    """What makes files of pictures of what lies there."""
    if ".parquet" in survey.other or ".arrow" in survey.other:
        return (
            "its tables hold pictures: write these out, as row['image'].save(f'images/{n}.png') "
            "and row['label'].save(f'masks/{n}.png') for each row of datasets.load_dataset"
        )
    return "pass the folder that holds images: --input <folder>"


def _sets_of(paths: Sequence[str]) -> list[FileSet]:
    """Files that lie alike, the largest set first."""
    sets = [found for group in find_alike(paths) for found in _split_names(*group)]
    sets = join_ends([_without_shared(one, sets) for one in sets])
    return [replace(one, marked=_is_twin(one, sets)) for one in sets]


def _is_twin(files: FileSet, sets: Sequence[FileSet]) -> bool:
    """Whether folders of another set differ in the same places, but have other words in common."""
    return any(one.folders == files.folders and one.forms != files.forms for one in sets)


def _without_shared(files: FileSet, sets: Sequence[FileSet]) -> FileSet:
    """Of images beside masks, without the words of masks that both have: semantic_set/images."""
    silent: set[str] = set()
    for depth in range(1, len(files.folders)):
        shared, own = files.folders[:depth], _words_below(files, depth)
        if None in shared:
            break
        if own & MASK or not own & (IMAGE - COLOURED):
            continue
        if any(one.folders[:depth] == shared and _words_below(one, depth) & MASK for one in sets):
            silent |= words_in("/".join(str(name) for name in shared)) & MASK
    return replace(files, silent=frozenset(silent)) if silent else files


def _words_below(files: FileSet, depth: int) -> set[str]:
    return words_in("/".join(name or "" for name in files.folders[depth:]), files.tail)


def _is_coco(path: Path) -> bool:
    """Whether a JSON file holds COCO's lists of images and annotations."""
    try:
        with path.open("rb") as stream:
            if not stream.read(64).lstrip(b"\xef\xbb\xbf \n").startswith(b"{"):
                return False
        content = json_value(path.read_text(encoding="utf-8-sig"))
    except (ValueError, OSError):
        return False
    return isinstance(content, dict) and {"images", "annotations"} <= content.keys()


def folders_apart(sets: Sequence[FileSet], *, counted: bool = False) -> list[FileSet]:
    """Sets of which folders of one kind that hold the same names are sets of their own.

    As semantic/7.png and instance/7.png, or seq_1/left/7.png and seq_1/right/7.png.

    Args:
        sets: of a survey.
        counted: folders that differ in their number alone, too, maps_1/7.png and maps_2/7.png.
    """
    parted = [part for files in sets for part in _parted(files, counted)]
    return sorted(parted, key=lambda found: -len(found.files))


def _parted(files: FileSet, counted: bool) -> list[FileSet]:
    places = [at for at, name in enumerate(files.folders) if name is None]
    for place in reversed(places):
        at = files.folders[:place].count(None)
        by_folder: dict[str, dict[tuple[str, ...], str]] = defaultdict(dict)
        for key, path in files.files.items():
            by_folder[key[at]][(*key[:at], *key[at + 1 :])] = path
        own = {key for members in by_folder.values() for key in members}
        if len(set(map(without_numbers, by_folder))) < len(by_folder) and not counted:
            continue
        if 2 <= len(by_folder) <= DOZEN and len(files.files) >= 1.5 * len(own):
            start, end = files.folders[:place], files.folders[place + 1 :]
            return [
                FileSet((*start, name, *end), files.tail, members, files.head, fixed=files.fixed)
                for name, members in by_folder.items()
            ]
    return [files]


def _split_names(folders: Folders, files: Files) -> list[FileSet]:
    """The files of like folders, by their names where folders share them, or by their ends."""
    alike = _shared_names(files)
    named = [
        FileSet(
            folders,
            name,
            {(*vary, ""): path for vary, own, path in files if own == name},
            fixed=True,
        )
        for name in alike
    ]
    rest = [file for file in files if file[1] not in alike]
    return [*named, *(_split_tails(folders, rest) if rest else [])]


def _shared_names(files: Files) -> list[str]:
    """Names that half of the folders have, and that count nothing: image.png, B08.tif."""
    folders = len({vary for vary, _, _ in files})
    counts = Counter(name for _, name, _ in files)
    shared = [name for name, count in counts.items() if folders > 1 and 2 * count >= folders]
    stems = {name: name.rpartition(".")[0] for name in shared if counts[name] > 1}
    return [
        name
        for name, stem in stems.items()
        if not re.search(r"\d", stem) or NUMBERED_KIND.fullmatch(stem)
    ]


def _split_tails(folders: Folders, files: Files) -> list[FileSet]:
    """The files of like folders, by what their names end with."""
    stems = {(vary, name.rpartition(".")[0]) for vary, name, _ in files}
    tails: Counter[str] = Counter()
    tail_of = {}
    ends = Counter(_last_word(stem) for _, stem in stems)
    kinds = _are_kinds(stems, ends)
    for vary, name, path in files:
        stem, _, suffix = name.rpartition(".")
        end = _last_word(stem) if kinds else _tail(vary, stem, stems, ends)
        tail_of[path] = f"{end}.{suffix}"
        tails[tail_of[path].lower()] += 1
    found: dict[str, dict[tuple[str, ...], str]] = defaultdict(dict)
    usual = {
        small_type(tail): tail for tail, _ in reversed(Counter(tail_of.values()).most_common())
    }
    for vary, name, path in files:
        tail = usual[small_type(tail_of[path])]
        few = tails[tail.lower()] < min(FEW, len(files))
        if few and not (kinds or _is_piece(tail, tails)):  # a stray file
            tail = "." + name.rpartition(".")[2]
        key = (*vary, same_name(name[: -len(tail)]))
        tail = tail_of[path] if key in found[tail] else tail  # 7.png beside 7.PNG
        found[tail].setdefault(key, path)
    sets = [FileSet(folders, tail, members) for tail, members in found.items()]
    return [part for one in _join_suffixes(sets) for part in _split_heads(one)]


def _is_piece(tail: str, tails: Counter[str]) -> bool:
    """Whether the same end without its number is that of many: _mask_2 beside _mask."""
    stem, _, suffix = tail.rpartition(".")
    word = NUMBER.sub("", stem)
    return word not in ("", stem) and tails[f"{word}.{suffix}".lower()] >= FEW


def _are_kinds(stems: set[tuple[tuple[str, ...], str]], ends: Counter[str]) -> bool:
    """Whether all names end with a word, and most with several: 00000_hair, 00000_l_brow."""
    if ends[""] or not MANY <= len(ends) <= min(MOST, len(stems) // FEW):
        return False
    own = {(vary, stem.removesuffix(_last_word(stem))) for vary, stem in stems}
    return 2 * len(own) <= len(stems)


def _join_suffixes(sets: Sequence[FileSet]) -> list[FileSet]:
    """Pictures of several formats are one set, unless most have a like of the other format."""
    plain = [one for one in sets if one.tail.rfind(".") == 0]
    plain.sort(key=lambda one: -len(one.files))
    if len(plain) < 2:
        return list(sets)
    first, rest = plain[0], plain[1:]
    files, doubles, joined = dict(first.files), [], []
    for one in rest:
        common = len(one.files.keys() & first.files.keys())
        if 2 * common > len(one.files) and common > SLIPS * len(first.files):
            continue
        doubles += [path for key, path in one.files.items() if key in files]
        files = {**one.files, **files}
        joined.append(one)
    if not joined:
        return list(sets)
    whole = FileSet(first.folders, ".*", dict(sorted(files.items())), doubles=tuple(doubles))
    return [whole, *(one for one in sets if one is not first and one not in joined)]


def _split_heads(whole: FileSet) -> list[FileSet]:
    """Files of one folder that begin with what they are: train_1 and testA_1, img_1 and mask_1."""
    heads: dict[str, dict[tuple[str, ...], str]] = defaultdict(dict)
    for (*vary, name), path in whole.files.items():
        match = re.match(r"[A-Za-z]+[_\-]?", name)
        head = match[0] if match and match[0] != name else ""
        heads[head][(*vary, name[len(head) :])] = path
    said = [words_in(head) for head in heads]
    both = any(words & TRAIN for words in said) and any(words & TEST for words in said)
    if both and all(words & ROLES for words in said):
        return [FileSet(whole.folders, whole.tail, named, head) for head, named in heads.items()]
    return _split_masks(whole, heads)


def _split_masks(
    whole: FileSet, heads: Mapping[str, Mapping[tuple[str, ...], str]]
) -> list[FileSet]:
    """Masks beside images, told by how their names begin: mask_1 of img_1, or mask_img_1."""
    masks = {head: named for head, named in heads.items() if words_in(head) & MASK}
    named = {key for members in masks.values() for key in members}
    theirs = {path for files in masks.values() for path in files.values()}
    rest = {key: path for key, path in whole.files.items() if path not in theirs}
    if not masks or not rest:
        return [whole]
    sets = [FileSet(whole.folders, whole.tail, files, head) for head, files in masks.items()]
    if 2 * len(named & rest.keys()) >= len(rest):
        return [FileSet(whole.folders, whole.tail, rest), *sets]
    others = {head: files for head, files in heads.items() if head not in masks}
    if all(2 * len(named & files.keys()) >= len(files) for files in others.values()):
        return [
            *(FileSet(whole.folders, whole.tail, files, head) for head, files in others.items()),
            *sets,
        ]
    return [whole]


def _tail(
    vary: tuple[str, ...], stem: str, stems: set[tuple[tuple[str, ...], str]], ends: Counter[str]
) -> str:
    """What a name ends with beside its own part: `_mask` where another is the same without it.

    Of the name of an image in another's, 7.jpeg.json or 7.jpg.png, it is the image's type.
    """
    if is_image(stem):
        return Path(stem).suffix
    for match in re.finditer(r"[_\-. ](?=[^/]*[A-Za-z])", stem):
        if (vary, stem[: match.start()]) in stems:
            return stem[match.start() :]
    end = _last_word(stem)
    # A word that many names end with, and not all of one word: _vv and _vh, _training_mask.
    return end if end and ends[end] >= FEW and 2 * ends[end] * 6 >= len(stems) else ""


def _last_word(stem: str) -> str:
    """The words that end a name, from their separator on: _training_mask of 21_training_mask.

    What is counted is none: core003.
    """
    match = re.search(r"(?:[_\-][A-Za-z][A-Za-z0-9]*)+$", stem)
    if match is None or match.start() == 0:
        return ""
    words = re.findall(r"[_\-][^_\-]+", PLACE.split(match[0])[-1])
    counted = [at for at, word in enumerate(words) if _counts(word[1:])]
    return "".join(words[counted[-1] + 1 :] if counted else words)


def _counts(word: str) -> bool:
    return COUNTED.fullmatch(word) is not None and NUMBERED_KIND.fullmatch(word) is None
