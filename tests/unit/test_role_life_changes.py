"""Changes of the role environment while a role runs: real processes, the real channel."""

from __future__ import annotations

import socket
from pathlib import Path
from types import MappingProxyType

from rolehost.environment import Certificate, Role, RoleInstance, RoleInstanceEndpoint
from support.role_process import HostedRole, a_snapshot

WATCHING = """
class Worker(RoleEntryPoint):
    def on_start(self):
        environment = self.role_environment
        for name in ("changing", "changed", "simultaneous_changing", "simultaneous_changed"):
            def handler(e, name=name):
                value = environment.get_setting("A")
                told = sorted(repr(change) for change in e.changes)
                note(name, *told, "A is", value)
                self.more(name, e)
            event = getattr(environment, name)
            event += handler
        def stopping(e):
            note("stopping")
        environment.stopping += stopping
        return True

    def more(self, name, e):
        pass

    def on_stop(self):
        note("on_stop")
"""
SETTING = "ConfigurationSettingChange(configuration_setting_name='A')"
CANCELLING = WATCHING.replace("pass\n", 'e.cancel = name == "changing"\n')


def instances(count: int, update_domain: int = 0) -> Role:
    listed = tuple(RoleInstance(f"Other_IN_{number}", number % 2, update_domain) for number in range(count))
    return Role("Other", listed)


def topology(event: str) -> str:
    return f"{event} TopologyChange(role_name='Other') A is None"


async def test_a_change_is_told_before_and_after_it_applies(tmp_path: Path) -> None:
    async with HostedRole(tmp_path, WATCHING, snapshot=a_snapshot(settings={"A": "old"})) as role:
        await role.until_status("Started")
        incarnation = role.change(settings={"A": "new"})
        await role.until_words(f"changing {SETTING} A is old", f"changed {SETTING} A is new")
        assert role.leases.incarnation == incarnation
        assert role.leases.status == "Started"
        assert role.seen.count("Started") == 2  # the last status again, with the new incarnation
        assert await role.stop() == 0


async def test_the_incarnation_is_taken_only_once_the_handlers_have_agreed(tmp_path: Path) -> None:
    code = WATCHING.replace("pass\n", 'until_there("go")\n')
    async with HostedRole(tmp_path, code, snapshot=a_snapshot(settings={"A": "old"}), heartbeat=0.2) as role:
        await role.until_status("Started")
        first = role.leases.incarnation
        incarnation = role.change(settings={"A": "new"})
        await role.until_words(f"changing {SETTING} A is old")
        beats = len(role.states)
        await role.until(lambda: len(role.states) > beats + 2, "signs of life")
        assert role.leases.incarnation == first
        role.touch("go")
        await role.until_taken(incarnation)
        await role.until_words(f"changed {SETTING} A is new")


async def test_a_cancelled_change_recycles_under_the_new_incarnation_and_is_never_told_as_done(tmp_path: Path) -> None:
    async with HostedRole(tmp_path, CANCELLING, snapshot=a_snapshot(settings={"A": "old"})) as role:
        await role.until_status("Started")
        incarnation = role.change(settings={"A": "new"})
        await role.until_status("Recycle")
        assert role.states[-1].incarnation == incarnation
        assert "cancelled" in role.leases.detail
        assert await role.stop() == 0
        assert role.words() == [f"changing {SETTING} A is old", "stopping", "on_stop"]
    # Another life begins with the new values.
    async with HostedRole(tmp_path, CANCELLING.replace("return True", 'note("A is", environment.get_setting("A"))'),
                          snapshot=role.snapshot) as again:  # fmt: skip
        await again.until_words("A is new")


async def test_a_goal_that_is_not_newer_is_ignored(tmp_path: Path) -> None:
    async with HostedRole(tmp_path, WATCHING, snapshot=a_snapshot(settings={"A": "old"}), heartbeat=0.2) as role:
        await role.until_status("Started")
        first = role.leases.incarnation
        for back in (0, 1):  # no host of ours does this
            role.channel._incarnation = first - 1 - back
            assert role.change(settings={"A": "ignored"}) <= first
        beats = len(role.states)
        await role.until(lambda: len(role.states) > beats + 2, "signs of life")
        role.channel._incarnation = first
        await role.until_taken(role.change(settings={"A": "old", "B": "1"}))
        await role.until_words("changed ConfigurationSettingChange(configuration_setting_name='B') A is old")
        assert len(role.words()) == 2


