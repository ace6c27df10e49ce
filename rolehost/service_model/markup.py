"""XML, read without trust: no document type, no entities, no network, bounded in size and depth; with line numbers.

The only module that knows the XML library, and only definitions in XML import it: it is big.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lxml import etree  # type: ignore[import-untyped]  # it comes without types

# Real definitions have some ten kilobytes.
LARGEST_FILE = 1024 * 1024
_DEEPEST = 32
# The library's time grows with the square of an element's attributes: 80,000 of them take it half a minute.
_MOST_QUOTES = 2000
_DOCUMENT_TYPE = "the file has a document type (DOCTYPE), which is never read: take it out"
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_UNMARKED = ((b"<\x00", "utf-16-le"), (b"\x00<", "utf-16-be"))
_DECLARED = re.compile(rb"\s*<\?xml[^>]{0,200}?\sencoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})[\"']")
_ENCODINGS = re.compile(r"utf-?8|(us-)?ascii|iso-8859-\d{1,2}|windows-125\d", re.IGNORECASE)
# Of a well-formed document only: there, everything that begins also ends.
_PIECE = re.compile(
    r"<!--.*?-->|<!\[CDATA\[.*?\]\]>|<\?.*?\?>|<(?P<tag>[^\s/>!?]+)(?P<attributes>(?:[^\"'<>]|\"[^\"]*\"|'[^']*')*)>",
    re.DOTALL,
)
_ATTRIBUTE = re.compile(r"([^\s=\"']+)\s*=\s*(?:\"[^\"]*\"|'[^']*')")


class MarkupError(Exception):
    """The text is no XML that is read here.

    Args:
        sentence: what a person should read.
        line: from 1; 0 where it isn't known.
    """

    def __init__(self, sentence: str, line: int = 0) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.line = line


@dataclass(frozen=True, slots=True)
class Element:
    """An element, with the lines where it and its attributes stand.

    Args:
        namespace: empty where it has none.
        attributes: those without a namespace; the others say nothing to us.
        lines: of the attributes.
    """

    name: str
    namespace: str
    attributes: Mapping[str, str]
    children: tuple[Element, ...]
    line: int
    lines: Mapping[str, int]

    def all(self, name: str) -> list[Element]:
        """The children of this name, in the namespace of their parent."""
        return [child for child in self.children if child.name == name and child.namespace == self.namespace]

    def first(self, name: str) -> Element | None:
        """The first child of this name, in the namespace of its parent."""
        return next(iter(self.all(name)), None)

    def line_of(self, attribute: str) -> int:
        """Where the attribute stands, or the element if it hasn't got it."""
        return self.lines.get(attribute, self.line)


def parse(data: bytes) -> Element:
    """The root of an XML document.

    Args:
        data: its bytes, at most `LARGEST_FILE`; UTF-8, UTF-16 or a plain encoding that it declares.

    Raises:
        MarkupError: it is too large, no XML, or has a document type.
    """
    if len(data) > LARGEST_FILE:
        raise MarkupError(f"the file is larger than {LARGEST_FILE // 1024} KiB: this is no service definition")
    text = _decode(data)
    _refuse_document_type(text)
    _refuse_many_attributes(text)
    parser = etree.XMLParser(
        encoding="utf-8",  # whatever the declaration says: what was looked through is what is parsed
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(text.encode("utf-8", "surrogatepass"), parser)
    except etree.XMLSyntaxError as error:
        sentence = re.sub(r"\s*,?\s*line \d+, column \d+.*", "", str(error.msg), flags=re.DOTALL)
        raise MarkupError(f"this is no XML: {sentence}", error.lineno or 0) from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise MarkupError(_DOCUMENT_TYPE, 1)
    return _element(root, _places(text))


def _decode(data: bytes) -> str:
    encoding = next((name for mark, name in _MARKS + _UNMARKED if data.startswith(mark)), None)
    if encoding is None:
        declared = _DECLARED.match(data[:400])
        encoding = declared[1].decode("ascii") if declared else "utf-8"
        if not _ENCODINGS.fullmatch(encoding):
            raise MarkupError(f"the file declares the encoding {encoding}, but isn't in it: save it as UTF-8", 1)
    try:
        text = data.decode(encoding)
    except LookupError:
        raise MarkupError(f"the encoding {encoding} isn't known: save the file as UTF-8", 1) from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise MarkupError(f"the file isn't in its encoding, {encoding}: save it as UTF-8", line) from None
    if "\x00" in text:
        line = text.count("\n", 0, text.index("\x00")) + 1
        raise MarkupError("this is no XML: the file holds a NUL character", line)
    return text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _refuse_document_type(text: str) -> None:
    # It can stand before the root element only. Without it, there are no entities but XML's own five.
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
        elif text.startswith("<?", position):
            position = _after(text, "?>", position + len("<?"))
        elif text.startswith("<!--", position):
            position = _after(text, "-->", position + len("<!--"))
        elif text.startswith("<!", position):
            line = text.count("\n", 0, position) + 1
            raise MarkupError(_DOCUMENT_TYPE, line)
        else:
            return


def _refuse_many_attributes(text: str) -> None:
    line = 1
    for piece in text.split("<"):  # a start tag is within one piece: no attribute's value holds a <
        if piece.count('"') + piece.count("'") > _MOST_QUOTES:
            raise MarkupError(
                f"an element has more than {_MOST_QUOTES // 2} attributes, or a text as many quotes", line
            )
        line += piece.count("\n")


def _after(text: str, end: str, position: int) -> int:
    found = text.find(end, position)
    return len(text) if found < 0 else found + len(end)


def _places(text: str) -> Iterator[tuple[int, dict[str, int]]]:
    # The library says where a start tag ends; a person looks for where it begins, and for the attribute.
    line, position = 1, 0

    def line_at(offset: int) -> int:
        nonlocal line, position
        line += text.count("\n", position, offset)
        position = offset
        return line

    for piece in _PIECE.finditer(text):
        if piece["tag"] is None:
            continue
        begin, attributes = line_at(piece.start()), piece.start("attributes")
        lines = {
            attribute[1]: line_at(attributes + attribute.start())
            for attribute in _ATTRIBUTE.finditer(piece["attributes"])
        }
        yield begin, lines


def _element(node: etree._Element, places: Iterator[tuple[int, dict[str, int]]], depth: int = 1) -> Element:
    line, lines = next(places, (0, {}))
    if depth > _DEEPEST:
        raise MarkupError(f"elements are nested more than {_DEEPEST} deep: this is no service definition", line)
    name = etree.QName(node)
    return Element(
        name=name.localname,
        namespace=name.namespace or "",
        attributes={key: str(value) for key, value in node.attrib.items() if not key.startswith("{")},
        children=tuple([_element(child, places, depth + 1) for child in node if isinstance(child.tag, str)]),
        line=line,
        lines=lines,
    )
