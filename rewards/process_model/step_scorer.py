"""The network of the MPRM: a vision-language backbone, one pass over prompt and answer, and a head at each step's end.

`token` (VisualPRM, arXiv 2503.10291, section 4): the backbone's own logits of '+' against '-'.
`value` (BaseReward, arXiv 2509.16127): two linear layers with SiLU between them.
`beta`: the same with two outputs, the logit of the mean and the log of the concentration of a Beta distribution of the
    step's success rate, so that a score comes with how sure it is.

On top of a head's log-odds the score can use what the same pass gives for free: how likely the model itself finds what
was written (as an implicit process reward model does, arXiv 2412.01981),

    log-odds_j + u * mean log p(tokens of step j) + v * mean log p(tokens up to the end of step j).

A step's end has few layers left to compare what was written with what it would have expected; the likelihood is that
comparison. Means, in nats a token, are of one size however long an answer is. What they are worth is decided by the
Monte-Carlo labels, through u and v, learned from 0 and never negative: no text is right because it is unlikely.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rewards.models.encoding import Encoder
from rewards.models.logit_rule import logit_rule
from rewards.models.token_tree import pack_batch
from rewards.process_model.complexity import image_features
from rewards.process_model.config import Head
from rewards.process_model.reading import Reading


@dataclass(frozen=True)
class ScorerInputs:
    """A batch of readings on the model's device.

    Attributes:
        model: Keyword arguments of the backbone's forward pass.
        completion_ids: The tokens after the heads (B, T), right-padded.
        rows, columns: Where the S scores are read: row of the batch, and place among the completion's tokens.
        begins: Where among them the step of each score begins.
    """

    model: dict[str, Any]
    completion_ids: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    begins: torch.Tensor


def scorer_inputs(
    encoder: Encoder, readings: Sequence[Reading], device: torch.device | str, packed: bool = False
) -> ScorerInputs:
    """Encode readings for a `StepScorer`; packed (`rewards.models.token_tree`), those of one head share a row."""
    prompts, heads = [reading.prompt for reading in readings], [reading.head for reading in readings]
    answers = [reading.token_ids for reading in readings]
    batch = pack_batch(encoder, prompts, answers, heads) if packed else encoder.batch(prompts, answers, heads)
    rows = [row for row, reading in enumerate(readings) for _ in reading.ends]
    columns = [end for reading in readings for end in reading.ends]
    begins = [begin for reading in readings for begin in (0, *(end + 1 for end in reading.ends))[:-1]]
    places = (torch.tensor(values, dtype=torch.long, device=device) for values in (rows, columns, begins))
    return ScorerInputs(batch.model_inputs(device), batch.completion_ids.to(device), *places)


class StepScorer(torch.nn.Module):
    """Backbone and head as one module, so that data-parallel wrappers see all of it.

    Args:
        backbone: A Transformers image-text-to-text model, or a language model.
        head: Which head.
        signs: Tokens of the `token` head's two verdicts, right and wrong.
        likelihood: Whether scores use the likelihood of the text. Costs the logits of all tokens after the prompt.
        seed: Of a new head's weights.
    """

    def __init__(self, backbone: Any, head: Head, signs: tuple[int, int], likelihood: bool, seed: int = 0) -> None:
        super().__init__()
        self.backbone = backbone
        hidden = backbone.config.get_text_config().hidden_size
        if head != "token":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.head = TwoLayerHead(hidden, 2 if head == "beta" else 1).to(backbone.device)
        if likelihood:
            self.likelihood_weights = torch.nn.Parameter(torch.zeros(2, device=backbone.device))
        self._kind, self._signs, self._likelihood = head, list(signs), likelihood
        self._rule = logit_rule(backbone)

    def forward(self, inputs: ScorerInputs) -> torch.Tensor:
        """(S, 1) log-odds of each step being right; of `beta` (S, 2), the second the log of the concentration."""
        hidden = self.backbone.base_model(**inputs.model).last_hidden_state
        start = hidden.shape[1] - inputs.completion_ids.shape[1]
        states = hidden[inputs.rows, start + inputs.columns]
        outputs = self._token_odds(states.float()) if self._kind == "token" else self.head(states)
        if self._likelihood:
            extra = self._mean_log_likelihoods(hidden[:, start - 1 : -1], inputs) @ self.likelihood_weights
            outputs = torch.cat([outputs[:, :1] + extra.unsqueeze(1), outputs[:, 1:]], dim=1)
        return outputs

    def image_features(self, images: dict[str, torch.Tensor]) -> torch.Tensor:
        """See `rewards.process_model.complexity.image_features`."""
        return image_features(self.backbone, images)

    def _token_odds(self, states: torch.Tensor) -> torch.Tensor:
        """Log-odds of the two verdicts as the next token, (S, 1)."""
        head = self.backbone.get_output_embeddings()
        logits = states @ head.weight[self._signs].float().T
        if head.bias is not None:
            logits = logits + head.bias[self._signs].float()
        right, wrong = self._rule(logits).unbind(-1)
        return (right - wrong).unsqueeze(1)

    def _mean_log_likelihoods(self, hidden: torch.Tensor, inputs: ScorerInputs) -> torch.Tensor:
        """Mean log p of the tokens of each step, and of those up to its end (S, 2), in nats, from the states before the
        tokens."""
        logprobs = self._rule(self.backbone.get_output_embeddings()(hidden).float()).log_softmax(-1)
        tokens = logprobs.gather(2, inputs.completion_ids.unsqueeze(2)).squeeze(2)
        before = torch.nn.functional.pad(tokens.cumsum(1), (1, 0))  # of the tokens before each place
        rows, begins, ends = inputs.rows, inputs.begins, inputs.columns + 1
        so_far = before[rows, ends]
        return torch.stack([(so_far - before[rows, begins]) / (ends - begins), so_far / ends], dim=1)


class TwoLayerHead(torch.nn.Module):
    """Two linear layers with SiLU between them (BaseReward, arXiv 2509.16127, section 3.2): (…, H) to (…, outputs).

    Computes in float32 whatever the backbone's number format. The last layer starts at 0, so that a new head says the
    same of everything.
    """

    def __init__(self, hidden_size: int, outputs: int = 1) -> None:
        super().__init__()
        self.hidden = torch.nn.Linear(hidden_size, hidden_size)
        self.out = torch.nn.Linear(hidden_size, outputs)
        torch.nn.init.zeros_(self.out.weight)
        torch.nn.init.zeros_(self.out.bias)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.out(torch.nn.functional.silu(self.hidden(states.to(self.hidden.weight.dtype))))
