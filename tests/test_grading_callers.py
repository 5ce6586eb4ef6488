"""Grading from wherever it is called: threads, loops, notebooks, trainers, scripts of any kind."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from grading_processes import MARK, PAIRS, PATIENCE, Script, marked, wait_until
from shared_data import TOKENIZER, needs_shared_data

from progdata.verifiers import grade, grade_all

GRADE = r"""
from progdata.verifiers import grade
assert grade(gold=r"\frac{\pi}{2}", completion=r"\boxed{\pi/2}").status == "correct"
assert grade(gold=r"2\pi", completion=r"\boxed{6.28}").status == "wrong"
print("graded")
"""


def statuses(n: int) -> list[str]:
    """The statuses of the pairs, made new by a number."""
    shifted = [(f"{gold}+{n}y", f"{answer}+{n}y") for gold, answer, _ in PAIRS[:4]]
    return [grade(gold=gold, completion=rf"\boxed{{{answer}}}").status for gold, answer in shifted]


EXPECTED = [status for _, _, status in PAIRS[:4]]


def test_from_many_threads():
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(statuses, range(16))) == [EXPECTED] * 16


def test_from_threads_of_a_running_loop():
    async def main() -> list[list[str]]:
        return await asyncio.gather(*(asyncio.to_thread(statuses, n) for n in range(20, 28)))

    assert asyncio.run(main()) == [EXPECTED] * 8


def test_from_a_coroutine():
    async def main() -> list[str]:
        return statuses(30)

    assert asyncio.run(main()) == EXPECTED


def test_from_a_daemon_thread():
    found: list[list[str]] = []
    thread = threading.Thread(target=lambda: found.append(statuses(40)), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert found == [EXPECTED]


def test_from_a_daemon_thread_that_never_ends(tmp_path: Path):
    """Its program ends all the same, and so do the grading processes."""
    script = tmp_path / "script.py"
    script.write_text(
        "import threading\n"
        "from progdata.verifiers import grade\n"
        "graded = threading.Event()\n"
        "def loop():\n"
        "    for n in range(10**9):\n"
        "        grade(gold=f'x+{n}', completion=f'$2+x+{n}$')\n"
        "        if n == 20: graded.set()\n"
        "threading.Thread(target=loop, daemon=True).start()\n"
        "graded.wait()\n"
    )
    caller = Script(script)
    caller.output()
    wait_until(lambda: not caller.processes())


def test_from_python_c():
    assert Script("-c", GRADE).output() == "graded\n"


def test_from_a_script_without_a_guard(tmp_path: Path):
    """It is run once: the grading processes do not import their caller's main module."""
    script, runs = tmp_path / "script.py", tmp_path / "runs"
    script.write_text(f"open({str(runs)!r}, 'a').write('run ')\n" + GRADE)
    assert Script(script).output() == "graded\n"
    assert runs.read_text() == "run "


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_from_the_processes_of_a_pool(tmp_path: Path, method: str):
    (tmp_path / "work.py").write_text(
        "from progdata.verifiers import grade\n"
        "def status(n):\n"
        "    return grade(gold=f'{n}x+2', completion=f'$2+{n}x$').status\n"
    )
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, work\n"
        "if __name__ == '__main__':\n"
        f"    with multiprocessing.get_context('{method}').Pool(2) as pool:\n"
        "        assert pool.map(work.status, range(2, 22)) == ['correct'] * 20\n"
        "    print('graded')\n"
    )
    caller = Script(script)
    assert caller.output() == "graded\n"
    wait_until(lambda: not caller.processes())


@pytest.mark.parametrize("closed", ["<&-", "<&- 2>&-", "<&- >&- 2>&-"])
def test_with_standard_streams_closed(closed: str, tmp_path: Path):
    code = f"{GRADE}\nopen({str(tmp_path / 'done')!r}, 'w').close()"
    command = f'exec "$0" -c "$1" {closed}'
    subprocess.run(["bash", "-c", command, sys.executable, code], check=True, timeout=PATIENCE)
    assert (tmp_path / "done").exists()


SHADOWED = ("json", "sympy", "math_verify", "psutil", "antlr4", "struct", "selectors", "gmpy2")


@pytest.fixture
def shadowing(tmp_path: Path) -> Path:
    """A folder with modules that are named like others, and say so when they are imported."""
    folder = tmp_path / "shadowing"
    folder.mkdir()
    for name in SHADOWED:
        text = f"open({str(tmp_path)!r} + '/imported', 'a').write('{name} ')\n"
        (folder / f"{name}.py").write_text(text)
    return folder


