"""Pictures and prompts that do not fit: bounds on pixels, and what becomes of a prompt that is too long."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.models.encoding import Encoder
from rewards.records import Prompt
from rl.config import Config
from rl.config.sections import EngineConfig, TaskConfig
from rl.errors import ConfigError
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.tasks.fitting import Bounds, Room
from rl.tasks.making import make_task
from tests.fixtures.builders import an_image
from tests.fixtures.tiny_families import SEEING_FAMILIES, write_tiny_checkpoint


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(str(SHIPPED_POLICY))


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 10**6), st.integers(0, 10**6))
def test_pixels_stay_within_bounds_and_pictures_in_shape(width: int, height: int, least: int, more: int) -> None:
    most = least + more
    shown = Bounds(least, most).size((width, height))
    pixels = shown[0] * shown[1]
    assert min(shown) >= 1 and pixels <= most
    if least <= width * height <= most:
        assert shown == (width, height)
    elif width * height < least and more > 8 * max(shown):
        assert pixels >= least
    if min(shown) > 100:
        assert shown[0] / shown[1] == pytest.approx(width / height, rel=0.05)


def test_no_bounds_leave_pictures_alone() -> None:
    assert Bounds().size((7, 9000)) == (7, 9000)


@pytest.mark.slow
@pytest.mark.parametrize("family", SEEING_FAMILIES)
def test_tokens_are_counted_without_pixels_as_the_processor_counts_them(family: str, tmp_path: Path) -> None:
    encoder = Encoder(write_tiny_checkpoint(family, tmp_path))
    room = Room(encoder, None, None, "refuse", "")
    for number, sizes in enumerate([[], [(84, 84)], [(60, 200)], [(200, 60), (31, 30)], [(300, 300)] * 3]):
        pictures = tuple(an_image(size=size) for size in sizes)
        prompt = Prompt(str(number), "", "What is it?", pictures, "")
        assert room.length(prompt, sizes) == encoder.head_length(prompt)


SIZES = [(28, 28), (84, 84), (280, 280), (448, 56)]


def configured(folder: Path, engine: dict[str, Any] | None = None, **task: Any) -> Config:
    for width, height in SIZES:
        an_image(size=(width, height)).save(folder / f"{width}.png")
    rows = [{"question": "red = ?", "answer": 1, "images": f"{width}.png"} for width, _ in SIZES]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "heldout.jsonl").write_text(json.dumps({"question": "red = ?", "answer": 1}))
    named = {f"{split}_files": (str(folder / f"{split}.jsonl"),) for split in ("train", "heldout")}
    engine_config = (
        EngineConfig(max_completion_tokens=4, max_model_len=64) if engine is None else EngineConfig(**engine)
    )
    return Config(task=TaskConfig(name="files", shuffle=False, **named, **task), engine=engine_config)


def sizes(config: Config, encoder: Encoder, count: int = len(SIZES)) -> list[tuple[int, int]]:
    task = make_task(config, encoder)
    return [task.prompt("train", index).images[0].size for index in range(count)]


def test_bounds_reach_whoever_reads_a_prompt(encoder: Encoder, tmp_path: Path) -> None:
    config = configured(tmp_path, {"max_model_len": 999}, min_pixels=56 * 56, max_pixels=140 * 140)
    assert sizes(config, encoder) == [(56, 56), (84, 84), (140, 140), (395, 49)]
    prompt = make_task(config, encoder).prompt("train", 2)
    assert encoder.head_length(prompt) - len(encoder.prompt_tokens(prompt)) == (140 // 28) ** 2 - 1


def test_prompts_that_are_too_long_are_refused_before_anything_starts(encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        make_task(configured(tmp_path), encoder)
    said = str(caught.value)
    assert said.startswith(f"{tmp_path}/train.jsonl:2: the prompt has 11") and "engine.max_model_len 64 are 62" in said
    assert "task.max_pixels" in said and "task.long_prompts" in said
    assert sizes(configured(tmp_path), None, 4) == SIZES  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"allowed with task.max_prompt_tokens are 20"):
        make_task(configured(tmp_path, max_prompt_tokens=20), encoder)


def test_prompts_that_are_too_long_are_dropped(encoder: Encoder, tmp_path: Path) -> None:
    assert sizes(configured(tmp_path, long_prompts="drop"), encoder) == [(28, 28), (84, 84), (448, 56), (28, 28)]
    with pytest.raises(ConfigError, match=r"train.jsonl: every row is dropped; the first: .*jsonl:0: the prompt has"):
        make_task(configured(tmp_path, long_prompts="drop", max_prompt_tokens=2), encoder)


def test_pictures_of_prompts_that_are_too_long_shrink(encoder: Encoder, tmp_path: Path) -> None:
    config = configured(tmp_path, long_prompts="shrink")
    task = make_task(config, encoder)
    shown = [task.prompt("train", index) for index in range(4)]
    assert [prompt.images[0].size for prompt in (shown[0], shown[1], shown[3])] == [(28, 28), (84, 84), (448, 56)]
    width, height = shown[2].images[0].size
    assert width == height < 280
    assert 40 < encoder.head_length(shown[2]) <= 62
    with pytest.raises(ConfigError, match=r"train.jsonl:0: the prompt has 94 tokens"):
        make_task(configured(tmp_path, long_prompts="shrink", min_pixels=250 * 250), encoder)
    with pytest.raises(ConfigError, match=r"train.jsonl:0: the prompt has"):
        make_task(configured(tmp_path, long_prompts="shrink", max_prompt_tokens=5), encoder)


@pytest.mark.parametrize("policy", ["refuse", "shrink"])
def test_more_pictures_than_the_engine_takes_are_refused(policy: Any, encoder: Encoder, tmp_path: Path) -> None:
    config = configured(tmp_path, {"max_model_len": 999}, long_prompts=policy)
    rows = {"question": "red = ?", "answer": 1, "images": ["28.png", "84.png"]}
    (tmp_path / "train.jsonl").write_text(json.dumps(rows))
    with pytest.raises(ConfigError, match=r"train.jsonl:0: the prompt has 2 images; allowed with engine"):
        make_task(config, encoder)


def test_an_engine_without_bounds_of_its_own_takes_any_prompt(encoder: Encoder, tmp_path: Path) -> None:
    assert sizes(configured(tmp_path, {"kind": "hf"}), encoder) == SIZES
    with pytest.raises(ConfigError, match=r"train.jsonl:2: "):
        make_task(configured(tmp_path, {"kind": "hf"}, max_prompt_tokens=60), encoder)


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"min_pixels": 9, "max_pixels": 4}, "task.min_pixels is 9: allowed is at most task.max_pixels, 4"),
        ({"max_prompt_tokens": 255}, "task.max_prompt_tokens is 255: allowed with engine.max_model_len 256"),
        ({"max_pixels": 0}, "greater than or equal to 1"),
        ({"long_prompts": "cut"}, "'refuse', 'drop' or 'shrink'"),
        ({"mixture": {"a": 0}}, "greater than 0"),
    ],
)
def test_what_contradicts_is_refused(task: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Config.model_validate({"task": task})
