"""How a row of the answer names its image, and a mask file is called: ANSWER_ID."""

import re
from collections.abc import Sequence

from competition.spec import Competition
from competition.table_files import AUTO
from competition.tables import image_id, split_joined
from core.errors import UserError

PAGES = "/{n}"
FIELD = re.compile(r"\{(\w*)\}")
PATTERNS = {"id": "(?P<id>.+)", "class": "(?P<cls>.+?)", "n": r"(?P<n>\d+)"}


class RowIds:
    """Ids made of {id}, {class} and {n}, a counter of an image's rows from 1.

    With `/{n}` at the end, {id}.tif/{n}, images are pages of a stack, {id}_{n}.

    Args:
        template: auto takes ids as the sample writes them.
        classes: their texts, which {class} stands for; both it and {id} may hold what parts them.

    Raises:
        UserError: other fields, one of them twice, or no {id}.
    """

    def __init__(self, template: str, classes: Sequence[str] = ()):
        self.template = "" if template == AUTO else template
        names = FIELD.findall(self.template)
        if self.template and ("id" not in names or sorted(names) != sorted({*names} & {*PATTERNS})):
            raise UserError(
                f"ANSWER_ID: got {template!r}, need {{id}}, and where wanted {{class}} and {{n}}, "
                "each once: {id}_{n}; or auto"
            )
        self.paged = self.template.endswith(PAGES)
        self.counts, self.has_class = "n" in names and not self.paged, "class" in names
        parts = FIELD.split(self.template)
        known = "|".join(map(re.escape, sorted(classes, key=len, reverse=True)))
        # The longest class that is known and fits counts, else what stands behind the last mark.
        named = {"id": "(?P<id>.+?)", "class": f"(?P<cls>{known})"} if known else {}
        texts = PATTERNS | named
        rule = "".join(texts[p] if at % 2 else re.escape(p) for at, p in enumerate(parts))
        self.rule = re.compile(rule)

    def write(self, text: str, cls: str = "", n: int = 1) -> str:
        """The id of an image's n-th row; `text` is the image's as the sample writes it.

        A class joined to it, as in x.jpg_3, is replaced.
        """
        if not self.template:
            joined = split_joined(text)
            return f"{joined[1]}_{cls}" if joined and cls else text
        if self.paged:
            stack, _, page = self.image(text).rpartition("_")
            return self.template.replace("{id}", stack).replace("{n}", page)
        return FIELD.sub(
            lambda found: {"id": self.image(text), "class": cls, "n": str(n)}[found[1]],
            self.template,
        )

    def image(self, text: str) -> str:
        """The image's id in an id of the answer, by the template where it fits."""
        found = self._match(text)
        if found and self.paged:
            return f"{found['id']}_{found['n']}"
        return image_id(found["id"] if found else text)

    def fits(self, text: str) -> bool:
        """Whether an id is of the template."""
        return not self.template or self._match(text) is not None

    def cls(self, text: str) -> str:
        """The class in an id of the answer; "" where it has none."""
        found = self._match(text) if self.has_class else None
        return found["cls"] if found else ""

    def _match(self, text: str) -> re.Match[str] | None:
        return self.rule.fullmatch(text) if self.template else None


def row_ids(competition: Competition) -> RowIds:
    """The ids of a competition's answer."""
    numbers = [str(k + competition.class_base) for k in range(competition.classes)]
    return RowIds(competition.answer_id, [*competition.class_names, *numbers])