def test_in_a_folder_with_modules_of_other_names(shadowing: Path):
    script = shadowing.parent / "script.py"
    script.write_text(GRADE)
    assert Script(script, cwd=shadowing).output() == "graded\n"
    assert Script("-P", "-c", GRADE, cwd=shadowing).output() == "graded\n"
    assert not (shadowing.parent / "imported").exists()


@pytest.mark.parametrize("how", ["script", "module", "-c"])
def test_from_a_script_beside_modules_of_other_names(shadowing: Path, how: str):
    """Only what the caller itself does not import can lie there."""
    for name in ("json", "struct", "selectors", "gmpy2", "sympy", "antlr4"):
        (shadowing / f"{name}.py").unlink()
    (shadowing / "script.py").write_text(GRADE)
    command = {"script": [shadowing / "script.py"], "module": ["-m", "script"], "-c": ["-c", GRADE]}
    assert Script(*command[how], cwd=shadowing).output() == "graded\n"
    assert not (shadowing.parent / "imported").exists()


def test_warnings_as_errors_change_no_verdict():
    """Those of the caller stay with the caller."""
    assert Script("-c", GRADE, PYTHONWARNINGS="error").output() == "graded\n"


def test_in_a_folder_that_is_gone(tmp_path: Path):
    folder = tmp_path / "gone"
    folder.mkdir()
    code = f"import os\nos.rmdir({str(folder)!r})\n{GRADE}"
    assert Script("-P", "-c", code, cwd=folder).output() == "graded\n"


@pytest.mark.slow
def test_under_pytest_xdist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "test_many.py").write_text(
        "import pytest\n"
        "from progdata.verifiers import grade\n"
        "@pytest.mark.parametrize('n', range(60))\n"
        "def test_grade(n):\n"
        "    right, wrong = f'$2+{n}x$', f'$2+{n}y$'\n"
        "    assert grade(gold=f'{n}x+2', completion=right).status == 'correct'\n"
        "    assert grade(gold=f'{n + 1}x+2', completion=wrong).status == 'wrong'\n"
    )
    monkeypatch.setenv(MARK, "xdist")
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout
    assert "60 passed" in done.stdout
    wait_until(lambda: not marked("xdist"))


@pytest.mark.slow
def test_in_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import nbformat
    from jupyter_client.kernelspec import NATIVE_KERNEL_NAME
    from nbclient import NotebookClient

    monkeypatch.setenv(MARK, "notebook")
    cells = [
        GRADE,
        "import asyncio\n"
        "pair = dict(gold='x+3', completion='$3+x$')\n"
        "found = await asyncio.gather(*(asyncio.to_thread(grade, **pair) for _ in range(4)))\n"
        "print([verdict.status for verdict in found])",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in cells])
    NotebookClient(notebook, timeout=int(PATIENCE), kernel_name=NATIVE_KERNEL_NAME).execute(
        cwd=str(tmp_path)
    )
    printed = [cell["outputs"][0]["text"] for cell in notebook.cells]
    assert printed == ["graded\n", "['correct', 'correct', 'correct', 'correct']\n"]
    wait_until(lambda: not marked("notebook"))


@pytest.mark.slow
@needs_shared_data
def test_as_a_reward_in_a_trainer(tmp_path: Path):
    from datasets import Dataset
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
        )
    )
    model.save_pretrained(tmp_path / "model")
    rewarded: list[float | None] = []

    def reward(completions: Sequence[str], answer: Sequence[str], **_: Any) -> list[float | None]:
        boxed = [f"{own}</think>\\boxed{{x+{n}}}" for n, own in enumerate(completions)]
        verdicts = grade_all(golds=answer, completions=boxed)
        rewarded.extend(float(own.correct) for own in verdicts)
        return rewarded[-len(completions) :]

    trainer = GRPOTrainer(
        model=str(tmp_path / "model"),
        reward_funcs=reward,
        args=GRPOConfig(
            output_dir=str(tmp_path / "out"),
            max_steps=1,
            per_device_train_batch_size=2,
            num_generations=2,
            max_completion_length=8,
            use_cpu=True,
            bf16=False,
            report_to=[],
            save_strategy="no",
        ),
        train_dataset=Dataset.from_list([{"prompt": "1+x is", "answer": "$1+x$"}] * 2),
        processing_class=tokenizer,
    )
    trainer.train()
    assert rewarded == [0.0, 1.0]
