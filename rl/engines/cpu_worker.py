"""What vLLM's workers on a CPU need beside what they are."""

from __future__ import annotations

from typing import Any

import numpy as np


class TakesBackDraws:
    """Extends vLLM's worker (its ``worker_extension_cls``): a seed says what is drawn, however the prompt was read.

    A prompt is read in parts where a pass has no room for all of it, or for all of its pictures. Each part draws a
    token, and all but the last part's is thrown away. vLLM then sets the request's generator back by its offset, which
    generators of a CPU do not have, and dies of it. Here such a generator begins anew. That of a request which was
    interrupted in the middle of its answer, and is read again in parts, goes on instead: the rest of the answer is as
    fair a sample as the other would have been.
    """

    model_runner: Any

    def take_back_draws(self) -> None:
        """Do so from here on."""
        runner, bookkeeping = self.model_runner, self.model_runner._bookkeeping_sync

        def without_offsets(*arguments: Any) -> Any:
            batch = runner.input_batch
            in_vain = np.flatnonzero(runner.discard_request_mask.np[: batch.num_reqs]).tolist()
            generators = {place: batch.generators.pop(place) for place in in_vain if place in batch.generators}
            for place, generator in generators.items():
                if not runner.requests[batch.req_ids[place]].output_token_ids:
                    generator.manual_seed(generator.initial_seed())
            try:
                return bookkeeping(*arguments)
            finally:
                batch.generators.update(generators)

        runner._bookkeeping_sync = without_offsets
