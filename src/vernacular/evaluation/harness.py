"""lm-evaluation-harness, driven through a `LanguageModel`: prompts, filters and metrics are its, the answers ours."""

from __future__ import annotations

import functools
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import datasets
import lm_eval.api.task
import lm_eval.utils
from lm_eval import evaluator
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from vernacular.corpus.decontamination.contamination import TaskContamination
from vernacular.evaluation.answers import RememberingModel
from vernacular.evaluation.metrics.registry import METRICS, find_metric
from vernacular.evaluation.records import Row
from vernacular.evaluation.tasks import TASK_ERRORS, LoadedTask, task_errors
from vernacular.foundation.configuration import validate
from vernacular.foundation.errors import InternalError, UserError, unknown_name
from vernacular.foundation.progress import progress
from vernacular.models.language_model import Sampling

INVALID = "[invalid]"
"""What the harness's filters return for an answer they cannot read."""

_GENERATION_KEYS = ("until", "max_gen_toks", "do_sample", "temperature", "top_k", "top_p")
_MAX_NEW_TOKENS = 256
_TEMPLATES = 256


class HarnessModel(LM):
    """A `LanguageModel` as the harness sees one.

    Args:
        model: what answers, and knows how long it took.
        seed: seed of sampled answers.

    Attributes:
        seconds: what each request took, by its texts, and whether its answer was there from before.
        tokens: number of tokens of each continuation, by its texts; None where the back-end does not say.
        cut: requests whose context lost tokens at its left, by their texts.
    """

    def __init__(self, model: RememberingModel, seed: int = 0) -> None:
        super().__init__()
        self.model = model
        self.seed = seed
        self.doing = "evaluating"
        self.seconds: dict[tuple[str, ...], tuple[float, bool]] = {}
        self.tokens: dict[tuple[str, ...], int | None] = {}
        self.cut: set[tuple[str, ...]] = set()

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """(log-probability, is greedy) of each request's continuation after its context."""
        pairs = [(context, continuation) for context, continuation in (request.args for request in requests)]
        with self._answering(len(pairs)) as report:
            likelihoods = self.model.loglikelihood(pairs, report=report)
        self._note({pair: self.model.key("loglikelihood", list(pair)) for pair in pairs})
        self.tokens |= {pair: likelihood.num_tokens for pair, likelihood in zip(pairs, likelihoods, strict=True)}
        self.cut |= {pair for pair, likelihood in zip(pairs, likelihoods, strict=True) if likelihood.num_cut}
        for likelihood, request in zip(likelihoods, requests, strict=True):
            _check_number(likelihood.log_probability, request)
        return [(likelihood.log_probability, likelihood.is_greedy) for likelihood in likelihoods]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Log-probability of each request's whole text."""
        texts = [request.args[0] for request in requests]
        with self._answering(len(texts)) as report:
            likelihoods = self.model.text_loglikelihood(texts, report=report)
        self._note({(text,): self.model.key("text", text) for text in texts})
        for likelihood, request in zip(likelihoods, requests, strict=True):
            _check_number(likelihood.log_probability, request)
        return [likelihood.log_probability for likelihood in likelihoods]

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """The answer to each request's prompt."""
        prompts = [request.args[0] for request in requests]
        samplings = [
            sampling_of(request.args[1], seed=self.seed + number, task=request.task_name or self.doing)
            for number, request in enumerate(requests)
        ]
        with self._answering(len(prompts)) as report:
            generations = self.model.complete(prompts, samplings, report=report)
        asked = zip(prompts, samplings, strict=True)
        self._note({(one,): self.model.key("complete", [one, two.model_dump(mode="json")]) for one, two in asked})
        return [generation.text for generation in generations]

    def _note(self, keys: Mapping[tuple[str, ...], str]) -> None:
        """Remember what each request took."""
        for request, key in keys.items():
            kept = self.model.file.get(key)
            if kept is not None:
                self.seconds[request] = (kept.seconds, kept.is_cached)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The conversation as the weights' template writes it.

        Without the generation prompt the last message is the beginning of the answer, left open.
        """
        if add_generation_prompt:
            return self.model.render(chat_history, add_generation_prompt=True)
        *history, begun = chat_history
        return self.model.render(history, add_generation_prompt=True) + begun["content"]

    @property
    def tokenizer_name(self) -> str:
        """The tokenizer's hash."""
        return self.model.identity["tokenizer"]

    def chat_template(self, chat_template: bool | str = False) -> str:
        """The template's hash; it has no other name."""
        return self.model.identity["template"]

    @contextmanager
    def _answering(self, total: int) -> Iterator[Any]:
        """A progress bar; and while it runs, errors are the model's, not the task's."""
        with progress(doing=self.doing, total=total, unit="requests") as bar:
            try:
                yield bar.update
            except UserError as error:
                fix = f"{error.fix}; for a task that cannot be put to this model: name the others with --only"
                raise UserError(error.message, where=f"task {self.doing}, {error.where}", fix=fix) from error
            except TASK_ERRORS as error:
                raise InternalError(f"the model fails: {error}", where=f"task {self.doing}") from error


