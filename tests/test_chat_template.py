"""Prompts by a model's own template: one BOS, the prefilled `<think>`, and what is refused."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from shared_data import TOKENIZER, needs_shared_data
from tokenizer_files import byte_level_bpe
from tokenizers import AddedToken, Tokenizer, processors

from progdata.builders.chat_template import ChatTemplate, PromptRefused, load_chat_template
from progdata.builders.errors import ProgdataError
from progdata.builders.sampling import Message

BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
OWN = (EOS, "<｜User｜>", "<｜Assistant｜>", BOS, "<|EOT|>", "<think>", "</think>")
"""The tokens of the R1 family that are no text."""

OPENING = "{% for own in messages if own['role'] == 'system' %}{{ own['content'] }}{% endfor %}"
TURNS = (
    "{% for own in messages if own['role'] == 'user' %}<｜User｜>{{ own['content'] }}{% endfor %}"
)
R1 = "{{ bos_token }}" + OPENING + TURNS + "<｜Assistant｜><think>{{ '\\n' }}"
"""What the real template does with the turns that prompts have."""


def user(text: str) -> list[Message]:
    return [("user", text)]


def texts_of(template: ChatTemplate, messages: list[Message], begun: str = "") -> str:
    return template.tokenizer.decode(template.prompt(messages, begun).token_ids)


def refusal(template: ChatTemplate, messages: list[Message], begun: str = "") -> PromptRefused:
    with pytest.raises(PromptRefused) as caught:
        template.prompt(messages, begun)
    assert "\n" not in caught.value.detail
    return caught.value


# --- the real tokenizer


@pytest.fixture(scope="module")
def real() -> ChatTemplate:
    return load_chat_template(TOKENIZER)


@needs_shared_data
class TestReal:
    def test_what_it_is(self, real):
        assert (real.bos_token, real.prefill, real.prefills_think) == (BOS, "<think>\n", True)
        assert real.sha256 == sha256((TOKENIZER / "chat_template.jinja").read_bytes()).hexdigest()
        assert real.own_tokens == set(range(151_643, 151_650))

    @pytest.mark.parametrize(
        "text",
        [
            *(
                "1 + 1?",
                "",
                " \n\n ",
                "{{ 1 }}{% if %}",
                "a\0b",
                "< think >",
                "think>",
                "<|im_end|>",
            ),
            *("数学 🙂 🧑‍🚀 é", "مرحبا", "<｜User |>", "\\boxed{5}", "x" * 5_000),
        ],
    )
    def test_a_problem_stands_between_the_turns_behind_one_bos(self, real, text):
        prompt = real.prompt(user(text))
        assert prompt.messages == (("user", text),) and prompt.token_ids is not None
        assert prompt.token_ids.typecode == "I"
        assert prompt.token_ids[0] == real.tokenizer.bos_token_id
        assert list(prompt.token_ids).count(real.tokenizer.bos_token_id) == 1
        decoded = real.tokenizer.decode(prompt.token_ids)
        assert decoded == f"{BOS}<｜User｜>{text}<｜Assistant｜><think>\n"

    def test_system_and_user_turns(self, real):
        messages = [("system", "Be brief."), ("user", "1 + 1?")]
        assert texts_of(real, messages) == (
            f"{BOS}Be brief.<｜User｜>1 + 1?<｜Assistant｜><think>\n"
        )

    @pytest.mark.parametrize("token", OWN)
    @pytest.mark.parametrize("form", ["{}", "a{}b", "{}\n1 + 1?", "1 + 1? {}"])
    def test_a_problem_with_a_token_of_the_model_is_refused(self, real, token, form):
        error = refusal(real, user(form.format(token)))
        assert error.reason == "special_token_in_problem" and token in error.detail

    def test_a_system_turn_is_checked_as_well(self, real):
        messages = [("system", "Do not <think>."), ("user", "1 + 1?")]
        assert refusal(real, messages).reason == "special_token_in_problem"

    @pytest.mark.parametrize(
        "begun",
        [
            "Okay",
            "\nOkay",
            "\n\n\n",
            " Okay, so",
            "Okay\n</think>\n\nThe answer is **",
            "数🙂",
            "é",
        ],
    )
    def test_an_answer_goes_on_as_it_was_begun(self, real, begun):
        whole = texts_of(real, user("1 + 1?"), begun)
        assert whole == f"{BOS}<｜User｜>1 + 1?<｜Assistant｜><think>\n{begun}"

    def test_what_a_model_wrote_may_hold_its_tokens_and_a_problem_is_still_checked(self, real):
        assert texts_of(real, user("1"), f"a{EOS}b<think>").endswith(f"<think>\na{EOS}b<think>")
        assert refusal(real, user("<think>"), "Okay").reason == "special_token_in_problem"

    def test_a_problem_that_no_tokenizer_takes_is_refused(self, real):
        assert refusal(real, user("a\ud800b")).reason

    def test_prompts_of_other_problems_have_other_digests(self, real):
        digests = {real.prompt(user(text)).digest for text in ("1", "2", "1 ")}
        assert len(digests | {real.prompt(user("1"), "x").digest}) == 4


# --- variations, with a small tokenizer that has the same tokens


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Tokenizer:
    folder = byte_level_bpe(tmp_path_factory.mktemp("bpe"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in OWN])
    return tokenizer


@pytest.fixture
def save(small, tmp_path):
    """Saves the tokenizer with a template; `adds_bos`: it writes the BOS token itself."""

    def save(template: str | None, adds_bos: bool = False, bos: str | None = BOS) -> Path:
        own = Tokenizer.from_str(small.to_str())
        post: Any = processors.ByteLevel(trim_offsets=True)
        if adds_bos:
            special: Any = [(BOS, own.token_to_id(BOS))]
            post = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=special)
        own.post_processor = post
        own.save(str(tmp_path / "tokenizer.json"))
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": EOS}
        config |= {"bos_token": bos} if bos else {}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        if template is not None:
            (tmp_path / "chat_template.jinja").write_text(template)
        return tmp_path

    return save


NO_BOS = R1.removeprefix("{{ bos_token }}")


@pytest.mark.parametrize(
    ("template", "adds_bos", "bos", "begins", "prefill"),
    [
        (R1, False, BOS, BOS, "<think>\n"),
        (R1, True, BOS, BOS, "<think>\n"),  # a tokenizer that would double it
        (NO_BOS, True, BOS, BOS, "<think>\n"),  # a template that leaves it to the tokenizer
        (NO_BOS, False, None, "", "<think>\n"),  # a model without one, such as Qwen's
        (R1.replace("<think>{{ '\\n' }}", ""), False, BOS, BOS, ""),  # an older template
        (R1.replace("{{ '\\n' }}", ""), False, BOS, BOS, "<think>"),
        (R1 + "{{ '\\n' }}", False, BOS, BOS, "<think>\n\n"),
        (R1 + "</think>{{ '\\n\\n' }}", False, BOS, BOS, ""),  # thinking is switched off
    ],
)
def test_variations_of_the_template(save, template, adds_bos, bos, begins, prefill):
    own = load_chat_template(save(template, adds_bos, bos))
    assert (own.bos_token, own.prefill, own.prefills_think) == (bos, prefill, bool(prefill))
    for begun in ("", "Okay, so", "\nOkay"):
        ids = own.prompt(user("1 + 1?"), begun).token_ids
        assert ids is not None
        whole = own.tokenizer.decode(ids)
        assert whole.startswith(f"{begins}<｜User｜>1 + 1?<｜Assistant｜>")
        assert whole.endswith(prefill + begun)
        assert list(ids).count(own.tokenizer.convert_tokens_to_ids(BOS)) == len(begins) // len(BOS)
    for token in OWN:
        assert refusal(own, user(f"a {token}")).reason == "special_token_in_problem"


def test_a_continued_answer_has_one_bos_in_front(save):
    own = load_chat_template(save(NO_BOS, adds_bos=True))
    assert texts_of(own, user("1"), "ab").startswith(f"{BOS}<｜User｜>")
    with pytest.raises(PromptRefused):
        own.prompt(user("1"), f"a{BOS}b")


@pytest.mark.parametrize(
    ("template", "adds_bos", "expected"),
    [
        (None, False, "no chat template; add chat_template.jinja"),
        ("", False, "no chat template; add chat_template.jinja"),
        ("{% if %}", False, "the chat template fails: "),
        ("{{ raise_exception('not\n today') }}", False, "the chat template fails: not today"),
        ("{{ messages[7].content }}", False, "the chat template fails: "),
        (NO_BOS, False, f"holds 0 tokens {BOS}, expected one; mend its chat template"),
        ("{{ bos_token }}" + R1, False, f"holds 2 tokens {BOS}, expected one; mend its"),
        ("{{ bos_token }}" + R1, True, f"holds 2 tokens {BOS}, expected one; mend its"),
    ],
)
def test_a_template_that_makes_no_good_prompt_is_refused(save, template, adds_bos, expected):
    folder = save(template, adds_bos)
    with pytest.raises(ProgdataError) as caught:
        load_chat_template(folder)
    assert str(caught.value).startswith(f"{folder}: ") and expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, "", "{}", "no json"])
def test_a_folder_without_a_tokenizer_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ProgdataError) as caught:
        load_chat_template(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: no tokenizer that can be read: ")
    assert "\n" not in str(caught.value)


def test_the_hash_is_of_the_templates_text(save):
    first = load_chat_template(save(R1)).sha256
    assert load_chat_template(save(R1)).sha256 == first
    assert load_chat_template(save(R1 + " ")).sha256 != first


def test_a_template_that_refuses_a_system_turn_refuses_the_prompt(save):
    refuses = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
    own = load_chat_template(save(refuses + R1))
    assert texts_of(own, user("1")).startswith(BOS)
    assert refusal(own, [("system", "Be brief."), ("user", "1")]).reason


def test_a_template_that_drops_a_system_turn_refuses_the_prompt(save):
    own = load_chat_template(save(R1.replace(OPENING, "")))
    assert refusal(own, [("system", "Be brief."), ("user", "1")]).reason
