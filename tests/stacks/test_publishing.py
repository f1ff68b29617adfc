"""An image is published once, whatever happens on the way, and nothing but it is left; it ends with what was held."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aws_ground import AwsCloud
from azure_ground import AzureCloud
from crash_sweep import Abort, Fuse
from disks import make_disk
from emulated_ground import EmulatedCloud, EmulatedGround
from gcp_ground import GcpCloud
from publishing import DISK_BYTES, ISLANDS, KEEP_S, asked, held, project, published, stack

from grafos_connectors.contract import Found, State
from grafos_connectors.uploads import Disk
from grafos_core import ledger as ledgers
from grafos_core.errors import GrafosError
from grafos_core.fabric import OPERATOR_ACCOUNT
from grafos_emulators.faults import Effect, ErrorClass, Fault, FaultRule
from grafos_stacks import rebuilding, sweeping
from grafos_stacks.direct import Engine
from grafos_stacks.inventory import Verdict
from grafos_stacks.keeping import keep_longer
from grafos_stacks.lost_ledger import catch_up_ledger
from grafos_stacks.publishing import publish
from grafos_stacks.publishing_end import kept_images, unpublish
from grafos_stacks.rebuilding import Action

CLOUDS: dict[str, Callable[[Path], EmulatedCloud]] = {"aws": AwsCloud, "gcp": GcpCloud, "azure": AzureCloud}
WHOLE = {
    "aws": ["image", "snapshot"],
    "gcp": ["image"],
    "azure": ["gallery", "galleryImage", "galleryImageVersion", "resourceGroup"],
}
"""What one published image consists of, in each cloud's words."""
MOMENTS_MAX = 400
SETTLED = 0.8
"""The part of a publishing's moments that come each time, however often an operation has to be looked at."""


@pytest.fixture(scope="module", params=CLOUDS)
def cloud(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedCloud]:
    made = CLOUDS[request.param](tmp_path_factory.mktemp(request.param))
    yield made
    made.close()


@pytest.fixture
def ground(cloud: EmulatedCloud) -> Iterator[EmulatedGround]:
    fresh = EmulatedGround(cloud)
    yield fresh
    cloud.fuse = None
    for image in kept_images(fresh.hands()):
        unpublish(fresh.hands(), image.stack)


SEEDS = itertools.count()
LONGER_S = 30 * 86400


def new_disk(folder: Path) -> Disk:
    """One that was never published: a cloud remembers the tokens by which another was."""
    return make_disk(folder, DISK_BYTES, ISLANDS, next(SEEDS))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with new_disk(tmp_path) as made:
        yield made


def kinds(ground: EmulatedGround) -> list[str]:
    return sorted(line.split()[0] for line in ground.live())


def whole(ground: EmulatedGround) -> list[str]:
    return WHOLE[ground.cloud.provider]


def test_what_is_published_is_one_image_and_what_it_needs(ground: EmulatedGround, disk: Disk) -> None:
    done = published(ground.hands(), disk)
    assert kinds(ground) == whole(ground)
    assert done.filled is not None
    assert not done.was_there
    [kept] = kept_images(ground.hands())
    assert (kept.state, kept.digest, kept.image_id) == ("ready", disk.sha256[:12], done.image.ref.id)
    assert kept.keep_until == done.publication.keep_until


def test_publishing_twice_makes_nothing_new_and_sends_nothing(ground: EmulatedGround, disk: Disk) -> None:
    first = published(ground.hands(), disk)
    before, money = ground.live(), held(ground.hands())
    again = published(ground.hands(), disk)
    assert again.was_there
    assert again.filled is None
    assert again.image.ref == first.image.ref
    assert ground.live() == before
    assert held(ground.hands()) == money > 0


def test_with_the_journal_lost_it_is_found_by_its_signed_tags(ground: EmulatedGround, disk: Disk) -> None:
    first = published(ground.hands(), disk)
    before = ground.live()
    ground.lose_journal()
    ground.pass_time(3600)
    again = published(ground.hands(), disk)
    assert again.image.ref.id == first.image.ref.id
    assert ground.live() == before
    [kept] = kept_images(ground.hands())
    assert kept.keep_until == first.publication.keep_until


