"""How the claims of chapter 01 are judged from its records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maso_book.ch01.networks import DRAWS, IMAGES, PAPER_NETWORKS
from maso_book.ch01.rates import TWO, allowed, slopes
from maso_book.ch01.refused import RELU
from maso_book.ch01.solver import BOTH_SIGNS, CONVERSE, NONNEGATIVE
from maso_book.records import Record
from maso_book.statistics import interval
from maso_book.tidy import arms, as_table, enough
from maso_book.verdict import Verdict, judged

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1e-12
"""Largest relative error that the criteria of claims 01.5, 01.6 and 01.8 allow in float64."""
CASES = 1000
"""Cases of each kind of layer that the criterion of claim 01.1 asks for."""
NEAR = 0.1
"""How far the interval of a measured slope may reach from the theory's, criterion of claim 01.9."""


def verdicts(results: dict[str, list[Record]]) -> list[Verdict]:
    """The chapter's claims by their criteria, from its records alone.

    Args:
        results: experiment → its records; one that is missing or has none leaves its claims "not tested".
    """
    return judged(
        results,
        [
            ("01.1", _judge_layers, ["01-rational", "01-proofs"]),
            ("01.2", _judge_composition, ["01-proofs"]),
            ("01.3", _judge_convexity, ["01-proofs"]),
            ("01.4", _judge_approximation, ["01-rates"]),
            ("01.5", _judge_closed_form, ["01-closed-form"]),
            ("01.6", _judge_real_images, ["01-resnet"]),
            ("01.7", _judge_not_maso, ["01-not-maso"]),
            ("01.8", _judge_families, ["01-families"]),
            ("01.9", _judge_rates, ["01-rates"]),
        ],
    )


def _seeds(table: pd.DataFrame) -> str:
    count = table["seed"].nunique()
    return f"{count} seed{'' if count == 1 else 's'}"


def _judge_layers(claim: str, rational: list[Record], proofs: list[Record]) -> Verdict:
    sampled, proved = as_table(rational), as_table(proofs, of="layers")
    by_kind = sampled.groupby("kind")["cases"].sum()
    cases, fewest, mismatches = by_kind.sum(), by_kind.min(), sampled["mismatches"].sum()
    equal = proved["equal"] & proved["from_layer_equal"]

    evidence = (
        f"{cases:,} exact comparisons, at least {fewest:,} for each of {len(by_kind)} kinds of layers, "
        f"{sampled['edge_cases'].sum():,} of them edge cases: {mismatches} mismatches. "
        f"Proved for all inputs: {equal.sum()} of {len(equal)} instances."
    )
    effect = f"{mismatches} of {cases:,} cases differ"
    if mismatches or not equal.all():
        return Verdict(claim, "does not hold", evidence, effect)
    return Verdict(claim, "holds" if fewest >= CASES else "not tested", evidence, effect)


def _judge_composition(claim: str, proofs: list[Record]) -> Verdict:
    tables = {name: as_table(proofs, of=name) for name in ("layers", "masos", "networks")}
    statements = [
        *tables["layers"]["convex"],
        *tables["masos"]["convex"],
        *tables["networks"]["affine"],
        *tables["networks"]["lipschitz"],
    ]
    evidence = f"Written proof, and the solver proved {sum(statements)} of {len(statements)} statements for all inputs."
    effect = f"{sum(statements)} of {len(statements)} proved"
    return Verdict(claim, "holds" if all(statements) else "does not hold", evidence, effect)


def _judge_families(claim: str, families: list[Record]) -> Verdict:
    errors = as_table(families, of="errors")
    worst = errors.groupby("network", sort=False)["relative_error"].max()
    exact, missed = worst[worst <= TOLERANCE], worst[worst > TOLERANCE]
    count = len(exact.index.difference(PAPER_NETWORKS))

    named = ", ".join(f"{name} ({error:.1e})" for name, error in missed.items())
    evidence = (
        f"{count} torchvision families and {len(exact) - count} of the paper's networks are reproduced to "
        f"{TOLERANCE:.0e} or better, {_seeds(errors)}{f'; not to that: {named}' if named else ''}."
    )
    effect = f"{count} torchvision families to {TOLERANCE:.0e}"
    if count >= 6:
        return Verdict(claim, "holds", evidence, effect)
    return Verdict(claim, "does not hold" if named else "not tested", evidence, effect)


def _judge_convexity(claim: str, proofs: list[Record]) -> Verdict:
    networks = as_table(proofs, of="convexity")
    convex = networks.loc[networks["weights"] == NONNEGATIVE, "convex"]
    mixed = networks.loc[networks["weights"] == BOTH_SIGNS, "convex"]
    converse = networks[networks["network"] == CONVERSE]
    converse_fails = bool((converse["convex"] & (converse["smallest_later_weight"] < 0)).all())

    evidence = (
        f"“If”: written proof, and the solver proved {convex.sum()} of {len(convex)} random networks convex. “Only if” "
        f"{f'fails: {CONVERSE} is proved convex with a negative weight' if converse_fails else 'stands'}. With "
        f"weights of both signs {(~mixed).sum()} of {len(mixed)} random networks are not convex."
    )
    effect = f"{convex.sum()} of {len(convex)} networks with weights ≥ 0 proved convex"
    return Verdict(claim, "holds" if convex.all() and converse_fails else "does not hold", evidence, effect)


