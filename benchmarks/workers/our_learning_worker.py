"""Training by a recipe's own settings for so many seconds: `our_learning_worker.py JOB`."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from learning_protocol import Lesson, Outcome, read_job, serve

from vernacular.models.decoder import Decoder
from vernacular.models.weights import load_decoder
from vernacular.training.configuration import PretrainConfiguration
from vernacular.training.objectives.next_token import NextToken
from vernacular.training.trainer import Trainer

# After one to warm up, two short runs tell how many steps fit into the time; a little is left for what they do not see.
TRIAL_STEPS = (20, 40, 120)
OF_THE_TIME = 0.97
EVERYTHING = 1 << 40


def main() -> None:
    job = read_job()

    def trainer(steps: int, folder: str, decoder: Decoder | None = None, heldout_tokens: int = 1) -> Trainer:
        warmup = min(job.settings["optimiser"]["warmup_steps"], steps)
        settings = {
            **job.settings,
            "steps": steps,
            "threads": job.threads,
            "heldout_every": None,
            "heldout_tokens": heldout_tokens,
            "checkpoint_every": EVERYTHING,
            "optimiser": {**job.settings["optimiser"], "warmup_steps": warmup},
        }
        configuration = PretrainConfiguration.model_validate(settings)
        objective = NextToken(configuration, job.tokens, "stream")
        decoder = decoder or load_decoder(job.weights)
        return Trainer(configuration, objective, decoder, Path(folder), name="benchmark")

    def seconds_of(run: Trainer) -> float:
        begun = time.perf_counter()
        run.fit()
        return time.perf_counter() - begun

    def learn(lesson: Lesson) -> Outcome:
        with tempfile.TemporaryDirectory() as folder:
            _, few, many = (seconds_of(trainer(steps, f"{folder}/{steps}")) for steps in TRIAL_STEPS)
            each = (many - few) / (TRIAL_STEPS[2] - TRIAL_STEPS[1])
            once = max(0.0, few - TRIAL_STEPS[1] * each)
            steps = int((OF_THE_TIME * lesson.seconds - once) / each)
            whole = trainer(steps, f"{folder}/whole")
            seconds = seconds_of(whole)
            loss = trainer(1, f"{folder}/heldout", whole.decoder, EVERYTHING).score_heldout()["heldout_loss"]
            assert loss is not None
            return Outcome(steps, seconds, loss)

    serve(learn)


if __name__ == "__main__":
    main()
