"""Parameters of a kind of job: what is taken, what is refused in which words, and what a schema says of it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolehost.errors import InvalidParameterError, UnsupportedTypeError
from rolehost.jobs.kinds import BUILT_IN, KINDS, JobKind, kind_named, knowing, offered_kinds
from rolehost.jobs.parameters import Parameter, ParameterType, parse_all, text_of
from rolehost.jobs.sniffing import UNKNOWN
from support.declarations import many_parameters

INTEGER = Parameter(name="quality", type=ParameterType.INTEGER, default=75, least=0, most=100)
NUMBER = Parameter(name="gain", type=ParameterType.NUMBER, default=0.0)
SWITCH = Parameter(name="fast", type=ParameterType.BOOLEAN, default=False)
CHOICE = Parameter(name="format", choices=("flac", "-x"), default="flac")
TEXT = Parameter(name="title", default="", longest=5)
WORD = Parameter(name="word", pattern="[a-z]+|[0-9]+")
OPTIONAL = Parameter(name="rate", type=ParameterType.INTEGER, optional=True)


@pytest.mark.parametrize(
    ("parameter", "text", "value"),
    [
        (INTEGER, None, 75),
        (INTEGER, "  ", 75),
        (INTEGER, " +100 ", 100),
        (INTEGER, "007", 7),
        (NUMBER, "-1.5e2", -150.0),
        (NUMBER, ".5", 0.5),
        (NUMBER, "3.", 3.0),
        (SWITCH, None, False),
        (SWITCH, " ON ", True),
        (SWITCH, "no", False),
        (CHOICE, " flac ", "flac"),
        (CHOICE, "-x", "-x"),
        (TEXT, " a-b ", " a-b "),
        (TEXT, "", ""),
        (WORD, "12", "12"),
        (Parameter(name="x", any_start=True), "@list", "@list"),
    ],
)
def test_what_is_given_becomes_a_value(parameter: Parameter, text: str | None, value: object) -> None:
    parsed = parameter.parse(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("parameter", "text", "told"),
    [
        (WORD, None, "word is missing"),
        (WORD, " ", "word is missing"),
        (INTEGER, "101", "quality must be a whole number from 0 to 100, not 101"),
        (INTEGER, "-1", "from 0 to 100"),
        (INTEGER, "1.0", "quality must be a whole number from 0 to 100, not '1.0'"),
        (INTEGER, "1e1", "whole number"),
        (INTEGER, "٣", "whole number"),
        (INTEGER, "1_0", "whole number"),
        (INTEGER, "9" * 5000, "whole number"),
        (Parameter(name="x", type=ParameterType.INTEGER, least=1), "0", "x must be a whole number from 1, not 0"),
        (Parameter(name="x", type=ParameterType.NUMBER, most=2.5), "3", "x must be a number up to 2.5, not 3"),
        (Parameter(name="x", type=ParameterType.INTEGER, least=1, most=48_000_001), "0", "from 1 to 48000001, not 0"),
        (NUMBER, "nan", "gain must be a number, not 'nan'"),
        (NUMBER, "inf", "must be a number"),
        (NUMBER, "1e999", "must be a number"),
        (NUMBER, "0x10", "must be a number"),
        (SWITCH, "2", "fast must be true or false, not '2'"),
        (CHOICE, "FLAC", "format must be flac or -x, not 'FLAC'"),
        (TEXT, "123456", "title is longer than 5 characters"),
        (TEXT, "a\0", "title holds a NUL character"),
        (TEXT, "a\udcff", "title holds half a character"),
        (TEXT, "-o", "title must not begin with -"),
        (TEXT, "@f", "title must not begin with @"),
        (TEXT, "|ls", "title must not begin with |"),
        (WORD, "ab1", "word must match [a-z]+|[0-9]+, which 'ab1' does not"),
        (WORD, "ab\n", "word must match"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(parameter: Parameter, text: str | None, told: str) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        parameter.parse(text)
    assert caught.value.field == parameter.name
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((True, "true"), (False, "false"), (7, "7"), (10**17, "1" + "0" * 17), ("1e5", "1e5")),
        *((5.0, "5"), (-2.5, "-2.5"), (1e16, "1" + "0" * 16), (1e-5, "0.00001"), (-1.25e-7, "-0.000000125")),
        (5.960464477539063e-08, "0.00000005960464477539063"),
    ],
)
def test_a_number_is_written_as_programs_read_it(value: str | float, text: str) -> None:
    assert text_of(value) == text


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_no_number_changes_by_being_written(value: float) -> None:
    assert float(text_of(value)) == value
    assert "e" not in text_of(value)


@given(text=st.text(max_size=20))
def test_a_text_that_is_taken_is_no_option_and_fits_into_an_argument(text: str) -> None:
    try:
        value = TEXT.parse(text)
    except InvalidParameterError:
        return
    assert value == (text if text.strip() else "")
    assert not str(value).startswith(("-", "@", "|"))
    assert "\0" not in str(value)


@pytest.mark.parametrize("parameter", [TEXT, WORD, Parameter(name="x", any_start=True)])
@given(text=st.from_regex(r"[-@|]?[a-z0-9]{1,6}", fullmatch=True))
def test_the_schema_says_the_same_as_the_check(parameter: Parameter, text: str) -> None:
    schema = parameter.schema()
    by_schema = len(text) <= schema["maxLength"] and re.search(schema.get("pattern", ""), text) is not None
    try:
        parameter.parse(text)
    except InvalidParameterError:
        assert not by_schema
    else:
        assert by_schema


def test_a_schema_has_all_that_a_form_needs() -> None:
    labelled = Parameter(
        name="q", type=ParameterType.INTEGER, default=1, least=0, most=5, label="Quality", help="5 is best."
    )
    assert labelled.schema() == {
        "type": "integer",
        "title": "Quality",
        "description": "5 is best.",
        "default": 1,
        "minimum": 0,
        "maximum": 5,
    }
    assert CHOICE.schema() == {"type": "string", "default": "flac", "enum": ["flac", "-x"]}
    assert [each.schema().get("minLength", 0) for each in (WORD, TEXT, OPTIONAL)] == [1, 0, 0]


@pytest.mark.parametrize("pattern", ["(?i)[a-z]+", r"(?P<word>[a-z]+)", r"\A[a-z]+\Z"])
def test_a_schema_has_no_pattern_that_only_python_reads(pattern: str) -> None:
    """Other readers of the document would fail at all of it."""
    parameter = Parameter(name="x", pattern=pattern)
    assert parameter.parse("abc") == "abc"
    assert parameter.schema()["pattern"] == "^(?![-@|])"
    assert "[a-z]" in Parameter(name="x", pattern="(?:a|[a-z])(?=z)(?<!b)z").schema()["pattern"]


def test_only_what_has_neither_a_default_nor_is_optional_is_required() -> None:
    assert [each.required for each in (INTEGER, TEXT, WORD, OPTIONAL)] == [False, False, True, False]


def test_an_optional_parameter_that_is_not_given_is_not_there() -> None:
    assert parse_all((INTEGER, OPTIONAL), {}) == {"quality": 75}
    assert parse_all((INTEGER, OPTIONAL), {"rate": " "}) == {"quality": 75}
    assert parse_all((INTEGER, OPTIONAL), {"rate": "8000", "quality": "1"}) == {"quality": 1, "rate": 8000}


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ((), "speed is not a parameter of jpeg jobs: it has none"),
        ((INTEGER,), "speed is not a parameter of jpeg jobs: quality is"),
        ((INTEGER, TEXT), "speed is not a parameter of jpeg jobs: quality and title are"),
    ],
)
def test_an_unknown_parameter_is_told_with_those_that_there_are(declared: tuple[Parameter, ...], told: str) -> None:
    with pytest.raises(InvalidParameterError, match=f"^{told}$") as caught:
        JobKind(name="jpeg", parameters=declared).parse({"speed": "1"}, UNKNOWN)
    assert caught.value.field == "speed"


@given(declared=many_parameters(), accepts=st.lists(st.sampled_from(["image/png", ".md"]), unique=True))
def test_a_kind_survives_its_way_through_json(declared: tuple[Parameter, ...], accepts: list[str]) -> None:
    kind = JobKind(name="k", title="t", accepts=tuple(accepts), parameters=declared)
    assert JobKind.from_json(json.loads(json.dumps(kind.to_json()))) == kind


def test_a_kind_that_declares_no_parameters_takes_any_and_one_with_none_takes_none() -> None:
    for parameters in (None, ()):
        kind = JobKind(name="k", parameters=parameters)
        assert JobKind.from_json(json.loads(json.dumps(kind.to_json()))) == kind
    assert JobKind(name="k").parse({"any": "thing"}, UNKNOWN) == {"any": "thing"}
    with pytest.raises(InvalidParameterError):
        JobKind(name="k", parameters=()).parse({"any": "thing"}, UNKNOWN)


@pytest.mark.parametrize(
    ("media_type", "name", "taken"),
    [
        ("image/png", "x", True),
        ("audio/flac", "x", True),
        ("image/jpeg", "x.md", False),
        (UNKNOWN, "LETTER.MD", True),
        ("text/plain", "letter.md", True),
        (UNKNOWN, "letter.doc", False),
        ("video/mp4", "film.md", False),
    ],
)
def test_a_kind_takes_types_by_content_and_texts_by_their_ending(media_type: str, name: str, *, taken: bool) -> None:
    kind = JobKind(name="k", accepts=("image/png", "audio/*", ".md"))
    assert kind.takes(media_type, name) is taken
    if not taken:
        with pytest.raises(UnsupportedTypeError, match=r"is not accepted for k \(image/png, audio/\*, \.md\)"):
            kind.check_source(media_type, name)


def test_a_role_knows_the_kinds_that_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = ["thumbnail", JobKind(name="jpeg", parameters=(INTEGER,)).to_json(), {"name": "slow"}, "of-later"]
    monkeypatch.setenv(KINDS, json.dumps(told))
    names = [kind.name for kind in offered_kinds()]
    assert names == ["thumbnail", "jpeg", "slow", "of-later"]
    assert offered_kinds()[0] is BUILT_IN["thumbnail"]
    assert kind_named("jpeg").parse({}, UNKNOWN) == {"quality": 75}
    assert kind_named("slow").parse({"any": "thing"}, UNKNOWN) == {"any": "thing"}
    assert offered_kinds({KINDS: "[]"}) == ()


def test_who_is_no_role_learns_them_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KINDS, raising=False)
    before = offered_kinds()
    with knowing([JobKind(name="jpeg", parameters=(INTEGER,))]):
        assert [kind.name for kind in offered_kinds()] == ["jpeg"]
        assert kind_named("jpeg").parse({}, UNKNOWN) == {"quality": 75}
        assert kind_named("thumbnail") is BUILT_IN["thumbnail"], "what is built in is known by its name all the same"
    assert offered_kinds() == before
