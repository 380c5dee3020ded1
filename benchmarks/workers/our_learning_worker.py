"""Training by a recipe's own settings for so many seconds: `our_learning_worker.py JOB`."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from learning_protocol import Lesson, Outcome, read_job, serve

from vernacular.models.weights import load_decoder
from vernacular.tokens.packing import PackedRows
from vernacular.tokens.shards import ShardReader
from vernacular.tokens.tokenizer import Tokenizer
from vernacular.training.configuration import PretrainConfiguration
from vernacular.training.objectives.next_token import NextToken
from vernacular.training.trainer import Trainer

# After one to warm up, two short runs tell how many steps fit into the time.
TRIAL_STEPS = (20, 40, 120)
EVERYTHING = 1 << 40


def main() -> None:
    job = read_job()
    tokenizer = Tokenizer.load(job.weights)
    heldout = ShardReader.open(job.tokens, "heldout")

    def trainer(steps: int, folder: str) -> Trainer:
        warmup = min(job.settings["optimiser"]["warmup_steps"], steps)
        settings = {
            **job.settings,
            "steps": steps,
            "threads": job.threads,
            "heldout_every": None,
            "heldout_tokens": 1,
            "checkpoint_every": EVERYTHING,
            "optimiser": {**job.settings["optimiser"], "warmup_steps": warmup},
        }
        configuration = PretrainConfiguration.model_validate(settings)
        objective = NextToken(configuration, {"tokens": job.tokens}, "stream", tokenizer=tokenizer)
        return Trainer(configuration, objective, load_decoder(job.weights), Path(folder), name="benchmark")

    def seconds_of(run: Trainer) -> float:
        begun = time.perf_counter()
        run.fit()
        return time.perf_counter() - begun

    def learn(lesson: Lesson) -> Outcome:
        with tempfile.TemporaryDirectory() as folder:
            _, few, many = (seconds_of(trainer(steps, f"{folder}/{steps}")) for steps in TRIAL_STEPS)
            each = (many - few) / (TRIAL_STEPS[2] - TRIAL_STEPS[1])
            once = max(0.0, few - TRIAL_STEPS[1] * each)
            steps = int((lesson.seconds - once) / each)
            whole = trainer(steps, f"{folder}/whole")
            seconds = seconds_of(whole)
            return Outcome(steps, seconds, heldout_loss(whole))

    def heldout_loss(run: Trainer) -> float:
        """Nats per target over the peer's held-out rows, which are windows over all languages as one text."""
        rows = PackedRows(heldout, run.configuration.sequence_length)
        run.decoder.eval()
        sums = run.learner.score(rows, range(len(rows)))
        return sums.nats / sums.weight

    serve(learn)


if __name__ == "__main__":
    main()
