"""How the claims of chapter 01 are judged from its records."""

from __future__ import annotations

from maso_book.ch01.networks import (
    PAPER_NETWORKS,
)
from maso_book.ch01.rates import TWO, slopes
from maso_book.records import Record
from maso_book.verdict import Verdict, judged

TOLERANCE = 1e-12
"""Largest relative error that the criteria of claims 01.2, 01.5 and 01.6 allow in float64."""
CASES = 1000
"""Cases of each kind of layer that the criterion of claim 01.1 asks for."""
IMAGES, DRAWS = 1000, 5
"""Images, and draws of the weights, that the criterion of claim 01.6 asks for."""
NEAR = 0.1
"""How far the interval of a measured slope may reach from the theory's, criterion of claim 01.4."""

# Verdicts -------------------------------------------------------------------------------------------------------------


def verdicts(results: dict[str, list[Record]]) -> list[Verdict]:
    """The chapter's claims by their criteria, from its records alone.

    Args:
        results: experiment → its records; one that is missing or has none leaves its claims "not tested".
    """
    return judged(
        results,
        [
            ("01.1", _judge_layers, ["01-rational", "01-proofs"]),
            ("01.2", _judge_composition, ["01-proofs", "01-families"]),
            ("01.3", _judge_convexity, ["01-proofs"]),
            ("01.4", _judge_rates, ["01-rates"]),
            ("01.5", _judge_closed_form, ["01-closed-form"]),
            ("01.6", _judge_real_images, ["01-resnet"]),
            ("01.7", _judge_not_maso, ["01-not-maso"]),
        ],
    )


def _seeds(records: list[Record]) -> str:
    count = len({record.config["seed"] for record in records})
    return "1 seed" if count == 1 else f"{count} seeds"


def _judge_layers(claim: str, rational: list[Record], proofs: list[Record]) -> Verdict:
    rows = [row for record in rational for row in record.metrics["layers"]]
    proved = [row for record in proofs for row in record.metrics["layers"]]
    kinds = [row["kind"] for row in rational[0].metrics["layers"]]
    fewest = min(sum(row["cases"] for row in rows if row["kind"] == kind) for kind in kinds)
    wrong = sum(row["mismatches"] for row in rows)
    failed = [row["kind"] for row in proved if not (row["equal"] and row["from_layer"])]
    evidence = (
        f"{sum(row['cases'] for row in rows):,} exact comparisons, at least {fewest:,} for each of "
        f"{len(kinds)} kinds of layers, {sum(row['edge'] for row in rows):,} of them edge "
        f"cases: {wrong} mismatches. Proved for all inputs: {len(proved) - len(failed)} of {len(proved)} instances."
    )
    if wrong or failed:
        return Verdict(claim, "does not hold", evidence)
    return Verdict(claim, "holds" if fewest >= CASES else "not tested", evidence)


def _judge_composition(claim: str, proofs: list[Record], families: list[Record]) -> Verdict:
    statements = [
        value
        for record in proofs
        for value in (
            *(row["convex"] for row in record.metrics["layers"]),
            *(row["holds"] for row in record.metrics["any MASO"]),
            *(row[key] for row in record.metrics["networks"] for key in ("affine", "lipschitz")),
        )
    ]
    worst: dict[str, float] = {}
    for record in families:
        for row in record.metrics["networks"]:
            error = max(row[key] for key in ("at x", "b", "far from x"))
            worst[row["network"]] = max(error, worst.get(row["network"], 0.0))
    exact = [name for name, error in worst.items() if error <= TOLERANCE]
    others = [f"{name} ({error:.1e})" for name, error in worst.items() if error > TOLERANCE]
    count = len(set(exact) - set(PAPER_NETWORKS))
    missed = f"; not to that: {', '.join(others)}" if others else ""
    evidence = (
        f"The solver proved {sum(statements)} of {len(statements)} statements for all inputs. {count} torchvision "
        f"families and {len(exact) - count} of the paper's networks are reproduced to {TOLERANCE:.0e} or better, "
        f"{_seeds(families)}{missed}."
    )
    if not all(statements):
        return Verdict(claim, "does not hold", evidence)
    if count >= 6:
        return Verdict(claim, "holds", evidence)
    return Verdict(claim, "does not hold" if others else "not tested", evidence)


