"""`[hooks.NAME]`, read: who sends, how he proves himself, and what of his messages becomes a job."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from rolehost.service_model.hooks import Handshake, HookDeclaration, ProofKind
from rolehost.service_model.problems import Keys
from rolehost.service_model.values import SETTING, Values, as_text, shown

MOST_HOOKS = 100
_MEBIBYTE = 1024 * 1024
_DAY = 86400
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*", re.ASCII)
_LONGEST_NAME = 64
_KIND = re.compile(r"(?=.{1,46}\Z)[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)
_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", re.ASCII)
_PLACES = ("source_url", "source_blob", "key", "time")
_TEXTS = ("secret_file", "secret_setting", "after", *_PLACES, "header", "key_header")


class HookReader(Values):
    """Reads hooks; the problems are noted, and stand-ins go on."""

    def read_all(self, value: object) -> Mapping[str, HookDeclaration]:
        """The hooks of a document.

        Args:
            value: what stands at `hooks`.
        """
        keys: Keys = ("hooks",)
        table = self._table(keys, value)
        if len(table) > MOST_HOOKS:
            self._wrong(keys, f"a service has {MOST_HOOKS} hooks at most, this one has {len(table)}")
        return MappingProxyType({name: self._hook((*keys, name), part) for name, part in table.items()})

    def _hook(self, keys: Keys, value: object) -> HookDeclaration:
        table = self._table(keys, value)
        self._known(keys, table, tuple(each.name for each in fields(HookDeclaration)))
        if not _NAME.fullmatch(keys[-1]) or len(keys[-1]) > _LONGEST_NAME:
            self._wrong(keys, f"a hook is named by up to 64 lower-case letters, digits and hyphens, not {keys[-1]!r}")
        handshake = table.get("handshake", "")
        if handshake:
            self._choice((*keys, "handshake"), handshake, [*Handshake][1:], "a handshake")
        proof = self._choice((*keys, "proof"), table.get("proof"), [*ProofKind], "a proof")
        texts = {name: self._text((*keys, name), table[name], required=True) for name in _TEXTS if name in table}
        self._check_texts(keys, texts, proof)
        return HookDeclaration(
            kind=self._kind((*keys, "kind"), table.get("kind")),
            proof=ProofKind(proof),
            handshake=Handshake(handshake) if handshake in [*Handshake] else Handshake.NONE,
            tolerance_seconds=self._whole(
                (*keys, "tolerance_seconds"), table.get("tolerance_seconds", 300), "N20", 1, _DAY
            ),
            most_bytes=self._whole((*keys, "most_bytes"), table.get("most_bytes", 262144), "N20", 1, 4 * _MEBIBYTE),
            when=self._when((*keys, "when"), table),
            parameters=self._strings((*keys, "parameters"), table, SETTING),
            parameters_from=self._pointers((*keys, "parameters_from"), table),
            **texts,
        )

    def _check_texts(self, keys: Keys, texts: Mapping[str, str], proof: str) -> None:
        """What goes with what."""
        for one, other in (("secret_file", "secret_setting"), ("source_url", "source_blob")):
            if (one in texts) == (other in texts):
                self._wrong(keys, f"{'.'.join(keys)} needs {one} or {other}, one of them")
        if "key" in texts and "key_header" in texts:
            self._wrong((*keys, "key_header"), "the sender's id is at a place or in a header, not both")
        if (proof == ProofKind.HEADER) != ("header" in texts):
            self._wrong(keys, f'"header" goes with the proof "{ProofKind.HEADER}", and with no other')
        for name in ("header", "key_header"):
            if name in texts and not _HEADER.fullmatch(texts[name]):
                self._wrong((*keys, name), f"{shown(texts[name])} can't be the name of a header")
        for name in _PLACES:
            if name in texts:
                self._pointer((*keys, name), texts[name])

    def _kind(self, keys: Keys, value: object) -> str:
        if isinstance(value, str) and _KIND.fullmatch(value):
            return value
        self._wrong(keys[:-1] if value is None else keys, f"{'.'.join(keys[:-1])} needs the kind of its jobs")
        return ""

    def _when(self, keys: Keys, table: dict[str, Any]) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for place, value in self._table(keys, table.get(keys[-1], {})).items():
            self._pointer((*keys, place), place)
            values = value if isinstance(value, list) else [value]
            if not values or not all(isinstance(each, str | int | float) for each in values):
                self._wrong(
                    (*keys, place), "what has to stand there is text, a number, true or false, or a list of them"
                )
                continue
            found[place] = tuple(as_text(each) for each in values)
        return MappingProxyType(found)

    def _pointers(self, keys: Keys, table: dict[str, Any]) -> Mapping[str, str]:
        found = {}
        for name, value in self._table(keys, table.get(keys[-1], {})).items():
            if name in table.get("parameters", {}):
                self._wrong(
                    (*keys, name), f'the parameter "{name}" is always the same, or taken from a place, not both'
                )
            found[name] = self._pointer((*keys, name), value)
        return MappingProxyType(found)

    def _pointer(self, keys: Keys, value: object) -> str:
        if isinstance(value, str) and value and _POINTER.fullmatch(value):
            return value
        self._wrong(keys, f"a place is a JSON Pointer, as /data/url, not {shown(value)}")
        return ""

    def _wrong(self, keys: Keys, sentence: str) -> None:
        self._problems.add("N20", keys, sentence)