async def test_after_a_cancel_nothing_more_is_told(tmp_path: Path) -> None:
    async with HostedRole(tmp_path, CANCELLING, snapshot=a_snapshot(settings={"A": "old"}), heartbeat=0.2) as role:
        await role.until_status("Started")
        role.change(settings={"A": "new"})
        await role.until_status("Recycle")
        role.change(settings={"A": "newer"})
        beats = len(role.states)
        await role.until(lambda: len(role.states) > beats + 3, "signs of life")
        assert role.leases.status == "Recycle"
        assert role.words() == [f"changing {SETTING} A is old"]


async def test_handlers_that_take_too_long_count_as_a_cancel(tmp_path: Path) -> None:
    code = WATCHING.replace("pass\n", "time.sleep(60)\n")
    snapshot = a_snapshot(settings={"A": "old"})
    async with HostedRole(tmp_path, code, snapshot=snapshot, changing_seconds=0.2) as role:
        await role.until_status("Started")
        incarnation = role.change(settings={"A": "new"})
        await role.until_status("Recycle")
        assert role.states[-1].incarnation == incarnation
        assert "too long" in role.leases.detail
        assert await role.stop() == 0
        assert role.words() == [f"changing {SETTING} A is old", "stopping", "on_stop"]


async def test_what_is_no_change_is_taken_without_a_word(tmp_path: Path) -> None:
    async with HostedRole(tmp_path, WATCHING, snapshot=a_snapshot(settings={"A": "old"})) as role:
        await role.until_status("Started")
        await role.until_taken(role.change(settings={"A": "old"}))
        assert role.leases.status == "Started"
        await role.until_taken(role.change(settings={"A": "new"}))
        await role.until_words(f"changed {SETTING} A is new")
        assert len(role.words()) == 2


async def test_settings_that_come_go_or_change_are_told_and_a_bad_handler_stops_no_other(tmp_path: Path) -> None:
    code = WATCHING.replace("pass\n", 'raise ValueError("a bad handler of " + name)\n').replace(
        "        return True",
        '        def second(e):\n            note("second", len(e.changes))\n'
        "        environment.changing += second\n        return True",
    )
    async with HostedRole(tmp_path, code, snapshot=a_snapshot(settings={"A": "1", "B": "1", "C": "1"})) as role:
        await role.until_status("Started")
        role.change(settings={"A": "2", "C": "1", "D": "1"})
        await role.until(lambda: "a bad handler of changed" in role.stderr, "the printed error")
        told = " ".join(SETTING.replace("'A'", f"'{name}'") for name in "ABD")
        assert role.words() == [f"changing {told} A is 1", "second 3", f"changed {told} A is 2"]
        assert "ValueError: a bad handler of changing" in role.stderr


async def test_each_change_of_a_topology_and_of_a_certificate_is_told(tmp_path: Path) -> None:
    snapshot = a_snapshot(roles={"Worker": Role("Worker", (RoleInstance("Worker_IN_0"),)), "Other": instances(1)})
    async with HostedRole(tmp_path, WATCHING, snapshot=snapshot) as role:
        await role.until_status("Started")
        for other in (instances(2), instances(1), instances(1, update_domain=1), instances(0)):
            told = len(role.words())
            await role.until_taken(role.change(roles={**role.snapshot.roles, "Other": other}))
            await role.until_words(*role.words()[:told], topology("changing"), topology("changed"))
        assert set(role.words()) == {topology("changing"), topology("changed")}
        role.change(certificates={"Tls": Certificate("Tls", "AB" * 20, "/a path/tls.pem")})
        await role.until_words(f"changed CertificateChange(thumbprint='{'AB' * 20}') A is None")


async def test_a_simultaneous_change_of_the_topology_has_its_own_events_and_no_cancel(tmp_path: Path) -> None:
    code = WATCHING.replace("pass\n", 'note("cancellable", hasattr(e, "cancel"))\n')
    snapshot = a_snapshot(roles={"Worker": Role("Worker", (RoleInstance("Worker_IN_0"),)), "Other": instances(1)})
    async with HostedRole(tmp_path, code, snapshot=snapshot) as role:
        await role.until_status("Started")
        await role.until_taken(role.change(simultaneous=True, roles={**snapshot.roles, "Other": instances(3)}))
        change = "SimultaneousTopologyChange(role_name='Other')"
        await role.until_words(f"simultaneous_changed {change} A is None", "cancellable False")
        assert role.words() == [
            f"simultaneous_changing {change} A is None",
            "cancellable False",
            f"simultaneous_changed {change} A is None",
            "cancellable False",
        ]
        assert role.leases.status == "Started"


