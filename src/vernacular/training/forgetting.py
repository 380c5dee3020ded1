"""The stop rule of continued pre-training: how much of a language a run may forget before it ends.

What is watched is the language's bits per byte on held-out text: a figure that does not depend on the tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vernacular.foundation.errors import UserError
from vernacular.training.configuration import StopConfiguration
from vernacular.training.position import Forgetting, Position

_EVERY_LANGUAGE = "heldout_bits_per_byte"


class StopRule:
    """Judges each measurement by the one before the first step; with no configuration, a run goes to its end.

    What it remembers stands in the position, so that a resumed run judges alike.

    Args:
        configuration: the rule.
    """

    def __init__(self, configuration: StopConfiguration | None) -> None:
        self.configuration = configuration

    def begin(self, position: Position, line: Mapping[str, Any]) -> None:
        """Take down what is measured before the first step.

        Raises:
            UserError: no text of the language is held out, or its bytes are not known.
        """
        if self.configuration is not None:
            position.forgetting = Forgetting(start=self._read(line))

    def judge(self, position: Position, line: Mapping[str, Any]) -> None:
        """Count a measurement in: within the bound, or once more above it."""
        rule, state = self.configuration, position.forgetting
        if rule is None or state is None:
            return
        state.last = self._read(line)
        if state.last <= self._bound(state):
            state.above, state.good_step, state.good = 0, position.step, state.last
        else:
            state.above += 1

    def is_good(self, position: Position) -> bool:
        """Whether the step just judged is the last one within the bound, which a stopped run leaves as its weights."""
        return position.forgetting is not None and position.forgetting.good_step == position.step

    def stops(self, position: Position) -> bool:
        """Whether the bound was exceeded `patience` times in a row.

        Raises:
            UserError: it was never held, so there are no weights to leave.
        """
        rule, state = self.configuration, position.forgetting
        if rule is None or state is None or state.above < rule.patience:
            return False
        if state.good_step is None:
            raise UserError(
                f"{rule.probe} got worse by more than {rule.rise:.1%} from the first measurement on: {state.last:.4f}"
                f" bits per byte at step {position.step}, {state.start:.4f} before",
                where="stop",
                fix="lower the learning rate, raise warmup_steps or this language's share of the mixture, or stop.rise",
            )
        return True

    def describe(self, position: Position, at_step: int) -> dict[str, Any]:
        """What the artifact says: whether the run was stopped, why, at which step, and which weights it leaves.

        Args:
            position: of the weights that are left.
            at_step: the last step that was taken.
        """
        rule, state = self.configuration, position.forgetting
        if rule is None or state is None:
            return {}
        stopped = at_step > position.step
        return {
            "forgetting": {
                "probe": rule.probe,
                "start_bits_per_byte": round(state.start, 6),
                "bits_per_byte": None if state.good is None else round(state.good, 6),
                "most_bits_per_byte": round(self._bound(state), 6),
                "stopped_at_step": at_step if stopped else None,
                "weights_of_step": position.step,
                "why": self._why() if stopped else None,
            }
        }

    def say(self, position: Position) -> str:
        """The stop in a sentence."""
        state = position.forgetting
        assert state is not None
        return (
            f"stopped at step {position.step}: {self._why()}, {state.last:.4f} against {state.start:.4f};"
            f" the weights are those of step {state.good_step}"
        )

    def _why(self) -> str:
        rule = self.configuration
        assert rule is not None
        times = f"{rule.patience} measurements in a row" if rule.patience > 1 else "one measurement"
        return f"{rule.probe} was more than {rule.rise:.1%} above its start in bits per byte, {times}"

    def _bound(self, state: Forgetting) -> float:
        assert self.configuration is not None
        return state.start * (1 + self.configuration.rise)

    def _read(self, line: Mapping[str, Any]) -> float:
        assert self.configuration is not None
        probe = self.configuration.probe
        value = line.get(f"{_EVERY_LANGUAGE}/{probe}")
        if value is None:
            known = [key.removeprefix(f"{_EVERY_LANGUAGE}/") for key in line if key.startswith(f"{_EVERY_LANGUAGE}/")]
            languages = [name for name in known if not name.startswith("source/")]
            raise UserError(
                f"nothing tells how well '{probe}' is predicted",
                where="stop.probe",
                fix=f"use one of {', '.join(languages)}"
                if languages
                else "hold out text of at least two languages, this one among them, in the stages that `tokens` names",
            )
        return float(value)
