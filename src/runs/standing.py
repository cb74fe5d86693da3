"""Whether a checkpoint is still the network that was scored, and stands for its fold."""

from pathlib import Path

from core.files import file_digest

# A fold's best network, and the mean of it with its last, see `RunFolder`.
BEST, SOUP = "best.ckpt", "soup.ckpt"


def why_not_scored(path: Path, network: str) -> str:
    """What a checkpoint is by now, as the end of a sentence; "" of the one that was scored.

    Nothing of one that is gone. A soup stands for its fold no more when best.ckpt was trained
    since.

    Args:
        path: of the checkpoint.
        network: its SHA-256 when it was scored; "" where that is not known.
    """
    if not (network and path.is_file()):
        return ""
    if file_digest(path) != network:
        return "is not the network that was scored"
    best = path.with_name(BEST)
    if path.name == SOUP and best.is_file():
        from training.checkpoints import is_soup_of

        if not is_soup_of(path, best):
            return "is a mean with an earlier best.ckpt, the fold was trained since"
    return ""


def is_left_of_soup(path: Path) -> bool:
    """Whether a soup is gone, and best.ckpt is there in its place."""
    return path.name == SOUP and not path.is_file() and path.with_name(BEST).is_file()
