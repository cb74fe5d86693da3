"""The one atomic writer."""

from pathlib import Path

import pytest

from core.files import writing


def test_a_file_comes_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with writing(path) as part:
        part.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"
    with pytest.raises(UnicodeEncodeError), writing(path) as part:
        part.write_text("two \udcff", encoding="utf-8")
    assert path.read_text() == "one"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]
