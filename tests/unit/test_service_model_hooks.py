"""`[hooks.NAME]`: what can be declared, what is told of what can't, and how a front end gets it."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from rolehost.environment import RoleEnvironment
from rolehost.frontend.settings import FrontendSettings
from rolehost.service_model import RoleModel, ServiceModel
from rolehost.service_model.documents import write_model
from rolehost.service_model.hooks import HOOKS, Handshake, HookDeclaration, ProofKind
from rolehost.service_model.native import read_native
from rolehost.service_model.updating import needs_restart
from support.instances import make_plan, open_place

WHOLE = """
[service]
name = "s"
[roles.A]
entry_point = "m:A"
[roles.A.settings]
"Hooks.Sender" = "a plain secret of the tests"
[hooks.blob-created]
kind = "thumbnail"
proof = "header"
header = "X-Sender"
secret_file = "secrets/sender"
handshake = "event-grid"
source_blob = "/subject"
after = "/blobServices/default/containers/rolehost/blobs/"
key = "/id"
time = "/eventTime"
tolerance_seconds = 60
most_bytes = 1000
[hooks.blob-created.when]
"/eventType" = "Microsoft.Storage.BlobCreated"
"/data/n" = [1, true, "x"]
[hooks.blob-created.parameters]
size = "Large"
width = 64
[hooks.blob-created.parameters_from]
"dotted.name" = "/data/a~1b"
[hooks.other]
kind = "work"
proof = "standard-webhooks"
secret_setting = "Hooks.Sender"
source_url = "/url"
key_header = "X-Id"
"""

STALE = {HOOKS: "of another service"}


def read(text: str) -> tuple[ServiceModel | None, list[str]]:
    model, problems = read_native(text, "service.toml", None, Path())
    return model, [str(each) for each in problems.found]


def test_all_of_it_is_read_and_written_again() -> None:
    model, problems = read(WHOLE)
    assert problems == []
    assert model is not None
    hook = model.hooks["blob-created"]
    assert (hook.proof, hook.handshake, hook.tolerance_seconds) == (ProofKind.HEADER, Handshake.EVENT_GRID, 60)
    assert dict(hook.when) == {"/eventType": ("Microsoft.Storage.BlobCreated",), "/data/n": ("1", "true", "x")}
    assert dict(hook.parameters) == {"size": "Large", "width": "64"}
    again, problems = read(write_model(model))
    assert problems == []
    assert again is not None
    assert again.hooks == model.hooks
    for hook in model.hooks.values():
        assert HookDeclaration.from_table(json.loads(json.dumps(hook.to_table()))) == hook
    said = {each.name for each in fields(HookDeclaration)} - {"secret_setting", "source_url", "key_header"}
    assert set(model.hooks["blob-created"].to_table()) == said


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('kind = "work"', "", "hooks.other needs the kind of its jobs"),
        ('kind = "work"', 'kind = "No Kind"', "hooks.other needs the kind of its jobs"),
        ("standard-webhooks", "trust", 'a proof is standard-webhooks, github, header or basic, not "trust"'),
        ("event-grid", "secret", 'a handshake is event-grid or cloudevents, not "secret"'),
        ('header = "X-Sender"', "", '"header" goes with the proof "header"'),
        ('key_header = "X-Id"', 'header = "X-Id"', '"header" goes with the proof "header"'),
        ("X-Sender", "X Sender", "can't be the name of a header"),
        ('source_url = "/url"', "", "needs source_url or source_blob, one of them"),
        ('source_url = "/url"', 'source_url = "/u"\nsource_blob = "/u"', "needs source_url or source_blob"),
        ('secret_setting = "Hooks.Sender"', "", "needs secret_file or secret_setting, one of them"),
        ('key_header = "X-Id"', 'key_header = "X-Id"\nkey = "/id"', "at a place or in a header, not both"),
        ('source_url = "/url"', 'source_url = "url"', "a place is a JSON Pointer, as /data/url, not 'url'"),
        ('source_url = "/url"', 'source_url = "/~2"', "a place is a JSON Pointer"),
        ('"/eventType" =', '"eventType" =', "a place is a JSON Pointer"),
        ('[1, true, "x"]', "[[1]]", "or a list of them"),
        ('[1, true, "x"]', "[]", "or a list of them"),
        ('"dotted.name"', "size", 'the parameter "size" is always the same, or taken from a place, not both'),
        ("tolerance_seconds = 60", "tolerance_seconds = 0", "a whole number from 1 to 86400"),
        ("most_bytes = 1000", "most_bytes = 10000000", "a whole number from 1 to"),
        ("[hooks.other]", "[hooks.Other]", "a hook is named by up to 64 lower-case letters"),
        ('key_header = "X-Id"', 'colour = "red"', 'unknown key "colour"'),
    ],
)
def test_each_rule_tells_where(old: str, new: str, sentence: str) -> None:
    assert WHOLE.count(old) == 1
    model, problems = read(WHOLE.replace(old, new))
    assert model is None
    assert any(sentence in each for each in problems), problems
    assert all(each.startswith("service.toml:") for each in problems)


def test_a_front_end_gets_the_hooks_and_its_own_secret_but_no_variable_holds_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, _ = read(WHOLE)
    assert model is not None
    with open_place() as place:
        plan = make_plan(place, RoleModel(name="A", entry_point="m:A"), model={"hooks": model.hooks}, environ=STALE)
        variables = plan.role_variables("", "")
        directory = plan.model.directory
    assert "plain secret" not in variables[HOOKS]
    monkeypatch.setenv(HOOKS, variables[HOOKS])
    settings = FrontendSettings.read(RoleEnvironment.for_testing(settings=dict(model.roles["A"].settings)))
    assert settings.hooks["blob-created"].secret_file == str(directory / "secrets/sender")
    assert settings.hooks["other"] == model.hooks["other"]
    assert settings.hook_secrets == {"Hooks.Sender": "a plain secret of the tests"}


def test_a_change_of_hooks_starts_a_role_that_reads_them_again() -> None:
    model, _ = read(WHOLE)
    assert model is not None
    assert needs_restart(model, replace(model, hooks={}), "A")
    assert not needs_restart(model, model, "A")