def test_another_disk_is_another_image(ground: EmulatedGround, disk: Disk, tmp_path: Path) -> None:
    published(ground.hands(), disk)
    folder = tmp_path / "other"
    folder.mkdir()
    with make_disk(folder, DISK_BYTES, ((0, 10),)) as other:
        published(ground.hands(), other)
    assert len(kept_images(ground.hands())) == 2


def test_its_removal_leaves_nothing_and_settles_what_was_held(ground: EmulatedGround, disk: Disk) -> None:
    published(ground.hands(), disk)
    money = held(ground.hands())
    ground.pass_time(3600)
    torn = unpublish(ground.hands(), stack(ground.hands(), disk))
    assert ground.live() == []
    assert held(ground.hands()) == 0
    assert torn.receipt.left == 0
    assert len(torn.receipt.resources) >= len(whole(ground))
    assert 0 < torn.receipt.cost_micro_cents < money == torn.receipt.held_micro_cents
    assert unpublish(ground.hands(), stack(ground.hands(), disk)) == torn
    assert not kept_images(ground.hands())


def test_after_its_removal_it_can_be_published_again(ground: EmulatedGround, disk: Disk) -> None:
    published(ground.hands(), disk)
    unpublish(ground.hands(), stack(ground.hands(), disk))
    published(ground.hands(), disk)
    assert kinds(ground) == whole(ground)


def test_what_was_never_published_is_unknown(ground: EmulatedGround, disk: Disk) -> None:
    with pytest.raises(GrafosError) as refused:
        unpublish(ground.hands(), stack(ground.hands(), disk))
    assert refused.value.code == "image_unknown"


def test_what_does_not_fit_under_the_cap_is_not_begun(ground: EmulatedGround, disk: Disk) -> None:
    hands = ground.hands()
    hands.fabric.book(lambda ledger: ledgers.set_cap(ledger, OPERATOR_ACCOUNT, 1))
    with pytest.raises(GrafosError) as refused:
        published(hands, disk)
    assert refused.value.code == "budget_exceeded"
    assert ground.live() == []
    assert not kept_images(ground.hands())


def test_a_sweep_leaves_a_kept_image_alone_and_deletes_it_when_its_time_is_over(
    ground: EmulatedGround, disk: Disk
) -> None:
    published(ground.hands(), disk)
    hands = ground.hands()
    assert {one.verdict for one in sweeping.look(hands).judged if one.stack.startswith("img-")} == {Verdict.LIVE}
    assert not sweeping.sweep(ground.hands(), project(hands)).outcomes
    ground.pass_time(KEEP_S + 60)
    swept = sweeping.sweep(ground.hands(), project(hands))
    assert [outcome.error for outcome in swept.outcomes] == [None]
    assert ground.live() == []
    assert held(ground.hands()) == 0


def moments(ground: EmulatedGround, disk: Disk) -> int:
    """How many moments a publishing has at which its process can die."""
    fuse = Fuse()
    published(ground.hands(fuse), disk)
    unpublish(ground.hands(), stack(ground.hands(), disk))
    return fuse.moments


def die_at(ground: EmulatedGround, disk: Disk, point: int) -> bool:
    """Whether it died: an operation that took fewer looks this time may be over before that moment."""
    try:
        published(ground.hands(Fuse(point)), disk)
    except Abort:
        return True
    unpublish(ground.hands(), stack(ground.hands(), disk))
    return False


each_way = pytest.mark.parametrize("journal_lost", [False, True], ids=["journal kept", "journal lost"])
some_or_all = pytest.mark.parametrize(
    "every", [13, pytest.param(1, marks=pytest.mark.deep)], ids=["some moments", "all moments"]
)
"""Which moments are tried here: another part of them on each cloud and in each claim; a deep run tries all."""


@some_or_all
@each_way
def test_killed_anywhere_the_same_command_goes_on(
    cloud: EmulatedCloud, tmp_path: Path, every: int, *, journal_lost: bool
) -> None:
    total = moments(EmulatedGround(cloud), new_disk(tmp_path))
    assert 10 < total < MOMENTS_MAX
    for point in range(3 if journal_lost and every > 1 else 0, total, every):
        ground, disk = EmulatedGround(cloud), new_disk(tmp_path)
        if not die_at(ground, disk, point):
            assert point > SETTLED * total, f"over before moment {point} of {total}"
            break
        if journal_lost:
            ground.lose_journal()
        published(ground.hands(), disk)
        assert kinds(ground) == whole(ground), f"killed at moment {point}"
        unpublish(ground.hands(), stack(ground.hands(), disk))
        assert ground.live() == []
        assert held(ground.hands()) == 0