def _judge_convexity(claim: str, proofs: list[Record]) -> Verdict:
    convex = [row["convex"] for record in proofs for row in record.metrics["convex"]]
    mixed = [row["convex"] for record in proofs for row in record.metrics["mixed signs"]]
    examples = [record.metrics["only if"][0] for record in proofs]
    converse_fails = all(row["convex"] and row["smallest later weight"] < 0 for row in examples)
    evidence = (
        f"“If”: written proof, and the solver proved {sum(convex)} of {len(convex)} random networks convex. “Only if” "
        f"{'fails: 2 relu(x) − relu(x) is proved convex with a negative weight' if converse_fails else 'stands'}. With "
        f"weights of both signs {len(mixed) - sum(mixed)} of {len(mixed)} random networks are not convex."
    )
    return Verdict(claim, "holds" if all(convex) and converse_fails else "does not hold", evidence)


def _judge_rates(claim: str, records: list[Record]) -> Verdict:
    found = [slope for slope in slopes(records) if slope.method == TWO]
    seeds = min(slope.seeds for slope in found)
    parts = [
        f"{s.target}, D = {s.dimension}: {s.mean:.2f} [{s.low:.2f}, {s.high:.2f}] against {s.theory:g}" for s in found
    ]
    evidence = f"Slopes over {seeds} seeds: {'; '.join(parts)}."
    if seeds < 5:
        return Verdict(claim, "not tested", f"{_seeds(records)}; the criterion asks for 5.")
    wide = [s for s in found if abs(s.low - s.theory) > NEAR or abs(s.high - s.theory) > NEAR]
    if not wide:
        return Verdict(claim, "holds", evidence)
    evidence += f" Not within {NEAR:g} of theory: {', '.join(f'{s.target}, D = {s.dimension}' for s in wide)}."
    falls = all(s.high < 0 for s in found)
    return Verdict(claim, "holds with conditions" if falls else "does not hold", evidence)


def _judge_closed_form(claim: str, records: list[Record]) -> Verdict:
    worst = max(
        value
        for record in records
        for net in record.metrics.values()
        for value in net.values()
        if isinstance(value, float)
    )
    counts = {name: len(net["by hand"]) for name, net in records[0].metrics.items()}
    evidence = (
        f"{counts['cnn']} factors of a CNN and {counts['resnet']} of a ResNet, {_seeds(records)}: the largest "
        f"relative difference between the product, the product by hand, affine_map and the forward pass is {worst:.1e}."
    )
    return Verdict(claim, "holds" if worst <= TOLERANCE else "does not hold", evidence)


def _judge_real_images(claim: str, records: list[Record]) -> Verdict:
    worst = max(record.metrics["largest error64"] for record in records)
    images = sum(record.metrics["images"] for record in records)
    flipped = sum(record.metrics["images with another code"] for record in records)
    slope = max(record.metrics["largest slope error"] for record in records)
    evidence = (
        f"{images:,} images over {_seeds(records)}, float64: largest relative error {worst:.1e}. In float32 "
        f"{flipped / images:.1%} of the images get another code; the matrix A is then off by up to {slope:.1e}."
    )
    if worst > TOLERANCE:
        return Verdict(claim, "does not hold", evidence)
    whole = len(records) >= DRAWS and min(record.metrics["images"] for record in records) >= IMAGES
    real = all(record.config["dataset"] != "digits" for record in records)
    return Verdict(claim, "holds" if whole and real else "not tested", evidence)


def _judge_not_maso(claim: str, records: list[Record]) -> Verdict:
    lowest, left = 1.0, 0.0
    named = True
    for record in records:
        last = record.metrics["networks"].index("ReLU network")
        lowest = min(lowest, record.arrays["share"][:last].min())
        left = max(left, record.arrays["share"][last, -1])
        said = record.metrics["refused as"]
        named &= all(said[name] for name in record.metrics["networks"][:last]) and said["ReLU network"] is None
    evidence = (
        f"All four are {'refused by name' if named else 'not all refused'}. Their second difference is not zero at "
        f"{'all points' if lowest == 1 else f'at least {lowest:.1%} of the points'} at every step; a ReLU network's is "
        f"not zero at {left:.1%} of the points at the smallest step."
    )
    return Verdict(claim, "holds" if named and lowest >= 0.99 and left <= 0.01 else "does not hold", evidence)
