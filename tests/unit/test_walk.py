"""The update walk over fake members, by a fake clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from rolehost.host.fabric.walk import Concern, Mode, Standing, Step, Walk, steps

START_SECONDS = 1800.0


class Fleet:
    """Instances that go down when they are told, and come up when the test says so."""

    def __init__(self, instances: int, domains: int = 5) -> None:
        self.domain = {f"R_IN_{n}": n % domains for n in range(instances)}
        self.standing = dict.fromkeys(self.domain, Standing.READY)
        self.told: list[str] = []
        self.now = 0.0

    def look(self, instance: str) -> Standing:
        return self.standing.get(instance, Standing.READY)

    def walk(self, *, concern: Concern = Concern.WHOLE, mode: Mode = Mode.AUTO, unsettled: Iterable[str] = ()) -> Walk:
        planned = steps((each, domain, concern) for each, domain in self.domain.items())
        return Walk(planned, start_seconds=START_SECONDS, mode=mode, unsettled=unsettled)

    def go(self, walk: Walk) -> list[str]:
        """Advance as the fabric does: those who are told are down from then on."""
        told: list[str] = []
        while new := walk.advance(self.now, self.look):
            told += new
            self.standing.update(dict.fromkeys(new, Standing.UNDER_WAY))
            assert len({self.domain[each] for each in self.down()}) == 1, "two domains are down at once"
        self.told += told
        return told

    def down(self) -> list[str]:
        return [each for each, standing in self.standing.items() if standing is not Standing.READY]

    def up(self, *instances: str) -> None:
        self.standing.update(dict.fromkeys(instances or self.down(), Standing.READY))

    def of(self, *domains: int) -> list[str]:
        return [each for domain in domains for each in self.domain if self.domain[each] == domain]


@pytest.mark.parametrize("count", [1, 4, 14])
def test_a_walk_takes_the_domains_in_order_and_all_of_a_domain_at_once(count: int) -> None:
    fleet = Fleet(count)
    walk = fleet.walk()
    turns = []
    while told := fleet.go(walk):
        turns.append(told)
        for each in told[:-1]:
            fleet.up(each)
            assert fleet.go(walk) == []  # one of the domain is down still
        fleet.up()
    assert turns == [fleet.of(domain) for domain in range(min(count, 5))]
    assert walk.is_over
    assert walk.late == []


def test_a_walk_of_nobody_is_over_at_once() -> None:
    walk = Walk((), start_seconds=START_SECONDS)
    assert walk.is_over
    assert walk.advance(0, lambda _: Standing.READY) == ()


def test_the_topology_alone_goes_from_instance_to_instance() -> None:
    fleet = Fleet(5, domains=2)
    walk = fleet.walk(concern=Concern.TOPOLOGY)
    while fleet.go(walk):
        assert len(fleet.down()) == 1
        fleet.up()
    assert fleet.told == fleet.of(0, 1)


def test_who_is_not_concerned_is_passed_over() -> None:
    concerned = [("A_IN_0", 0, Concern.NOTHING), ("A_IN_1", 1, Concern.WHOLE), ("B_IN_1", 1, Concern.TOPOLOGY)]
    assert steps(concerned) == (Step(1, ("A_IN_1",)), Step(1, ("B_IN_1",)))


def test_who_is_new_comes_first_and_who_leaves_goes_last_each_domain_by_itself() -> None:
    told, new, gone = ("A_IN_0", 0, Concern.WHOLE), Concern.ARRIVAL, Concern.DEPARTURE
    concerned = [told, ("B_IN_3", 0, gone), ("B_IN_4", 1, gone), ("A_IN_1", 1, new), ("A_IN_2", 2, new)]
    planned = steps([*concerned, ("C_IN_1", 1, new)])
    assert planned[:2] == (Step(1, ("A_IN_1", "C_IN_1")), Step(2, ("A_IN_2",)))
    assert planned[2:] == (Step(0, ("A_IN_0",)), Step(0, ("B_IN_3",)), Step(1, ("B_IN_4",)))


def test_who_leaves_is_waited_for_beyond_the_start_timeout() -> None:
    fleet = Fleet(3)
    walk = Walk([Step(1, ("R_IN_1",)), Step(2, ("R_IN_2",))], start_seconds=START_SECONDS, unsettled=["R_IN_0"])
    fleet.standing["R_IN_0"] = Standing.LEAVING
    for instance, following in (("R_IN_0", "R_IN_1"), ("R_IN_1", "R_IN_2")):
        fleet.standing[instance] = Standing.LEAVING
        assert walk.advance(fleet.now, fleet.look) == ()
        assert walk.seconds_left(fleet.now) == START_SECONDS
        fleet.now += START_SECONDS
        assert walk.advance(fleet.now, fleet.look) == ()
        assert walk.seconds_left(fleet.now) is None  # its end will be told
        fleet.up(instance)
        assert walk.advance(fleet.now, fleet.look) == (following,)
    assert walk.late == []


def test_after_the_start_timeout_it_walks_on_and_says_so() -> None:
    fleet = Fleet(2)
    walk = fleet.walk()
    assert fleet.go(walk) == ["R_IN_0"]
    fleet.now = START_SECONDS - 1
    assert walk.advance(fleet.now, fleet.look) == ()
    assert walk.seconds_left(fleet.now) == 1
    fleet.now = START_SECONDS
    assert walk.advance(fleet.now, fleet.look) == ("R_IN_1",)
    assert walk.late == ["R_IN_0"]
    fleet.up("R_IN_1")
    assert walk.advance(fleet.now, fleet.look) == ()
    assert walk.is_over


def test_a_domain_that_fails_under_the_walk_stops_it_until_the_start_timeout() -> None:
    fleet = Fleet(2)
    walk = fleet.walk()
    fleet.go(walk)
    fleet.standing["R_IN_0"] = Standing.FAILING
    fleet.now = START_SECONDS - 1
    assert fleet.go(walk) == []
    assert not walk.is_over


def test_a_manual_walk_goes_where_the_caller_says() -> None:
    fleet = Fleet(6, domains=3)
    walk = fleet.walk(mode=Mode.MANUAL)
    assert fleet.go(walk) == []
    assert list(walk.domains_left) == [0, 1, 2]
    assert walk.allow(1)
    assert fleet.go(walk) == fleet.of(1)
    assert walk.allow(0)
    assert fleet.go(walk) == []  # not while domain 1 is down
    assert not walk.is_done(1)
    fleet.up()
    assert fleet.go(walk) == fleet.of(0)
    assert walk.is_done(1)
    assert not walk.allow(1)
    assert not walk.allow(7)
    fleet.up()
    assert fleet.go(walk) == []
    assert list(walk.domains_left) == [2]
    assert not walk.is_over


def test_a_new_update_in_mid_walk_begins_at_the_first_domain_once_nobody_is_under_way() -> None:
    fleet = Fleet(3, domains=3)
    first = fleet.walk()
    fleet.go(first)
    fleet.up()
    fleet.go(first)
    assert fleet.down() == ["R_IN_1"]
    second = fleet.walk(unsettled=fleet.down())
    assert fleet.go(second) == []
    fleet.up()
    fleet.told.clear()
    while fleet.go(second):
        fleet.up()
    assert fleet.told == ["R_IN_0", "R_IN_1", "R_IN_2"]
    assert second.is_over


def test_who_fails_of_the_update_before_is_told_first() -> None:
    fleet = Fleet(3, domains=3)
    fleet.standing["R_IN_1"] = Standing.FAILING
    walk = fleet.walk(unsettled=["R_IN_1"])
    assert fleet.go(walk) == ["R_IN_1"]
    fleet.standing["R_IN_1"] = Standing.FAILING  # its host still says so
    assert fleet.go(walk) == []
    fleet.up()
    assert fleet.go(walk) == ["R_IN_0"]
    fleet.up()
    assert fleet.go(walk) == ["R_IN_2"]
    fleet.up()
    assert fleet.go(walk) == []
    assert walk.is_over


def test_who_fails_and_is_not_concerned_is_not_waited_for() -> None:
    fleet = Fleet(2)
    walk = Walk([Step(0, ("R_IN_0",))], start_seconds=START_SECONDS, unsettled=["R_IN_1"])
    fleet.standing["R_IN_1"] = Standing.UNDER_WAY
    assert walk.advance(0, fleet.look) == ()
    fleet.standing["R_IN_1"] = Standing.FAILING
    assert turns(walk, fleet) == [("R_IN_0",)]
    assert walk.late == ["R_IN_1"]


def test_a_manual_walk_mends_nobody_unasked() -> None:
    fleet = Fleet(2)
    fleet.standing["R_IN_1"] = Standing.FAILING
    walk = fleet.walk(mode=Mode.MANUAL, unsettled=["R_IN_1"])
    assert fleet.go(walk) == []
    walk.allow(1)
    assert fleet.go(walk) == ["R_IN_1"]


def test_new_instances_get_ready_before_anybody_is_told() -> None:
    fleet = Fleet(1)
    fleet.standing["R_IN_1"] = Standing.UNDER_WAY
    fleet.domain["R_IN_1"] = 1
    walk = Walk([Step(0, ("R_IN_0",))], start_seconds=START_SECONDS, unsettled=["R_IN_1"])
    assert fleet.go(walk) == []
    fleet.up()
    assert fleet.go(walk) == ["R_IN_0"]
    assert not walk.is_over
    fleet.up()
    assert fleet.go(walk) == []
    assert walk.is_over


def turns(walk: Walk, fleet: Fleet) -> Sequence[tuple[str, ...]]:
    found = []
    while told := walk.advance(fleet.now, fleet.look):
        found.append(told)
    return found
