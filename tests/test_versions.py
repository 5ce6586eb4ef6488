"""Versions and names of releases: what is one, in which order, and what a change asks for."""

import pytest

from progdata.builders.errors import UsageError
from progdata.releases.versions import (
    Level,
    Version,
    check_repo_name,
    parse_release,
    parse_version,
    version_of_tag,
)


def test_versions_are_ordered_by_their_numbers() -> None:
    texts = ["0.9.0", "0.10.0", "1.0.0", "1.2.3", "1.10.0", "2.0.0"]
    assert [str(own) for own in sorted(map(parse_version, reversed(texts)))] == texts


@pytest.mark.parametrize("text", ["1.2.3", "v1.2.3"])
def test_a_version_may_be_written_with_a_v(text: str) -> None:
    assert parse_version(text) == Version(1, 2, 3)


@pytest.mark.parametrize(
    "text", ["", "1", "1.2", "1.2.3.4", "01.2.3", "1.2.-3", "1.2.3-rc1", "1.2.x", " 1.2.3", "١.٢.٣"]
)
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected three numbers"):
        parse_version(text)


@pytest.mark.parametrize(
    ("level", "expected"),
    [("major", "2.0.0"), ("minor", "1.3.0"), ("patch", "1.2.4"), ("none", "1.2.4")],
)
def test_a_change_asks_for_the_least_version_of_its_level(level: Level, expected: str) -> None:
    assert str(Version(1, 2, 3).raised(level)) == expected


@pytest.mark.parametrize(
    ("tag", "expected"),
    [("v1.2.3", Version(1, 2, 3)), ("1.2.3", None), ("v1.2", None), ("vv1.2.3", None)],
)
def test_tags_of_another_kind_are_no_versions(tag: str, expected: Version | None) -> None:
    assert version_of_tag(tag) == expected


@pytest.mark.parametrize("name", ["org/name", "a/b", "Org-1/name_2.x"])
def test_names_as_the_hub_has_them(name: str) -> None:
    assert check_repo_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["name", "a/b/c", "/name", "org/", "../name", "org/..", "org/.git", "org/a..b", "org/x.git",
     "org\\name", "org/na me", "org/né", "org/name\n", "-org/name"],
)  # fmt: skip
def test_names_that_could_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="expected the name of a repository"):
        check_repo_name(name)


def test_a_release_is_a_name_and_a_version() -> None:
    assert parse_release("org/name@1.2.0") == ("org/name", Version(1, 2, 0))
    assert parse_release("org/name@latest") == ("org/name", None)


@pytest.mark.parametrize("spec", ["org/name", "org/name@", "org/name@main", "@1.0.0", "name@1.0.0"])
def test_what_is_no_release_is_refused(spec: str) -> None:
    with pytest.raises(UsageError):
        parse_release(spec)
