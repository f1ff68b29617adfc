"""Which of the published images a machine starts from."""

from __future__ import annotations

import pytest
from registered import asked

from grafos_connectors.contract import Image
from grafos_core.errors import GrafosError
from grafos_stacks.publishing_end import READY, Kept
from grafos_stacks.starting import Start, named_image, newest_image

NOW = 1000


def kept(digest: str, keep_until: int = NOW + 1, arch: str = "amd64") -> Kept:
    stack = f"img-gcp-us-central1-{digest}"
    return Kept(stack, "gcp", "us-central1", digest, READY, f"id-{digest}", arch, keep_until, 1, 1)


def test_an_image_past_its_end_is_not_what_a_machine_starts_from_unasked() -> None:
    """Any sweep may delete it before the machine is there."""
    ended, older = kept("abcdef000001", keep_until=NOW), kept("abcdef000002")
    assert newest_image([ended, older], "amd64", NOW) == older
    assert newest_image([ended], "amd64", NOW) is None


def test_a_beginning_that_several_images_have_names_none_of_them() -> None:
    both = [kept("abcdef000001"), kept("abcdef000002"), kept("abcdef000003", arch="arm64")]
    assert named_image(both, asked("gcp", image="abcdef000002" + "0" * 52), ["amd64"]) == both[1]
    assert named_image(both, asked("gcp", image="abcdef"), ["arm64"]) == both[2]
    with pytest.raises(GrafosError) as refused:
        named_image(both, asked("gcp", image="abcdef"), ["amd64"])
    assert (refused.value.code, "abcdef000002" in refused.value.next) == ("config_invalid", True)


def test_all_that_is_given_of_a_digest_is_compared_where_all_of_it_is_known() -> None:
    whole = "abcdef000001" + "0" * 52
    known = kept("abcdef000001")._replace(sha256=whole)
    assert named_image([known], asked("gcp", image=whole), ["amd64"]) == known
    with pytest.raises(GrafosError) as refused:
        named_image([known], asked("gcp", image="abcdef000001" + "1" * 52), ["amd64"])
    assert (refused.value.code, "--image bake" in refused.value.next) == ("image_unknown", True)


@pytest.mark.parametrize(
    ("keep_until", "words"), [(NOW, "past its end"), (NOW + 5, "ends before the cell does"), (NOW + 9, "")]
)
def test_an_image_that_does_not_last_as_long_as_its_cell_is_told_of(keep_until: int, words: str) -> None:
    image = Image("id", "img-gcp-us-central1-abcdef000001", "amd64", python="")
    notes = Start(image, "e2-small", "abcdef000001", keep_until).notes(NOW + 9, NOW)
    assert [words in note and f"extend {image.name} " in note for note in notes] == ([True] if words else [])
    assert Start(image, "e2-small").notes(NOW + 9, NOW) == (), "a stock image stays"
