"""Pictures of one name before and after, in folders that tell which, with a mask of the second."""

from dataclasses import replace

from looking.schemes import Scheme, folder_names, read_scheme
from looking.words import words_in

# Words of folders whose images hold nothing to find.
BARE = {
    *("authentic", "real", "original", "originals", "pristine", "genuine", "normal", "healthy"),
    *("good", "clean", "negative", "negatives", "benign", "before"),
}


def part_twins(train: Scheme, masks: Scheme | None) -> tuple[Scheme, Scheme] | None:
    """Images whose ids tell their folder, and masks of the one that has something to find.

    None where ids do not clash, or the folders' names do not tell.
    """
    if not train.clashes or masks is None or not masks.plain or train.template != "{id}":
        return None
    _, varying = folder_names(train.files)
    found = [name for name in {key[0] for key in train.files.files} if not words_in(name) & BARE]
    if len(varying) != 1 or len(found) != 1:
        return None
    whole = read_scheme(train.files, train.pattern, f"{{{varying[0]}}}_{{id}}")
    if whole is None or whole.clashes:
        return None
    pattern = masks.pattern.replace("{id}", f"{{{varying[0]}={found[0]}}}{{id}}")
    paths = {f"{found[0]}_{img}": path for img, path in masks.paths.items()}
    return whole, replace(masks, pattern=pattern, template=whole.template, paths=paths)
