"""The reader of the documentation's pages: a page that isn't true fails its test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.doc_blocks import Reader, blocks_of

PAGE = """
```text
shown, never done
```

```python file=greeting.py
WORD = "hello"
```

<!-- test: append -->
```python file=greeting.py
OTHER = WORD.upper()
```

```python
from pathlib import Path

import greeting

letters = len(Path("letter.txt").read_text())
```

```sh
# a remark
python -c 'import greeting; \\
  print(greeting.OTHER)'
```

<!-- test: fails -->
```sh
python -c 'raise SystemExit(3)'
```

<!-- test: skip nobody has such a program here -->
```sh
no-such-program
```

```python
import asyncio

await asyncio.sleep(0)
assert (greeting.OTHER, letters > 10) == ("HELLO", True)
```
"""


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    (tmp_path / "folder").mkdir()
    reader = Reader(tmp_path / "folder")
    yield reader
    reader.close()


def page(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "page.md"
    path.write_text(text)
    return path


def test_a_page_that_is_true(reader: Reader, tmp_path: Path) -> None:
    path = page(tmp_path, PAGE)
    assert [(block.language, block.note, block.file) for block in blocks_of(path)][:3] == [
        ("text", "", ""),
        ("python", "", "greeting.py"),
        ("python", "append", "greeting.py"),
    ]
    reader.follow(path)
    assert reader.said == ""
    assert (reader.folder / "greeting.py").read_text().count("\n") == 2


@pytest.mark.parametrize(
    "text",
    [
        "```sh\npython -c 'raise SystemExit(3)'\n```\n",
        "<!-- test: fails -->\n```sh\ntrue\n```\n",
        "```python\nassert 1 == 2\n```\n",
        "```text\nnothing to do\n```\n",
    ],
)
def test_a_page_that_is_not(reader: Reader, tmp_path: Path, text: str) -> None:
    with pytest.raises(AssertionError):
        reader.follow(page(tmp_path, text))


def test_toml_is_read(reader: Reader, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line 1"):
        reader.follow(page(tmp_path, "```toml\nnot toml\n```\n"))