@some_or_all
@each_way
def test_killed_anywhere_a_sweep_leaves_nothing(
    cloud: EmulatedCloud, tmp_path: Path, every: int, *, journal_lost: bool
) -> None:
    total = moments(EmulatedGround(cloud), new_disk(tmp_path))
    for point in range((5 if journal_lost else 2) if every > 1 else 0, total, every):
        ground, disk = EmulatedGround(cloud), new_disk(tmp_path)
        if not die_at(ground, disk, point):
            assert point > SETTLED * total, f"over before moment {point} of {total}"
            break
        if journal_lost:
            ground.lose_journal()
        sweeping.sweep(ground.hands(), project(ground.hands()))
        rebuilding.carry_out(ground.hands(), rebuilding.survey(ground.hands()), project(ground.hands()), lambda _: None)
        finished = bool(ground.live())
        assert kinds(ground) == (whole(ground) if finished else []), f"killed at moment {point}"
        assert bool(held(ground.hands())) == finished, f"killed at moment {point}"
        ground.pass_time(KEEP_S + 60)
        sweeping.sweep(ground.hands(), project(ground.hands()))
        assert ground.live() == [], f"killed at moment {point}"
        assert held(ground.hands()) == 0, f"killed at moment {point}"


def test_it_is_kept_for_longer_and_a_sweep_goes_by_that(ground: EmulatedGround, disk: Disk) -> None:
    first = published(ground.hands(), disk).publication
    money = held(ground.hands())
    done = keep_longer(ground.hands(), first.stack, LONGER_S)
    assert (done.before, done.publication.keep_until) == (first.keep_until, first.keep_until + LONGER_S)
    assert held(ground.hands()) == done.held_micro_cents > money
    [kept] = kept_images(ground.hands())
    assert (kept.state, kept.keep_until) == ("ready", done.publication.keep_until)
    ground.pass_time(KEEP_S + 60)
    assert not sweeping.sweep(ground.hands(), project(ground.hands())).outcomes
    ground.pass_time(LONGER_S)
    sweeping.sweep(ground.hands(), project(ground.hands()))
    assert (ground.live(), held(ground.hands())) == ([], 0)


def test_keeping_it_longer_is_killed_anywhere_and_finished_by_the_same_command(
    ground: EmulatedGround, disk: Disk
) -> None:
    asked_until = published(ground.hands(), disk).publication.keep_until + LONGER_S
    for point in itertools.count():
        try:
            keep_longer(ground.hands(Fuse(point)), stack(ground.hands(), disk), LONGER_S)
            break
        except Abort:
            [kept] = kept_images(ground.hands())
            assert kept.state == "ready"
    [kept] = kept_images(ground.hands())
    assert (kept.keep_until, point > 0) == (asked_until, True)
    assert {int(found.tags["grafos:expires"]) for found in ours(ground, kept.stack)} == {asked_until}


def test_another_end_than_that_of_an_interrupted_extension_is_reached_too(ground: EmulatedGround, disk: Disk) -> None:
    before = published(ground.hands(), disk).publication.keep_until
    with pytest.raises(Abort):
        keep_longer(ground.hands(Fuse(1)), stack(ground.hands(), disk), LONGER_S)
    done = keep_longer(ground.hands(), stack(ground.hands(), disk), 2 * LONGER_S)
    assert done.publication.keep_until == before + 2 * LONGER_S


def test_a_sweep_that_judged_it_before_it_was_kept_for_longer_leaves_it(ground: EmulatedGround, disk: Disk) -> None:
    name = published(ground.hands(), disk).publication.stack
    keep_longer(ground.hands(), name, LONGER_S)
    with pytest.raises(GrafosError) as refused:
        unpublish(ground.hands(), name, ended=True)
    assert (refused.value.code, len(kept_images(ground.hands()))) == ("stack_busy", 1)
    ground.pass_time(KEEP_S + LONGER_S + 60)
    assert unpublish(ground.hands(), name, ended=True).receipt.left == 0


