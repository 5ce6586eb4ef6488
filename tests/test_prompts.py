"""Prompt profiles: the exact texts that come with the package, and those that a user writes."""

from pathlib import Path

import pytest

from progdata.builders.errors import UsageError
from progdata.builders.prompts import PromptProfile, find_profile, profiles

PROBLEM = "What is $1 + 1$?"

TURNS = {
    "deepscaler": (
        "What is $1 + 1$? Let's think step by step and output the final answer within \\boxed{}."
    ),
    "openr1": (
        "You will be given a problem. Please reason step by step, and put your final answer "
        "within \\boxed{}:\nWhat is $1 + 1$?"
    ),
    "r1-plain": "What is $1 + 1$?",
}
"""The user turn of each profile: facts.md 8.1, open-r1's script, and the problem alone."""

NOT_YAML = {
    "a tab": "\tuser: x",
    "an open bracket": "user: [",
    "latin-1": b"user: \xe9{problem}",
    "a control character": "user: \x07{problem}",
    "a day that is none": "user: 2026-13-45",
    "a number that is none": "user: 0x_",
}

NO_PROFILE = {
    "an empty file": ("", "expected user, and maybe system and name"),
    "a list": ("- user", "expected user, and maybe system and name"),
    "a text": ("user", "expected user, and maybe system and name"),
    "no user": ("system: Be brief.", "user must be the user turn, with {problem} in it once"),
    "user is null": ("user: null", "with {problem} in it once"),
    "no place": ("user: Solve it.", "with {problem} in it once"),
    "two places": ("user: '{problem} {problem}'", "with {problem} in it once"),
    "user is a list": ("user: ['{problem}']", "user must be a text (found ['{problem}'])"),
    "user is a mapping": ("user: {problem}", "user must be a text"),
    "system is a number": ("user: '{problem}'\nsystem: 3", "system must be a text (found 3)"),
    "name is a date": ("user: '{problem}'\nname: 2026-01-01", "name must be a text"),
    "a typing error": ("usr: '{problem}'", "unknown field 'usr'; did you mean 'user'?"),
    "a field that is a number": ("user: '{problem}'\n1: x", "unknown field 1"),
}


def profile_file(folder: Path, content: str | bytes, name: str = "mine.yaml") -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def refusal(spec: object) -> str:
    """The one line that refuses a profile."""
    with pytest.raises(UsageError) as caught:
        find_profile(spec)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- the profiles of the package


def test_the_package_comes_with_these_profiles():
    assert list(profiles()) == list(TURNS)


@pytest.mark.parametrize("name", TURNS)
def test_a_profile_is_one_user_turn_of_this_exact_text(name):
    profile = find_profile(name)
    assert profile is profiles()[name] and profile.name == name
    assert profile.messages(PROBLEM) == (("user", TURNS[name]),)
    assert profile.ask(PROBLEM) == TURNS[name]


@pytest.mark.parametrize("problem", ["{problem}", "{problem} {problem}", "{}{0}%s\\1\x00", ""])
def test_a_problem_is_copied_as_it_stands(problem):
    asked = find_profile("deepscaler").ask(problem)
    assert asked.startswith(problem + " Let's think") and asked.endswith("\\boxed{}.")
    assert find_profile("r1-plain").ask(problem) == problem


@pytest.mark.parametrize("name", ["deepscalr", "Deepscaler", "deepscaler ", "", "mine", "."])
def test_an_unknown_name_is_refused_with_the_known_ones(name):
    said = refusal(name)
    assert repr(name) in said and "deepscaler, openr1, r1-plain" in said and ".yaml" in said


def test_a_typing_error_gets_the_name_that_was_meant():
    assert "did you mean 'deepscaler'?" in refusal("deepscalr")


# --- profiles of a user's own


def test_a_file_may_have_a_system_turn_and_a_name(tmp_path):
    text = "name: brief\nsystem: Be brief. {x}\nuser: |\n  Solve:\n  {problem}\n"
    profile = find_profile(profile_file(tmp_path, text, "other.yml"))
    assert profile == PromptProfile("brief", "Solve:\n{problem}\n", "Be brief. {x}")
    assert profile.messages("1+1") == (("system", "Be brief. {x}"), ("user", "Solve:\n1+1\n"))


@pytest.mark.parametrize(
    "own",
    ["", "name: null\n", "name: ''\n"],
)
def test_a_file_without_a_name_gives_its_own_and_no_path(tmp_path, own):
    path = profile_file(tmp_path, own + "user: '{problem}'", "my.profile.yaml")
    assert find_profile(path).name == "my.profile"


def test_a_profile_may_stand_in_a_recipe():
    content = {"name": "own", "user": "{problem}!", "system": None}
    assert find_profile(content) == PromptProfile("own", "{problem}!")


def test_a_file_of_unicode_is_read_as_it_stands(tmp_path):
    path = profile_file(tmp_path, "\ufeffuser: '解け: {problem} 🙂 e\u0301'")
    assert find_profile(path).ask("x") == "解け: x 🙂 e\u0301"


@pytest.mark.parametrize("kind", NOT_YAML)
def test_what_is_not_yaml_is_refused_with_its_file(tmp_path, kind):
    path = profile_file(tmp_path, NOT_YAML[kind])
    assert refusal(path).startswith(f"{path}: not YAML: ")


@pytest.mark.parametrize("kind", NO_PROFILE)
def test_what_is_no_profile_is_refused_with_its_file_and_field(tmp_path, kind):
    content, expected = NO_PROFILE[kind]
    path = profile_file(tmp_path, content)
    assert refusal(path).startswith(f"{path}: ") and expected in refusal(path)


def test_a_file_that_cannot_be_read_is_refused_with_its_name(tmp_path):
    (tmp_path / "folder.yaml").mkdir()
    for name, why in (("absent.yaml", "No such file"), ("folder.yaml", "Is a directory")):
        assert f"{tmp_path / name}: {why}" in refusal(str(tmp_path / name))


def test_a_text_that_utf_8_cannot_hold_is_refused(tmp_path):
    path = profile_file(tmp_path, 'user: "{problem} \\ud800"')
    assert "user" in refusal(path)


# --- the hash of a profile


def test_any_change_of_a_text_changes_the_hash_and_a_name_does_not():
    texts = [
        ("{problem}", None),
        ("{problem}", ""),
        ("{problem} ", None),
        ("{problem}", "Be brief."),
        ("{problem}", "Be brief"),
        ("Be brief.{problem}", None),
        ("Be brief.\0{problem}", None),
        ("{problem}Be brief.", None),
    ]
    hashes = [PromptProfile("a", user, system).sha256 for user, system in texts]
    assert len({*hashes}) == len(texts)
    assert [PromptProfile("b", user, system).sha256 for user, system in texts] == hashes


def test_the_hashes_of_the_package_stay():
    assert {name: own.sha256[:16] for name, own in profiles().items()} == {
        "deepscaler": "271814c127d42077",
        "openr1": "6b0db3e45adbbe3d",
        "r1-plain": "b3e27e83bd384d4a",
    }