def sampling_of(settings: Mapping[str, Any], *, seed: int, task: str) -> Sampling:
    """A task's `generation_kwargs` as our settings; what has no counterpart is refused.

    As the harness has it: greedy unless `do_sample` is true or a temperature is given, 256 new tokens at most.
    """
    for key in settings:
        if key not in _GENERATION_KEYS:
            raise unknown_name("key of generation_kwargs", key, _GENERATION_KEYS, where=f"task {task}")
    temperature = float(settings.get("temperature", 0.0))
    samples = settings.get("do_sample")
    if samples is False and temperature > 0:
        raise UserError(
            f"generation_kwargs contradict themselves: do_sample is false, temperature {temperature}",
            where=f"task {task}",
            fix="set do_sample: true, or temperature: 0",
        )
    if samples and temperature == 0:
        raise UserError("do_sample is true without a temperature", where=f"task {task}", fix="set a temperature")
    until = settings.get("until") or []
    stops = [until] if isinstance(until, str) else list(until)
    values = {
        "max_new_tokens": int(settings.get("max_gen_toks", _MAX_NEW_TOKENS)),
        "temperature": temperature,
        "top_k": settings.get("top_k") if temperature else None,
        "top_p": settings.get("top_p") if temperature else None,
        "seed": seed,
        "stop": tuple(stop for stop in stops if stop),
    }
    return validate(Sampling, values, at=("task", task, "generation_kwargs"))


class TaskRun(NamedTuple):
    """What a task gave.

    Attributes:
        rows: its requests.
        seconds: what each took.
        values: the harness's own, by metric and filter.
        cut: how many requests' contexts were longer than the model's positions, and lost tokens at their left.
    """

    rows: list[Row]
    seconds: list[Row]
    values: Mapping[tuple[str, str], float]
    cut: int = 0


def run_task(
    model: HarnessModel,
    loaded: LoadedTask,
    *,
    limit: int | None,
    template: bool,
    contamination: TaskContamination | None = None,
) -> TaskRun:
    """Put a task's items to the model.

    Args:
        model: what answers.
        loaded: the task.
        limit: most items.
        template: whether prompts go through the chat template.
        contamination: which of its items the training text held; None where that is not known.
    """
    model.doing = loaded.name
    standings = {} if contamination is None else contamination.by_hash()
    with quiet(), task_errors(loaded.name, loaded.path):
        choices = all_choices(loaded, limit)
        results = evaluator.evaluate(
            lm=model,
            task_dict={"tasks": {loaded.name: loaded.task}},
            limit=limit,
            bootstrap_iters=0,
            log_samples=True,
            apply_chat_template=template,
            fewshot_as_multiturn=True,
        )
        samples = sorted(results["samples"][loaded.name], key=lambda sample: (sample["filter"], sample["doc_id"]))
        rows: list[Row] = [
            {**row, "contamination": standings.get(row["item_hash"], "unknown")}
            for sample in samples
            for row in _rows(loaded, sample, choices, model.tokens)
        ]
    filters = sorted({sample["filter"] for sample in samples})
    found = results["results"][loaded.name]
    theirs = [metric for metric in loaded.metrics if f"{metric},{filters[0]}" in found]
    values = {(metric, name): float(found[f"{metric},{name}"]) for metric in theirs for name in filters}
    cut = sum(_request(row) in model.cut for row in rows if row["filter"] == rows[0]["filter"])
    return TaskRun(rows, _seconds(model, rows), values, cut)


def _seconds(model: HarnessModel, rows: Sequence[Row]) -> list[Row]:
    """What each request took, once each, though every filter has rows of its own."""
    first = rows[0]["filter"]
    return [
        {
            **{key: row[key] for key in ("task", "item", "request")},
            **dict(zip(("seconds", "cached"), model.seconds.get(_request(row), (None, None)), strict=True)),
        }
        for row in rows
        if row["filter"] == first
    ]


def _request(row: Row) -> tuple[str, ...]:
    continuation = row.get("continuation")
    return (row["prompt"],) if continuation is None else (row["prompt"], continuation)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the harness's chatter, bars and network courtesies out, and let it compile each template once."""
    logger = logging.getLogger("lm_eval")
    level, bars, counts = logger.level, datasets.are_progress_bars_disabled(), datasets.config.HF_UPDATE_DOWNLOAD_COUNTS
    bar, templates = lm_eval.api.task.tqdm, lm_eval.utils.env
    logger.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    lm_eval.api.task.tqdm = functools.partial(bar, disable=True)
    templates.from_string = functools.lru_cache(maxsize=_TEMPLATES)(type(templates).from_string.__get__(templates))
    try:
        yield
    finally:
        logger.setLevel(level)
        datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = counts
        lm_eval.api.task.tqdm = bar
        vars(templates).pop("from_string", None)
        if not bars:
            datasets.enable_progress_bars()


# ------------------------------------------------------------------------------------------ samples into records


class Choices(NamedTuple):
    """An item's choices, and the places of the right ones."""

    texts: list[str]
    right: list[int]