async def test_a_role_that_ships_starts_again_for_the_settings_that_it_reads_once(tmp_path: Path) -> None:
    code = """
        class Worker(ServedRole):
            async def serve(self, stopping):
                await stopping.wait()
    """
    async with HostedRole(tmp_path, code, snapshot=a_snapshot(settings={"Worker.Slots": "1", "Mine": "1"})) as role:
        await role.until_status("Started")
        await role.until_taken(role.change(settings={"Worker.Slots": "1", "Mine": "2"}))
        assert role.leases.status == "Started"
        role.change(settings={"Worker.Slots": "2", "Mine": "2"})
        await role.until_status("Recycle")


async def test_several_changes_are_told_one_after_another(tmp_path: Path) -> None:
    code = WATCHING.replace("pass\n", 'name == "changing" and until_there("go")\n')
    async with HostedRole(tmp_path, code, snapshot=a_snapshot(settings={"A": "0"})) as role:
        await role.until_status("Started")
        role.change(settings={"A": "1"})
        await role.until_words(f"changing {SETTING} A is 0")
        last = role.change(settings={"A": "2"})
        role.touch("go")
        await role.until_taken(last)
        await role.until_words(f"changed {SETTING} A is 2")
        assert role.words() == [
            f"{event} {SETTING} A is {value}"
            for event, value in (("changing", 0), ("changed", 1), ("changing", 1), ("changed", 2))
        ]


async def test_a_stop_does_not_wait_for_handlers_and_the_change_is_dropped(tmp_path: Path) -> None:
    code = WATCHING.replace("pass\n", 'until_there("go")\n')
    async with HostedRole(tmp_path, code, snapshot=a_snapshot(settings={"A": "old"})) as role:
        await role.until_status("Started")
        role.change(settings={"A": "new"})
        await role.until_words(f"changing {SETTING} A is old")
        assert await role.stop() == 0
        assert role.words() == [f"changing {SETTING} A is old", "stopping", "on_stop"]


async def test_handlers_of_changed_that_hang_keep_no_later_change_away(tmp_path: Path) -> None:
    code = WATCHING.replace("pass\n", 'name == "changed" and time.sleep(60)\n')
    snapshot = a_snapshot(settings={"A": "0"})
    async with HostedRole(tmp_path, code, snapshot=snapshot, changing_seconds=1.5) as role:
        await role.until_status("Started")
        role.change(settings={"A": "1"})
        await role.until_words(f"changed {SETTING} A is 1")
        await role.until_taken(role.change(settings={"A": "2"}))


async def test_a_role_binds_its_endpoint_and_finds_the_facts_of_its_instance(tmp_path: Path) -> None:
    code = """
        import socket
        class Worker(RoleEntryPoint):
            def on_start(self):
                own = self.role_environment.current_role_instance
                endpoint = own.instance_endpoints["Orders"]
                with socket.socket() as listening:
                    listening.bind(endpoint.ip_endpoint)
                    listening.listen()
                    listening.accept()[0].close()
                note(own.id == os.environ["RoleInstanceID"], endpoint.protocol, endpoint.public_ip_endpoint)
                return True
    """
    with socket.socket() as probing:
        probing.bind(("127.0.0.1", 0))
        address = probing.getsockname()
    endpoints = {"Orders": RoleInstanceEndpoint("Orders", address, "tcp", ("203.0.113.9", 80))}
    current = RoleInstance("Worker_IN_0", instance_endpoints=MappingProxyType(endpoints))
    async with HostedRole(tmp_path, code, snapshot=a_snapshot(roles={"Worker": Role("Worker", (current,))})) as role:

        def connects() -> bool:
            with socket.socket() as connecting:
                return connecting.connect_ex(address) == 0

        await role.until(connects, "a connection")
        await role.until_words("True tcp None")  # emulated: no public endpoint


async def test_readers_in_other_threads_see_a_change_as_a_whole(tmp_path: Path) -> None:
    code = """
        class Worker(RoleEntryPoint):
            def run(self):
                environment, seen = self.role_environment, 0
                while seen < 20:
                    now = environment.snapshot
                    assert now.settings["A"] == now.settings["B"] == now.certificates["C"].thumbprint
                    seen = int(now.settings["A"])
                note("whole")
                super().run()
    """
    snapshot = a_snapshot(settings={"A": "0", "B": "0"}, certificates={"C": Certificate("C", "0")})
    async with HostedRole(tmp_path, code, snapshot=snapshot) as role:
        await role.until_status("Started")
        for number in range(1, 21):
            text = str(number)
            incarnation = role.change(settings={"A": text, "B": text}, certificates={"C": Certificate("C", text)})
            await role.until_taken(incarnation)
        await role.until_words("whole")
