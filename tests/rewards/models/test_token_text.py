"""Tokens as text, in vocabularies of bytes: every character has its token, and steps are cut where the text says."""

# ruff: noqa: RUF001

from __future__ import annotations

import random
from copy import copy
from functools import cache
from itertools import pairwise
from pathlib import Path
from unicodedata import normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.models.encoding import Encoder
from rewards.models.named_rules import RULES
from rewards.models.step_rule import StepRule, rule_of_expression
from rewards.models.steps import Markers, step_texts
from rewards.models.token_text import TokenReader
from rewards.records import Rollout
from tests.fixtures.byte_level import BYTES, TEXTS, real_vocabulary, trained_vocabulary, write_processor
from tests.fixtures.tiny_families import write_tiny_checkpoint

ANSWERS = "Answer:|Antwort:|Ответ:|答案：|答え：|답:|الجواب:|उत्तर:|คำตอบ:"
KINDS = Markers("【观察】", "【推理】")


@pytest.fixture(scope="module", params=["trained", "real", "bytes alone", "SentencePiece with bytes"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("vocabulary")
    if request.param in ("trained", "real"):
        make = trained_vocabulary if request.param == "trained" else real_vocabulary
        return write_processor(make(), folder)
    return write_tiny_checkpoint("qwen2_5_vl" if request.param == "bytes alone" else "gemma3", folder)


@cache
def opened(checkpoint: str) -> Encoder:
    return Encoder(checkpoint, answer=ANSWERS, markers=KINDS)


def an_encoder(checkpoint: str, rule: StepRule = RULES["line"]) -> Encoder:
    encoder = copy(opened(checkpoint))
    encoder.rule = rule
    return encoder


@cache
def known_bytes(checkpoint: str) -> dict[bytes, int]:
    """A token for each string of bytes that there is one for."""
    encoder = opened(checkpoint)
    special = set(encoder.tokenizer.all_special_ids) | set(encoder.tokenizer.added_tokens_decoder)
    return {bytes_of(encoder, token): token for token in range(len(encoder.tokenizer)) if token not in special}


def bytes_of(encoder: Encoder, token: int) -> bytes:
    """The bytes that a token stands for, from its name in the vocabulary."""
    name = encoder.tokenizer.convert_ids_to_tokens(token)
    if name.startswith("<0x"):
        return bytes([int(name[3:5], 16)])
    if all(character in BYTES for character in name) and "▁" not in name:
        return bytes(BYTES[character] for character in name)
    return name.replace("▁", " ").encode()


def written(encoder: Encoder, tokens: list[int]) -> Rollout:
    spans = encoder.steps(tokens)
    return Rollout("p", "", 0, tuple(tokens), (), encoder.decode(tokens), spans, 1.0, "stop", 0)


def other_tokens(checkpoint: str, text: str, seed: int) -> list[int]:
    """The text in tokens as no tokenizer would choose them: cut between any two bytes, within characters, too."""
    known, whole, draw = known_bytes(checkpoint), text.encode(), random.Random(seed)
    tokens = list[int]()
    place = 0
    while place < len(whole):
        size = draw.choice([size for size in range(1, 8) if whole[place : place + size] in known])
        tokens.append(known[whole[place : place + size]])
        place += size
    return tokens


@pytest.mark.parametrize("language", TEXTS)
def test_each_character_belongs_to_the_token_that_completes_it(checkpoint: str, language: str) -> None:
    encoder = an_encoder(checkpoint)
    tokens = encoder.plain_tokens(TEXTS[language])
    read = encoder.read(tokens)
    assert normalize("NFC", read.text) == normalize("NFC", TEXTS[language]) == normalize("NFC", encoder.decode(tokens))
    so_far = b""
    for token, end in zip(tokens, read.ends, strict=True):
        so_far += bytes_of(encoder, token)
        assert end == len(so_far.decode(errors="ignore")), (token, so_far)
    assert read.ends[-1] == len(read.text)


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.parametrize("rule", RULES)
def test_the_tokens_of_a_text_do_not_decide_its_steps(checkpoint: str, language: str, rule: str) -> None:
    """Tokens that end inside of characters, and at other places of the text, give the same steps."""
    encoder = an_encoder(checkpoint, RULES[rule])
    usual = encoder.plain_tokens(TEXTS[language])
    expected = [text.strip() for text in step_texts(written(encoder, usual), encoder.decode)]
    text = encoder.decode(usual)
    for seed in range(5):
        tokens = other_tokens(checkpoint, text, seed)
        read, rollout = encoder.read(tokens), written(encoder, tokens)
        assert read.text == text == encoder.decode(tokens)
        assert list(read.ends) == sorted(read.ends) and read.ends[-1] == len(text)
        assert "\N{REPLACEMENT CHARACTER}" not in "".join(step_texts(rollout, encoder.decode))
        assert "".join(map(str.strip, step_texts(rollout, encoder.decode))) == "".join(expected)
        assert len(rollout.steps) == len(expected)


CUTS: list[tuple[str, StepRule, list[str]]] = [
    ("Russian", RULES["line"], ["Шаг 1: я вижу красный круг.", "Шаг 2: их три, т.е. больше двух."]),
    ("Russian", RULES["sentence"], ["Шаг 1: я вижу красный круг.", "Шаг 2: их три, т.е. больше двух."]),
    ("Chinese", RULES["line"], ["【观察】图中有一个红色的圆。它的直径是三厘米。", "【推理】所以面积是七。"]),
    ("Chinese", RULES["sentence"], ["【观察】图中有一个红色的圆。", "它的直径是三厘米。", "【推理】所以面积是七。"]),
    (
        "Chinese",
        rule_of_expression("。"),
        ["【观察】图中有一个红色的圆。", "它的直径是三厘米。", "【推理】所以面积是七。"],
    ),
    (
        "Chinese",
        rule_of_expression("(?=【)"),
        ["【观察】图中有一个红色的圆。它的直径是三厘米。", "【推理】所以面积是七。\n答案：七"],
    ),
    ("Japanese", RULES["numbered"], ["手順1：赤い丸があります。", "手順2：直径は3です。"]),
    ("Korean", RULES["sentence"], ["빨간 원이 하나 있습니다.", "지름은 3입니다.", "따라서 넓이는 7입니다."]),
    ("Arabic", RULES["sentence"], ["الخطوة 1: هناك دائرة حمراء.", "الخطوة ٢: هل القطر ثلاثة؟", "نعم."]),
    ("Arabic", RULES["numbered"], ["الخطوة 1: هناك دائرة حمراء.", "الخطوة ٢: هل القطر ثلاثة؟ نعم."]),
    ("Hindi", RULES["sentence"], ["चित्र में एक लाल वृत्त है।", "उसका व्यास तीन है।"]),
    ("Hindi", rule_of_expression("।"), ["चित्र में एक लाल वृत्त है।", "उसका व्यास तीन है।"]),
    ("Thai", RULES["line"], ["ขั้นตอนที่ 1: มีวงกลมสีแดง", "ขั้นตอนที่ 2: กว้างสาม"]),
    ("emoji", rule_of_expression("✅"), ["🔴 is red ✅", "👩‍👩‍👧 are three ✅", "🇩🇪🟦 done\n\nAnswer: 🟦"]),
    ("emoji", RULES["blank_line"], ["🔴 is red ✅ 👩‍👩‍👧 are three ✅ 🇩🇪🟦 done"]),
    ("combining", RULES["blank_line"], ["e\u0301a\u0308 is n\u0303.", "Z\u0351\u036bo\u0302 too\u0304."]),
    ("mathematics", RULES["blank_line"], ["∠ABC ≈ 60°, so √3⁄2 ≤ x.", "∴ x ∈ ℝ⁺"]),
    ("mathematics", rule_of_expression("∴"), ["∠ABC ≈ 60°, so √3⁄2 ≤ x.\n\n∴", "x ∈ ℝ⁺\n\nAnswer: ½"]),
    ("German", RULES["numbered"], ["Schritt 1: Ein rötlicher Kreis – größer als 5 €.", "Schritt 2: Überprüfen."]),
    ("English", RULES["sentence"], ["I see a red circle.", "It is 2.5 cm wide.", "So the area is 4.9 cm², isn't it?"]),
]


@pytest.mark.parametrize(("language", "rule", "expected"), CUTS)
def test_texts_of_the_world_are_cut_where_they_say(
    checkpoint: str, language: str, rule: StepRule, expected: list[str]
) -> None:
    encoder = an_encoder(checkpoint, rule)
    rollout = written(encoder, [*encoder.plain_tokens(TEXTS[language]), encoder.end_token])
    steps = [normalize("NFD", text.strip()) for text in step_texts(rollout, encoder.decode)]
    assert steps == [normalize("NFD", text) for text in expected]


def test_markers_of_several_tokens_are_found(checkpoint: str) -> None:
    encoder = an_encoder(checkpoint)
    spans = encoder.steps(encoder.plain_tokens(TEXTS["Chinese"]))
    assert [span.kind for span in spans] == ["perception", "reasoning"]


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.parametrize("rule", RULES)
def test_a_step_stays_where_it_ended_whatever_is_written_on(checkpoint: str, language: str, rule: str) -> None:
    """What the annotator continues, and a judge reads up to, is cut into the same steps again."""
    encoder = an_encoder(checkpoint, RULES[rule])
    tokens = encoder.plain_tokens(TEXTS[language])
    spans = encoder.steps(tokens)
    assert spans and all(before.end <= after.start for before, after in pairwise(spans))
    for k, span in enumerate(spans, start=1):
        prefix = tokens[: span.end]
        assert encoder.steps(prefix) == spans[:k]
        for length in range(span.end, len(tokens)):
            assert encoder.steps(tokens[:length])[: k - 1] == spans[: k - 1]
        # Where a step ends by what follows, another text goes on with the step.
        if any(gap.end == len(encoder.decode(prefix)) for gap in RULES[rule].gaps(encoder.decode(prefix))):
            assert encoder.steps([*prefix, *encoder.plain_tokens("Другое 另外 😀")])[:k] == spans[:k]


@settings(max_examples=200)
@given(st.lists(st.integers(0, 255), max_size=24))
def test_bytes_that_are_no_characters_lose_nothing(values: list[int]) -> None:
    """Garbage has one place a character, too, and the text is the decoder's own."""

    def decode(tokens: list[int]) -> str:
        return bytes(tokens).decode(errors="replace")

    for before in ([], [ord("1")]):
        read = TokenReader(decode, before).read(values)
        assert read.text == decode(values)
        assert list(read.ends) == sorted(read.ends) and len(read.ends) == len(values)
        assert not values or read.ends[-1] == len(read.text)


@settings(max_examples=100)
@given(st.text(max_size=12))
def test_any_text_in_bytes(text: str) -> None:
    raw = text.encode(errors="replace")
    read = TokenReader(lambda tokens: bytes(tokens).decode(errors="replace"), [ord("1")]).read(list(raw))
    if "\N{REPLACEMENT CHARACTER}" not in text:
        assert list(read.ends) == [len(raw[:end].decode(errors="ignore")) for end in range(1, len(raw) + 1)]


def test_a_first_word_loses_its_space_and_no_other_does() -> None:
    """As SentencePiece decodes: the space before the first word of a text goes."""
    words = {0: "▁Step", 1: "▁2", 2: ":", 3: "", 4: "1"}

    def decode(tokens: list[int]) -> str:
        return "".join(words[token] for token in tokens).replace("▁", " ").removeprefix(" ")

    read = TokenReader(decode, [4]).read([3, 0, 1, 2, 3, 0])
    assert (read.text, read.ends) == ("Step 2: Step", (0, 4, 6, 7, 7, 12))
    assert TokenReader(decode, [4]).read([]).text == ""


def test_special_tokens_may_separate_and_the_end_is_no_text(tmp_path: Path) -> None:
    encoder = Encoder(write_processor(trained_vocabulary(), tmp_path), rule_of_expression(r"<\|step\|>"), None)
    encoder.tokenizer.add_tokens(["<|step|>"], special_tokens=True)
    step = encoder.tokenizer.convert_tokens_to_ids("<|step|>")
    padding = encoder.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    first, second = encoder.plain_tokens("首先"), encoder.plain_tokens("然后")
    tokens = [*first, step, *second, step, encoder.end_token, padding]
    rollout = written(encoder, tokens)
    assert [(span.start, span.end) for span in rollout.steps] == [
        (0, len(first) + 1),
        (len(first) + 1, len(tokens) - 2),
    ]
    assert step_texts(rollout, encoder.decode) == ["首先", "然后"]
    assert [tokens[i] for i, mark in enumerate(encoder.separators(tokens)) if mark] == [step, step]
