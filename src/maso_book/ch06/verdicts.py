"""How the claims of chapter 06 are judged from its records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from maso_book.ch06.penalised import NONE
from maso_book.records import Record
from maso_book.shared.names import NETWORKS
from maso_book.statistics import Interval, interval
from maso_book.tidy import arms, as_table
from maso_book.verdict import Outcome, Verdict, judged

if TYPE_CHECKING:
    import pandas as pd

SEEDS = 10
"""Fewest seeds that the criteria ask for."""
CASE_SEEDS = 5
LEAST = {"06.1": 0.3, "06.2": 0.3, "06.3": 0.5, "06.4": 0.05}
"""The smallest effects of interest, as the claims have them: percentage points, and a cosine."""
PENALTY, CONTROL = "orthogonality", "quartic norm"
ARMS = (NONE, PENALTY, CONTROL, "published", "templates")
ROUNDING, SHIFT_TOLERANCE = 1e-12, 1e-9
PROBLEMS = 200


def verdicts(results: dict[str, list[Record]]) -> list[Verdict]:
    """The chapter's claims by their criteria, from its records alone.

    Args:
        results: experiment → its records; one that is missing or has none leaves its claims "not tested".
    """
    return judged(
        results,
        [
            ("06.1", _judge_gain, ["06-penalties"]),
            ("06.2", _judge_control, ["06-penalties"]),
            ("06.3", _judge_gap, ["06-penalties"]),
            ("06.4", _judge_templates, ["06-penalties"]),
            ("06.5", _judge_shift, ["06-frames", "06-penalties"]),
        ],
    )


# Tables ---------------------------------------------------------------------------------------------------------------


def networks(records: Sequence[Record]) -> pd.DataFrame:
    """The table `networks` of `Penalised` cells, one row a network, accuracies and gap in percentage points.

    Returns:
        With `case` (data set, network, loss and augmentation in a few words), `gap` (training less test accuracy) and
        `longer` (trained for more epochs than the baseline was tuned with).
    """
    table = as_table(records, "networks")
    table["validation_accuracy"] = table["validation_accuracy"].where(~table["diverged"].astype(bool), 0.0)
    percent = {f"{split}_accuracy": 100 * table[f"{split}_accuracy"] for split in ("training", "validation", "test")}
    table = table.assign(**percent)
    return table.assign(
        gap=table["training_accuracy"] - table["test_accuracy"],
        longer=table["epochs"] > table["tuning_epochs"],
        case=[case_of(*row) for row in table[["dataset", "network", "loss", "augment"]].itertuples(index=False)],
    )


def case_of(dataset: str, network: str, loss: str, augment: bool) -> str:
    """A case in a few words: `"cifar10, squared loss"`; the network where it is not smallCNN."""
    words = {
        NETWORKS[network]: network != "small_cnn", "squared loss": loss == "squared", "augmented": bool(augment)
    }  # fmt: skip
    return ", ".join([dataset, *(word for word, said in words.items() if said)])


def chosen(table: pd.DataFrame) -> pd.DataFrame:
    """Of each case and penalty, the networks with the λ of the best mean validation accuracy.

    The mean is over the seeds that have every λ of the arm, so a λ that only few seeds have is not judged by luck.

    Args:
        table: of `networks`.
    """
    import pandas as pd

    kept = []
    for _, arm in arms(table[~table["longer"]], "case", "penalty"):
        values = arm["chosen_strength"].nunique()
        complete = arm.groupby("seed")["chosen_strength"].nunique() == values
        compared = arm[arm["seed"].isin(complete.index[complete])]
        means = compared.groupby("chosen_strength")["validation_accuracy"].mean()
        kept.append(arm[arm["chosen_strength"] == means.idxmax()])
    return pd.concat(kept).drop_duplicates(["case", "penalty", "seed"])


@dataclass(frozen=True)
class Comparison:
    """One arm less another, paired by seed.

    Attributes:
        effect: mean and 95 % interval.
        seeds: how many pairs.
        seen: the difference that so many seeds see with a chance of 80 %.
    """

    effect: Interval
    seeds: int
    seen: float


def compare(first: pd.DataFrame, second: pd.DataFrame, column: str) -> Comparison:
    """`column` of the first arm less that of the second, seed by seed.

    Args:
        first, second: rows of `networks`, one a seed.
    """
    values = (first.set_index("seed")[column] - second.set_index("seed")[column]).dropna()
    return Comparison(interval(values), len(values), detectable(values))


def detectable(differences: Sequence[float], power: float = 0.8) -> float:
    """The mean that a two-sided 5 % t-test of so many differences, so spread, would see with this power."""
    from scipy.stats import t

    n = len(differences)
    if n < 2:
        return math.nan
    spread = float(np.std(differences, ddof=1)) / math.sqrt(n)
    return float(t.ppf(0.975, n - 1) + t.ppf(power, n - 1)) * spread


def outcome(effect: Interval, least: float) -> Outcome:
    """ "holds" where the interval lies above `least`; where it lies below, "too small to matter" if it is within
    ±`least`, else "does not hold"; "not decided" where it reaches over `least`."""
    if effect.low > least:
        return "holds"
    if effect.high < least:
        return "too small to matter" if effect.low > -least else "does not hold"
    return "not decided"


def gains(records: Sequence[Record], cases: Sequence[Record] = ()) -> pd.DataFrame:
    """Every arm with its chosen λ against no penalty and, for the formula, against the control; one row a pair.

    Returns:
        `case`, `penalty`, `against` (`NONE` or the control), `strength`, `seed`, `accuracy` (test accuracy of the arm
        less that of the other, percentage points), `gap` (the other's generalisation gap less the arm's) and
        `cosine` (the other's mean absolute cosine of centred templates less the arm's).
    """
    import pandas as pd

    table = pd.concat([networks(part) for part in (records, cases) if part])
    rows = []
    for case, best in arms(chosen(table), "case"):
        by_arm = {penalty: arm.set_index("seed") for penalty, arm in arms(best, "penalty")}
        pairs = [(penalty, NONE) for penalty in ARMS if penalty != NONE] + [(PENALTY, CONTROL)]
        for penalty, against in pairs:
            if penalty not in by_arm or against not in by_arm:
                continue
            arm, other = by_arm[penalty], by_arm[against]
            columns = {
                "accuracy": arm["test_accuracy"] - other["test_accuracy"],
                "gap": other["gap"] - arm["gap"],
                "cosine": other["template_cosine_centred_abs"] - arm["template_cosine_centred_abs"],
            }
            rows.append(
                pd.DataFrame(columns).dropna().reset_index().assign(
                    case=case, penalty=penalty, against=against, strength=arm["chosen_strength"].iloc[0]
                )
            )  # fmt: skip
    return pd.concat(rows, ignore_index=True)


# Verdicts -------------------------------------------------------------------------------------------------------------


def _main(records: Sequence[Record]) -> tuple[dict[str, pd.DataFrame], str]:
    """The networks of each arm with its chosen λ, and why they cannot decide; empty where they can."""
    table = networks(records)
    best = chosen(table)
    by_arm = dict(arms(best[~best["diverged"].astype(bool)], "penalty"))
    needed = [by_arm[arm]["seed"].nunique() if arm in by_arm else 0 for arm in (NONE, PENALTY, CONTROL)]
    data = set(table["dataset"])
    if min(needed) < SEEDS or data != {"cifar10"}:
        counted = ", ".join(
            f"{n} of the {name}" for n, name in zip(needed, ("baseline", "formula", "control"), strict=True)
        )
        asked = f"the criterion asks for {SEEDS} seeds of each on CIFAR-10"
        return by_arm, f"Networks on {', '.join(sorted(data))}: {counted}; {asked}."
    return by_arm, ""


def _strength(rows: pd.DataFrame) -> str:
    return f"λ = {rows['chosen_strength'].iloc[0]:g}"


def _points(comparison: Comparison) -> str:
    return f"{comparison.effect:+.2f} points, {comparison.seeds} seeds, {comparison.seen:.2f} seen with 80 %"


def _judge_gain(claim: str, records: list[Record]) -> Verdict:
    by_arm, why = _main(records)
    if why:
        return Verdict(claim, "not tested", why)
    none, with_penalty = by_arm[NONE], by_arm[PENALTY]
    deciding = compare(with_penalty, none, "test_accuracy")
    others = {arm: compare(by_arm[arm], none, "test_accuracy") for arm in ARMS[2:] if arm in by_arm}
    evidence = (
        f"Test accuracy {none['test_accuracy'].mean():.2f} % without a penalty (tuned: learning rate "
        f"{none['lr'].iloc[0]:g}, weight decay {none['weight_decay'].iloc[0]:g}); with the formula, "
        f"{_strength(with_penalty)}, {_points(deciding)}. Reported: "
        + "; ".join(f"{arm} ({_strength(by_arm[arm])}) {_points(other)}" for arm, other in others.items())
        + "."
    )
    effect = f"{deciding.effect:+.2f} points"
    finding = (
        f"Against a baseline that was tuned first, the penalty for orthogonal templates moves test accuracy by "
        f"{effect} ({deciding.seeds} seeds)."
    )
    return Verdict(claim, outcome(deciding.effect, LEAST[claim]), evidence, effect, finding=finding)


def _judge_control(claim: str, records: list[Record]) -> Verdict:
    by_arm, why = _main(records)
    if why:
        return Verdict(claim, "not tested", why)
    with_penalty, control = by_arm[PENALTY], by_arm[CONTROL]
    deciding = compare(with_penalty, control, "test_accuracy")
    table = networks(records)
    strength = with_penalty["chosen_strength"].iloc[0]
    same = table[(table["penalty"] == CONTROL) & (table["chosen_strength"] == strength)].drop_duplicates("seed")
    equal = compare(with_penalty, same, "test_accuracy")
    evidence = (
        f"Formula ({_strength(with_penalty)}, mean row norm {with_penalty['row_norm_mean'].mean():.2f}) less control "
        f"({_strength(control)}, {control['row_norm_mean'].mean():.2f}): {_points(deciding)}; at equal λ "
        f"(row norm {same['row_norm_mean'].mean():.2f}): {_points(equal)}."
    )
    effect = f"{deciding.effect:+.2f} points"
    return Verdict(claim, outcome(deciding.effect, LEAST[claim]), evidence, effect)


def _judge_gap(claim: str, records: list[Record]) -> Verdict:
    by_arm, why = _main(records)
    if why:
        return Verdict(claim, "not tested", why)
    none, with_penalty, control = by_arm[NONE], by_arm[PENALTY], by_arm[CONTROL]
    deciding, of_control = compare(none, with_penalty, "gap"), compare(none, control, "gap")
    evidence = (
        f"Training less test accuracy: {none['gap'].mean():.2f} points without, {with_penalty['gap'].mean():.2f} with "
        f"the formula; smaller by {_points(deciding)}. The control: smaller by {_points(of_control)}."
    )
    return Verdict(claim, outcome(deciding.effect, LEAST[claim]), evidence, f"{deciding.effect:+.2f} points smaller")


def _judge_templates(claim: str, records: list[Record]) -> Verdict:
    by_arm, why = _main(records)
    if why:
        return Verdict(claim, "not tested", why)
    none, parts = by_arm[NONE], []
    deciding = compare(none, by_arm[PENALTY], "template_cosine_centred_abs")
    for arm in (a for a in ARMS if a in by_arm):
        means = by_arm[arm][["template_cosine_centred_abs", "template_cosine_abs"]].mean()
        parts.append(f"{arm or 'no penalty'} {means.iloc[0]:.3f} ({means.iloc[1]:.3f} as they are)")
    evidence = (
        f"Mean absolute cosine of templates less their class mean: {'; '.join(parts)}. Formula less than none by "
        f"{deciding.effect:+.3f}, {deciding.seeds} seeds, {deciding.seen:.3f} seen with 80 %."
    )
    return Verdict(claim, outcome(deciding.effect, LEAST[claim]), evidence, f"cosine smaller by {deciding.effect:+.3f}")


def _judge_shift(claim: str, records: list[Record], trained: list[Record]) -> Verdict:
    frames, weights = as_table(records, "frames"), as_table(records, "weights")
    baselines = networks(trained).query("penalty == '' and not longer and not diverged")
    on_frames = frames[["value_error", "penalty_at_minimum", "probability_error"]].max().max()
    excess = ((weights["at_minimum"] - weights["found"]) / weights["penalty"].clip(lower=1e-300)).max()
    moved = baselines["shift_probability_error"].max()
    share = 1 - baselines["gauge_orthogonality"] / baselines["orthogonality"]
    evidence = (
        f"Proof above; {len(frames)} simplex frames of {frames['n_classes'].min()} to {frames['n_classes'].max()} "
        f"classes: every error at most {on_frames:.0e}; {len(weights)} random weights: above a minimiser's best by at "
        f"most {max(excess, 0):.0e} of the penalty; {len(baselines)} trained networks: probabilities moved by at most "
        f"{moved:.0e} while the penalty fell by {100 * share.min():.0f} to {100 * share.max():.0f} %."
    )
    effect = f"errors at most {max(on_frames, moved):.0e}; {100 * share.mean():.0f} % of the penalty is the shift's"
    if max(on_frames, moved) > ROUNDING or excess > SHIFT_TOLERANCE:
        return Verdict(claim, "does not hold", evidence, effect)
    enough = len(weights) >= PROBLEMS and frames["n_classes"].max() >= 100 and baselines["seed"].nunique() >= SEEDS
    return Verdict(claim, "holds" if enough else "not tested", evidence, effect)