def ours(ground: EmulatedGround, name: str) -> list[Found]:
    _, listed = Engine(ground.hands()).listing("")
    return [one for one in listed if one.tags.get("grafos:stack") == name and one.state is State.READY]


def test_an_end_that_is_none_or_that_nobody_can_pay_for_moves_nothing(ground: EmulatedGround, disk: Disk) -> None:
    first = published(ground.hands(), disk).publication
    with pytest.raises(GrafosError) as refused:
        keep_longer(ground.hands(), first.stack, 0)
    assert refused.value.code == "config_invalid"
    hands = ground.hands()
    account = hands.fabric.read_ledger().accounts[OPERATOR_ACCOUNT]
    hands.fabric.book(lambda ledger: ledgers.set_cap(ledger, OPERATOR_ACCOUNT, account.held_micro_cents))
    with pytest.raises(GrafosError) as refused:
        keep_longer(ground.hands(), first.stack, LONGER_S)
    assert refused.value.code == "budget_exceeded"
    with pytest.raises(GrafosError) as refused:
        keep_longer(ground.hands(), "img-aws-nowhere-000000000000", LONGER_S)
    assert refused.value.code == "image_unknown"
    [kept] = kept_images(ground.hands())
    assert kept.keep_until == first.keep_until


def test_what_a_lost_ledger_does_not_know_of_an_image_the_journal_tells(ground: EmulatedGround, disk: Disk) -> None:
    file = ground.fabric.home / "ledger.db"
    before = file.read_bytes()
    done = published(ground.hands(), disk)
    money = held(ground.hands())
    file.write_bytes(before)
    assert held(ground.hands()) == 0
    assert catch_up_ledger(ground.fabric, ground.clock) == (f"{done.publication.stack}: booked as the journal has it",)
    assert (held(ground.hands()), catch_up_ledger(ground.fabric, ground.clock)) == (money, ())


def test_the_receipt_of_an_image_that_was_removed_is_not_booked_for_one_that_was_never_paid_for(
    ground: EmulatedGround, disk: Disk
) -> None:
    unpublish(ground.hands(), published(ground.hands(), disk).publication.stack)
    ground.clock.advance(1.0)
    ground.fabric.book(lambda ledger: ledgers.set_cap(ledger, OPERATOR_ACCOUNT, 1))
    with pytest.raises(GrafosError, match="budget_exceeded"):
        published(ground.hands(), disk)
    ground.fabric.book(lambda ledger: ledgers.set_cap(ledger, OPERATOR_ACCOUNT, 10**12))
    assert catch_up_ledger(ground.fabric, ground.clock) == ()


BUSY = {"aws": "PutSnapshotBlock", "gcp": "objects.upload", "azure": "disks.beginGetAccess"}


def test_a_cloud_that_is_busy_for_a_moment_is_asked_again(ground: EmulatedGround, disk: Disk) -> None:
    busy = Fault(Effect.REFUSE, ErrorClass.UNAVAILABLE)
    ground.cloud.clouds.faults.add(FaultRule(busy, operation=BUSY[ground.cloud.provider], times=2))
    published(ground.hands(), disk)
    assert kinds(ground) == whole(ground)


def test_an_interrupted_publishing_is_for_recover_to_undo(ground: EmulatedGround, disk: Disk, tmp_path: Path) -> None:
    assert die_at(ground, disk, moments(ground, new_disk(tmp_path)) // 2)
    [case] = rebuilding.survey(ground.hands())
    assert case.action is Action.UNDO
    assert "publish" in case.why
    rebuilding.carry_out(ground.hands(), [case], project(ground.hands()), lambda _: None)
    assert ground.live() == []
    assert held(ground.hands()) == 0


def test_a_clock_that_is_off_and_a_time_that_is_none_are_refused(ground: EmulatedGround, disk: Disk) -> None:
    from grafos_stacks.publishing_plan import check_publication

    with pytest.raises(GrafosError) as refused:
        check_publication(asked(ground.hands(), disk, keep_s=60))
    assert refused.value.code == "config_invalid"
    with pytest.raises(GrafosError):
        check_publication(asked(ground.hands(), disk, arch="riscv64"))
    assert publish(ground.hands(), check_publication(asked(ground.hands(), disk)), disk).image.ref.id
