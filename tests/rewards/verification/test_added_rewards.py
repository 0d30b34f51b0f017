"""Rewards that ship, against TRL's functions and by hand."""

from __future__ import annotations

import itertools

import pytest
from trl.rewards import get_repetition_penalty_reward, get_soft_overlong_punishment

from rewards.verification import added_rewards
from rewards.verification.added_rewards import formatted, overlong, repetition
from rewards.verification.verdict import Answer
from rl.config import Config
from rl.errors import ConfigError
from rl.tasks.making import make_added_rewards, make_verifier
from tests.fixtures.builders import a_prompt


def said(text: str = "", tokens: int = 0) -> Answer:
    return Answer(text, a_prompt(), (7,) * tokens)


@pytest.mark.parametrize(("most", "buffer"), [(100, 20), (20480, 4096), (10, 10), (7, 1)])
def test_overlong_is_the_punishment_of_dapo(most: int, buffer: int) -> None:
    theirs = get_soft_overlong_punishment(most, buffer)
    for tokens in {0, 1, most - buffer, most - buffer + 1, most - 1, most, most + 1, 2 * most}:
        assert overlong(said(tokens=tokens), most, buffer) == pytest.approx(theirs([[0] * tokens])[0]), tokens


TOKENS = [(1, 2, 3, 4), (5, 5, 5, 5, 5), (1, 2, 1, 2, 1, 2), (7,), (), tuple(range(50)) * 2]


@pytest.mark.parametrize(("tokens", "length"), list(itertools.product(TOKENS, (1, 2, 3, 4))))
def test_repetition_is_the_penalty_of_trl(tokens: tuple[int, ...], length: int) -> None:
    theirs = get_repetition_penalty_reward(ngram_size=length, max_penalty=-1.0)
    assert repetition(Answer("", a_prompt(), tokens), length) == pytest.approx(theirs([list(tokens)])[0])


FORM = Config().task.format


@pytest.mark.parametrize(
    ("text", "expression", "value"),
    [
        ("<think>\na\n</think>\n<answer>4</answer>", FORM, 1),
        ("<think></think><answer></answer>\n", FORM, 1),
        ("<think>a</think> 4", FORM, 0),
        ("<think>a</think><answer>4</answer> and so on", FORM, 0),
        ("first <think>a</think><answer>4</answer>", FORM, 0),
        ("<answer>4</answer><think>a</think>", FORM, 0),
        ("", FORM, 0),
        (r"so \boxed{4}", r".*\\boxed\{.+\}", 1),
        (r"so boxed{4}", r".*\\boxed\{.+\}", 0),
    ],
)
def test_a_format_is_of_the_whole_completion(text: str, expression: str, value: float) -> None:
    assert formatted(said(text), expression) == value


def test_a_form_that_would_take_for_ever_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(added_rewards, "FORM_SECONDS", 0.2)
    assert formatted(said("a" * 60), "(a|a)*b") == 0 and formatted(said("a" * 9 + "b"), "(a|a)*b") == 1


@pytest.mark.parametrize("key", ["format", "answer_marker", "steps", "perception_marker"])
@pytest.mark.parametrize("expression", ["(", "a{2,1}", "a{99999999999999999999}", "(" * 2000 + ")" * 2000, "[z-a]"])
def test_an_expression_that_is_none_is_refused_in_one_line(key: str, expression: str) -> None:
    with pytest.raises(ValueError, match="input should be a regular expression"):
        config(**{key: expression})


def config(**task: object) -> Config:
    return Config.model_validate({"task": task, "engine": {"max_completion_tokens": 50}})


def nothing_but_letters(completion: str, reference: str) -> float:
    return -float(len(completion))


def test_rewards_are_made_by_name() -> None:
    mine = f"{__name__}:nothing_but_letters"
    made = make_added_rewards(config(rewards={"overlong": 1, "format": 0.5, "repetition": 0.25, mine: 0.1}))
    assert [(reward.name, reward.weight) for reward in made] == [
        ("overlong", 1),
        ("format", 0.5),
        ("repetition", 0.25),
        ("nothing_but_letters", 0.1),
    ]
    answer = said("a b a b a b", tokens=45)
    assert [reward(answer) for reward in made] == [-0.5, 0, pytest.approx(1 / 43 - 1), -11]
    assert make_added_rewards(config(rewards={"overlong": 1}, overlong_tokens=50))[0](said(tokens=25)) == -0.5


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"rewards": {"overlog": 1}}, "task.rewards: 'overlog' is not one of overlong, format, repetition"),
        ({"rewards": {"nowhere:f": 1}}, "task.rewards: 'nowhere:f' cannot be imported"),
        ({"rewards": {"overlong": "much"}}, "task.rewards.overlong"),
        ({"rewards": {"overlong": 1}, "overlong_tokens": 51}, "task.overlong_tokens is 51: allowed is at most"),
        ({"format": "("}, "regular expression"),
        ({"weights": {"format": 0.5}}, "task.weights is {'format': 0.5}: allowed with task.verifier exact is nothing"),
        ({"weights": {"format": -1}}, "greater than or equal to 0"),
    ],
)
def test_what_is_no_reward_is_one_line(task: dict[str, object], words: str) -> None:
    with pytest.raises((ConfigError, ValueError)) as caught:
        made = config(**task)
        make_verifier(made)
        make_added_rewards(made)
    assert words in str(caught.value)