def _rows(
    loaded: LoadedTask,
    sample: Mapping[str, Any],
    choices: Mapping[int, Choices],
    tokens: Mapping[tuple[str, ...], int | None],
) -> list[Row]:
    common = {
        "task": loaded.name,
        "filter": sample["filter"],
        "item": sample["doc_id"],
        "item_hash": sample["doc_hash"],
        "language": loaded.language,
        "facts": _item_facts(loaded, sample["doc"]),
    }
    if loaded.kind == "multiple_choice":
        own = _choice_rows(sample, choices[sample["doc_id"]])
    elif loaded.kind == "generate_until":
        own = _answer_rows(loaded, sample)
    else:
        own = _text_rows(loaded, sample)
    rows = [
        {**common, "request": number, "num_tokens": tokens.get(_request(row)), **row} for number, row in enumerate(own)
    ]
    return [{**row, "correct": _is_correct(loaded, rows)} for row in rows]


def _item_facts(loaded: LoadedTask, doc: Mapping[str, Any]) -> str | None:
    """What else of the item its metrics need, as JSON."""
    if not loaded.item_facts:
        return None
    return json.dumps({name: doc[name] for name in loaded.item_facts}, ensure_ascii=False)


def _is_correct(loaded: LoadedTask, rows: Sequence[Row]) -> bool | None:
    for name, options in loaded.metrics.items():
        metric = find_metric(loaded.kind, name)
        if metric.is_share:
            return metric.of_item(rows, options) == 1.0
    return None


def _choice_rows(sample: Mapping[str, Any], choices: Choices) -> list[Row]:
    scores = [responses[0][0] for responses in sample["resps"]]
    best = max(range(len(scores)), key=scores.__getitem__)
    return [
        {
            "prompt": context,
            "continuation": continuation,
            "choice": choices.texts[number],
            "log_probability": scores[number],
            "is_greedy": sample["resps"][number][0][1],
            "is_target": number in choices.right,
            "chosen": number == best,
            "target": [choices.texts[place] for place in choices.right],
        }
        for number, (context, continuation) in enumerate(sample["arguments"])
    ]


def all_choices(loaded: LoadedTask, limit: int | None) -> dict[int, Choices]:
    """Choices of each item of a multiple-choice task, checked before anything is run.

    The harness would count an item whose right answer is not among its choices as answered wrongly.
    """
    if loaded.kind != "multiple_choice":
        return {}
    found: dict[int, Choices] = {}
    task = loaded.task
    for number, doc in task.doc_iterator(limit=limit):
        texts = [str(choice) for choice in task.doc_to_choice(doc)]
        target = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
        given = target if isinstance(target, list) else [target]
        right = [texts.index(one) if one in texts else one for one in given]
        if not right or not all(isinstance(one, int) and 0 <= one < len(texts) for one in right):
            raise ValueError(f"item {number}: the right answer ({target}) is not among its {len(texts)} choices")
        if "" in texts:
            raise ValueError(f"item {number}: a choice is empty")
        found[number] = Choices(texts, right)
    return found


def _answer_rows(loaded: LoadedTask, sample: Mapping[str, Any]) -> list[Row]:
    task = loaded.task
    ((prompt, settings),) = sample["arguments"]
    (extracted,) = sample["filtered_resps"]
    if not isinstance(extracted, str):
        raise TypeError(f"the filter '{sample['filter']}' gives {extracted!r}, not one text; end it with take_first")
    target = task.doc_to_target(sample["doc"])
    if task.config.doc_to_choice is not None:
        target = task.doc_to_choice(sample["doc"])[target]
    targets = [str(one) for one in target] if isinstance(target, list | tuple) else [str(target)]
    only_one = {name for name in loaded.metrics if name in METRICS["generate_until"]} - {"exact_match"}
    if len(targets) != 1 and only_one:
        raise ValueError(f"item {sample['doc_id']} has {len(targets)} right answers; {min(only_one)} takes one")
    common = {
        "prompt": prompt,
        "settings": json.dumps(settings, ensure_ascii=False, sort_keys=True),
        "target": targets,
    }
    if loaded.code is not None:
        answers = sample["resps"][0]
        return [{**common, "response": one, "extracted": one, "parse_failure": not one.strip()} for one in answers]
    unread = extracted == INVALID or not extracted.strip()
    return [{**common, "response": sample["resps"][0][0], "extracted": extracted, "parse_failure": unread}]


def _text_rows(loaded: LoadedTask, sample: Mapping[str, Any]) -> list[Row]:
    (arguments,), ((response,),) = sample["arguments"], sample["resps"]
    if loaded.kind == "loglikelihood_rolling":
        return [{"prompt": arguments[0], "log_probability": response}]
    context, continuation = arguments
    scored = {"log_probability": response[0], "is_greedy": response[1], "target": [continuation]}
    return [{"prompt": context, "continuation": continuation, **scored}]


def _check_number(log_probability: float, request: Instance) -> None:
    if not math.isfinite(log_probability):
        raise InternalError(
            f"the model gave log-probability {log_probability}",
            where=f"task {request.task_name}, item {request.doc_id}",
            fix="check the weights: their logits are not finite",
        )
