"""`pretrain`: token shards become weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from vernacular.foundation.artifact import LOGS
from vernacular.lifecycle.evaluator import InTraining, draw_scores, evaluators, require_both
from vernacular.lifecycle.stage import WEIGHTS, Reads, Stage, Workplace
from vernacular.lifecycle.stages.tokenize import TOKENIZER
from vernacular.models.family import configure
from vernacular.training.configuration import PretrainConfiguration

# The tokenizer may not be trained yet, and no shape is refused for its size.
_ANY_VOCABULARY = 1


class Pretrain(Stage, PretrainConfiguration):
    """Train a new decoder, or given weights further."""

    do: Literal["pretrain"]
    continues: ClassVar[bool] = True
    shared: ClassVar[bool] = True
    tokens: Annotated[str | tuple[str, ...], Reads("token shards", elsewhere=True, made_by=("tokenize",))] = Field(
        description="a tokenize stage, its folder, or an address that this was copied to, such as s3://bucket/tokens;"
        " or a list of them, all of one tokenizer, which are read as one"
    )
    weights: Annotated[str | None, Reads("weights to begin with", made_by=WEIGHTS)] = Field(
        None, description="a pretrain or sft stage, or a weights folder; leave out to train a new model"
    )
    evaluation_tasks: Annotated[str | None, Reads("tasks scored while it trains", made_by=("curate",))] = Field(
        None, description="a curate stage whose source gives tasks, or a folder of harness YAML; needs `evaluate`"
    )
    evaluate: InTraining | None = Field(
        None, description="score evaluation_tasks every so many steps, e.g. {every: 500}; each with its record"
    )

    @field_validator("tokens")
    @classmethod
    def _tokens_differ(cls, tokens: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not isinstance(tokens, str) and (not tokens or len(set(tokens)) < len(tokens)):
            raise ValueError("tokens needs at least one stage or folder, and each only once")
        return tokens

    def check(self) -> None:
        """As `Stage`: what belongs together is given together, the steps suffice, and there is a model of the shape."""
        self.require_beginning(self.weights)
        require_both(self.evaluate, self.evaluation_tasks)
        if self.steps is not None:
            self.require_steps(self.steps)
        if self.model is not None:
            self.require_model(configure(self.model, _ANY_VOCABULARY, self.sequence_length))

    def tokens_folders(self, inputs: Mapping[str, Path]) -> dict[str, Path]:
        """The folders of its tokens, by the names that the recipe gives them: cells of a mixture by `tokens`."""
        return {value: inputs[key] for key, value in self.references().items() if key.split(".")[0] == "tokens"}

    def mirror(self, address: str, below: Path) -> Path:
        """As `Stage`: the index and the tokenizer, brought up to date; the shards stay where they are."""
        from vernacular.tokens.elsewhere import mirror_tokens

        return mirror_tokens(address, below, self.token_cache, (TOKENIZER,))

    def execute(self, workplace: Workplace) -> dict[str, Any]:
        """Train, and write the weights."""
        from vernacular.parallel.processes import this_process
        from vernacular.training.objectives.pretrain import pretrain

        folders = self.tokens_folders(workplace.inputs)
        tokenizer = next(iter(folders.values())) / TOKENIZER
        summary = pretrain(
            self,
            tokens=folders,
            tokenizer=tokenizer,
            weights=workplace.inputs.get("weights"),
            folder=workplace.folder,
            name=workplace.name,
            probes=evaluators(self.evaluate, workplace, tokenizer, instruct=False),
        )
        this_process().first(lambda: draw_scores(workplace.folder))
        if self.weights is not None:
            this_process().first(lambda: _draw_languages(workplace.folder, summary))
        return summary

    def forget(self, workplace: Workplace) -> None:
        """Remove its checkpoints elsewhere."""
        if self.checkpoint_folder is not None:
            from vernacular.training.checkpoint import forget_checkpoints

            forget_checkpoints(self, workplace.folder)


def _draw_languages(folder: Path, summary: Mapping[str, Any]) -> None:
    """What the training did to each language, where more than one was measured on the way."""
    from vernacular.publishing.plots import language_series, plot_languages, stop_bound
    from vernacular.training.metrics import read_metrics

    lines, path = read_metrics(folder), folder / LOGS / "languages.png"
    if plot_languages(lines, path, stop_bound(summary)):
        steps = summary["steps"]  # of the weights, which a stop rule takes from before the last measurement
        became = [
            f"{name} {points[0][1]:.3f} → {dict(points)[steps]:.3f}" for name, points in language_series(lines).items()
        ]
        print(f"bits per byte: {', '.join(became)}; to look at: {path}", flush=True)