def _judge_approximation(claim: str, records: list[Record]) -> Verdict:
    measured = as_table(records).query("method == @TWO")
    share = (measured["largest_error"] / allowed(measured)).max()
    evidence = (
        f"Written proof. {len(measured)} approximations of {measured['target'].nunique()} targets, {_seeds(measured)}, "
        f"up to {measured['pieces'].max():,} pieces: the largest error is at most {share:.0%} of what the proof allows."
    )
    effect = f"error at most {share:.0%} of the proof's bound"
    return Verdict(claim, "holds" if share <= 1 else "does not hold", evidence, effect)


def _judge_rates(claim: str, records: list[Record]) -> Verdict:
    measured = slopes(as_table(records))
    measured = measured[measured["method"] == TWO]
    if not enough(measured, "dimension", "target"):
        return Verdict(claim, "not tested", f"{_seeds(measured)}; the criterion asks for 5.")

    intervals = {
        (f"{target}, D = {dimension}", theory): interval(rows["slope"])
        for (dimension, target, theory), rows in arms(measured, "dimension", "target", "theory")
    }
    parts = [f"{arm}: {over:.2f} against {theory:g}" for (arm, theory), over in intervals.items()]
    reach = {arm: max(abs(over.low - theory), abs(over.high - theory)) for (arm, theory), over in intervals.items()}
    wide = [arm for arm, distance in reach.items() if distance > NEAR]

    evidence = f"Slopes over {measured['seed'].nunique()} seeds: {'; '.join(parts)}."
    effect = f"intervals of slopes reach up to {max(reach.values()):.2f} from theory"
    if not wide:
        return Verdict(claim, "holds", evidence, effect)
    evidence += f" Not within {NEAR:g} of theory: {', '.join(wide)}."
    if not all(over.high < 0 for over in intervals.values()):
        return Verdict(claim, "does not hold", evidence, effect)
    part = f"{len(intervals) - len(wide)} of {len(intervals)} slopes within {NEAR:g} of theory"
    return Verdict(claim, "holds with conditions", evidence, effect, part)


def _judge_closed_form(claim: str, records: list[Record]) -> Verdict:
    errors, factors = as_table(records, of="errors"), as_table(records[:1], of="factors")
    worst = errors["relative_error"].max()
    counts = factors.query("built == 'by hand'").groupby("network").size()

    evidence = (
        f"{counts['cnn']} factors of a CNN and {counts['resnet']} of a ResNet, {_seeds(errors)}: the largest "
        f"relative difference between the product, the product by hand, affine_map and the forward pass is {worst:.1e}."
    )
    effect = f"largest relative difference {worst:.1e}"
    return Verdict(claim, "holds" if worst <= TOLERANCE else "does not hold", evidence, effect)


def _judge_real_images(claim: str, records: list[Record]) -> Verdict:
    draws = as_table(records, of="draws")
    worst, images, other = (
        draws["largest_error64"].max(),
        draws["images"].sum(),
        draws["images_with_another_code"].sum(),
    )

    evidence = (
        f"{images:,} images over {_seeds(draws)}, float64: largest relative error {worst:.1e}. In float32 "
        f"{other / images:.1%} of the images get another code; the matrix A is then off by up to "
        f"{draws['largest_slope_error'].max():.1e}."
    )
    effect = f"largest relative error in float64 {worst:.1e}"
    if worst > TOLERANCE:
        return Verdict(claim, "does not hold", evidence, effect)
    whole = len(draws) >= DRAWS and draws["images"].min() >= IMAGES
    real = (draws["dataset"] != "digits").all()
    finding = (
        f"In float64 one matrix and one vector an image reproduce a ResNet to {worst:.1e} at {images:,} images; in "
        f"float32 {other / images:.1%} of these images fall into another cell."
    )
    return Verdict(claim, "holds" if whole and real else "not tested", evidence, effect, finding=finding)


def _judge_not_maso(claim: str, records: list[Record]) -> Verdict:
    refusals, differences = as_table(records, of="refusals"), as_table(records, of="second_differences")
    named = bool((refusals["operator"].isna() == (refusals["network"] == RELU)).all())
    relu, last = differences["network"] == RELU, differences["step"] == differences["step"].min()
    lowest, left = differences.loc[~relu, "nonzero_share"].min(), differences.loc[relu & last, "nonzero_share"].max()

    evidence = (
        f"All four are {'refused by name' if named else 'not all refused'}. Their second difference is not zero at "
        f"{'all points' if lowest == 1 else f'at least {lowest:.1%} of the points'} at every step; a ReLU network's is "
        f"not zero at {left:.1%} of the points at the smallest step."
    )
    effect = f"second difference not 0: {lowest:.1%}; of a ReLU network {left:.1%}"
    return Verdict(claim, "holds" if named and lowest >= 0.99 and left <= 0.01 else "does not hold", evidence, effect)
