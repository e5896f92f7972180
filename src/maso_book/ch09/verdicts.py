"""How the claims of chapter 09 are judged from its records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from maso_book.records import Record
from maso_book.shared.names import DATASETS, NETWORKS
from maso_book.statistics import Interval, interval
from maso_book.tidy import arms, as_table, enough, paired
from maso_book.verdict import Verdict, judged, scale

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1e-12
LEAST_ACCURACY, LEAST_ECE, LEAST_ROBUST = 0.005, 0.01, 0.01
"""The smallest effects of interest: shares of images, and ECE."""
GELU = (0.0140, 0.640)
"""Distance and β of the swish nearest GELU, as claim 09.7 quotes them."""
FORM = ["kind", "kinks", "norms"]
PUBLISHED = "kind == 'mix' and kinks == 'units' and norms == 'kept'"
"""Curvature Tuning as it was published."""


def verdicts(results: Mapping[str, list[Record]]) -> list[Verdict]:
    """The chapter's claims by their criteria, from its records alone.

    Args:
        results: experiment → its records; one that is missing or has none leaves its claims "not tested".
    """
    found = judged(
        results,
        [
            ("09.1", _judge_table, ["09-table"]),
            ("09.2", _judge_halfway, ["09-table"]),
            ("09.3", _judge_posterior, ["09-table"]),
            ("09.4", _judge_softened, ["09-softened"]),
            ("09.5", _judge_learned, ["09-learned", "09-learned-100"]),
            ("09.6", _judge_factorial, ["09-factorial"]),
            ("09.7", _judge_nearest, ["09-nearest"]),
            ("09.8", _judge_tuning, ["09-robust", "09-transfer"]),
        ],
    )
    probed, attacked = results.get("09-transfer"), results.get("09-robust")
    if probed and not attacked:
        so_far = "; ".join(_probed(as_table(probed).query(PUBLISHED)))
        evidence = f"No record of 09-robust. So far: {so_far}."
        found[-1] = Verdict("09.8", "not tested", evidence, f"so far {so_far}", scale=scale(probed))
    return found


# Theorems -------------------------------------------------------------------------------------------------------------


def _facts(records: list[Record], *columns: str) -> bool:
    """Whether sympy derived all of these, in every record."""
    facts = as_table(records, "derived")
    return all(fact for column in columns for fact in facts[column].dropna())  # what is not asked of an entry is null


def _judge_table(claim: str, records: list[Record]) -> Verdict:
    numbers, optimum = as_table(records, "numbers"), as_table(records, "optimum")
    derived = _facts(records, "stationary", "concave", "formula")
    worst, better = numbers["max_error"].max(), int(optimum["better"].sum())
    entries = numbers["entry"].nunique()
    evidence = (
        f"Derivation of {entries} entries {'complete' if derived else 'incomplete'}; numbers within {worst:.1e} of the "
        f"closed forms ({len(records)} seeds, {numbers['inputs'].min():,} inputs, {numbers['beta'].nunique()} β); "
        f"{better} of the other weights reach a larger objective ({optimum['problems'].sum():,} problems)."
    )
    effect = f"{entries} of {entries} derived, numbers within {worst:.1e}"
    if not derived or worst > TOLERANCE or better:
        return Verdict(claim, "does not hold", evidence, effect)
    large = len(records) >= 10 and numbers["inputs"].min() >= 1000 and numbers["beta"].nunique() >= 6
    return Verdict(claim, "holds" if large else "not tested", evidence, effect)


def _judge_halfway(claim: str, records: list[Record]) -> Verdict:
    columns = ("silu_at_half", "linear_at_zero", "hard_at_one", "spans_all")
    derived = _facts(records, *columns)
    numbers = as_table(records, "numbers").query("entry == 'ReLU' and beta in (0.0, 0.5)")
    worst = numbers["max_error"].max()
    evidence = (
        f"β-VQ of ReLU is SiLU at β = ½ alone, u/2 at β = 0, ReLU for β → 1, and η grows from 0 to ∞: "
        f"{'derived' if derived else 'not derived'}; numbers at β = ½ and β = 0 within {worst:.1e}."
    )
    holds = derived and worst <= TOLERANCE
    return Verdict(
        claim, "holds" if holds else "does not hold", evidence, "SiLU at β = ½, linear at β = 0, hard at β = 1"
    )


def _judge_posterior(claim: str, records: list[Record]) -> Verdict:
    posterior = as_table(records, "posterior")
    worst, derived = posterior["max_error"].max(), _facts(records, "probability")
    evidence = (
        f"Derivation {'complete' if derived else 'incomplete'}; posterior by Bayes' rule within {worst:.1e} of "
        f"sigmoid, tanh and softmax ({len(records)} seeds, {posterior['mixtures'].min():,} mixtures each). With "
        "variances 2B + ‖A‖² a ReLU's zero piece has none, and A = 1, B = −1 has −1."
    )
    if not derived or worst > TOLERANCE:
        return Verdict(claim, "does not hold", evidence, f"posterior within {worst:.1e}")
    large = len(records) >= 10 and posterior["mixtures"].min() >= 200
    return Verdict(claim, "holds" if large else "not tested", evidence, f"posterior within {worst:.1e}")


def _judge_factorial(claim: str, records: list[Record]) -> Verdict:
    table = as_table(records)
    split = table["filters"].str.startswith("orthogonal")
    least, most = table[split]["agreement_shifted"].min(), table[~split]["agreement_shifted"].max()
    means = table[~split].groupby("filters", sort=False)["agreement_shifted"].mean()
    evidence = (
        f"Proof above; orthogonal slope differences: at least {least:.2%} of the inputs agree; else at most "
        f"{most:.1%}, on average "
        + ", ".join(f"{filters} {share:.1%}" for filters, share in means.items())
        + f" ({len(records)} seeds, {table['inputs'].min():,} inputs)."
    )
    effect = f"{least:.0%} agree if orthogonal, {means.min():.0%} to {means.max():.0%} on average if not"
    if least < 1 or most >= 1:
        return Verdict(claim, "does not hold", evidence, effect)
    large = len(records) >= 10 and table["inputs"].min() >= 10_000
    return Verdict(claim, "holds" if large else "not tested", evidence, effect)


def _judge_nearest(claim: str, records: list[Record]) -> Verdict:
    table = as_table(records)
    wide = table.pivot(index="target", columns="family", values="distance")
    missing = {"SiLU", "GELU", "ELU", "mish", "hard-swish"} - set(wide.index)
    if missing or table["starts"].min() < 10:
        return Verdict(claim, "not tested", f"Missing: {', '.join(sorted(missing)) or 'starts of the search'}.")
    evidence = "Proof above; distance of the nearest from two lines (three, as found): " + ", ".join(
        f"{name} {row['two lines']:.4f} ({row['three lines']:.4f})" for name, row in wide.iterrows() if name != "SiLU"
    )
    found = table.query("target == 'GELU' and family == '0 and u'").iloc[0]
    evidence += f". GELU and swish: {found['distance']:.4f} at β = {found['beta']:.3f}."
    apart = wide.drop("SiLU").min().min() > 1e-3 and wide.loc["SiLU"].max() < 1e-6
    effect = f"GELU within {found['distance']:.4f} at β = {found['beta']:.3f}"
    if not apart:
        return Verdict(claim, "does not hold", evidence, effect)
    finding = (
        f"GELU is no unit of the soft family, but within {found['distance']:.4f} of one: the swish with "
        f"β = {found['beta']:.3f}."
    )
    if (round(found["distance"], 4), round(found["beta"], 3)) == GELU:
        return Verdict(claim, "holds", evidence, effect, finding=finding)
    part = f"all but the quoted numbers of GELU, {GELU[0]:.4f} at β = {GELU[1]:.3f}, which are off in the last digit"
    return Verdict(claim, "holds in part", evidence, effect, part, finding=finding)


# Observations ---------------------------------------------------------------------------------------------------------


def chosen(rows: pd.DataFrame, by: str, *, largest: bool) -> pd.DataFrame:
    """Of each seed, the row of the table `curve` for test images whose form and β < 1 validation images prefer.

    Args:
        rows: of one network and data set.
        by: the column that decides on the validation images.
        largest: whether the largest value is preferred, or the smallest.

    Returns:
        These rows, with the hard network's values as `hard_accuracy`, `hard_ece`, `hard_nll`.
    """
    keys = ["seed", *FORM, "beta"]
    wide = rows.pivot(index=keys, columns="split", values=["accuracy", "ece", "nll"]).reset_index()
    wide.columns = ["_".join(filter(None, name)) for name in wide.columns]
    hard = wide[(wide["beta"] == 1) & (wide["norms"] == "kept")].groupby("seed").first()
    soft = wide[wide["beta"] < 1]
    order = soft.groupby("seed")[f"{by}_validation"]
    best = soft.loc[(order.idxmax() if largest else order.idxmin()).to_numpy()].set_index("seed")
    return best.assign(**{f"hard_{name}": hard[f"{name}_test"] for name in ("accuracy", "ece", "nll")})


def _judge_softened(claim: str, records: list[Record]) -> Verdict:
    curve, rival = as_table(records, "curve"), as_table(records, "rival").query("split == 'test'")
    if not enough(curve, "network", "dataset") or "digits" in set(curve["dataset"]):
        return Verdict(claim, "not tested", "The criterion asks for 5 seeds on data sets of real images.")
    parts, met, rivals = [], [], []
    for (network, dataset), rows in arms(curve, "network", "dataset"):
        accurate, likely = chosen(rows, "accuracy", largest=True), chosen(rows, "nll", largest=False)
        loss = interval(accurate["accuracy_test"] - accurate["hard_accuracy"])
        fall = interval(likely["hard_ece"] - likely["ece_test"])
        own = rival[(rival["network"] == network) & (rival["dataset"] == dataset)].set_index("seed")
        against = interval(likely["ece_test"] - own["ece"])
        met += [loss.low > -LEAST_ACCURACY, fall.low > 0 and fall.mean >= LEAST_ECE]
        rivals.append(against.mean >= LEAST_ECE)
        parts.append(
            f"{NETWORKS[network]}, {DATASETS[dataset]}: accuracy {loss:+.2%}, ECE falls by "
            f"{fall:+.3f}; its ECE less that of temperature scaling {against:+.3f}"
        )
    evidence = "; ".join(parts) + "."
    if any(rivals):
        evidence += f" Temperature scaling is better calibrated in {sum(rivals)} of {len(rivals)} cases."
    if curve["dataset"].nunique() < 2:
        return Verdict(claim, "not tested", f"One data set of two so far. {evidence}", f"so far {parts[0]}")
    if all(met):
        return Verdict(claim, "holds", evidence, parts[0])
    if not any(met):
        return Verdict(claim, "does not hold", evidence, parts[0])
    return Verdict(claim, "holds in part", evidence, parts[0], f"{sum(met)} of {len(met)} parts")


def gains(networks: pd.DataFrame) -> dict[tuple[str, str], Interval]:
    """Test accuracy with a learned β less that with each other unit, by data set and unit, paired by seed."""
    return {
        (dataset, unit): interval(paired(rows, "test_accuracy", by="unit", first="beta", second=unit))
        for dataset, rows in arms(networks, "dataset")
        for unit in ("relu", "silu", "gelu")
    }


def depth(betas: pd.DataFrame) -> tuple[Interval, Interval]:
    """Mean β after training, of the first and of the last layer less that of the middle one, paired by seed."""
    last = betas[betas["epoch"] == betas["epochs"]]
    layers = sorted(last["layer"].unique())
    middle = layers[len(layers) // 2]
    first, end = (
        paired(last, "mean_beta", by="layer", first=layer, second=middle) for layer in (layers[0], layers[-1])
    )
    return interval(first), interval(end)


def _judge_learned(claim: str, records: list[Record], hundred: list[Record]) -> Verdict:
    import pandas as pd

    networks = pd.concat([as_table(records, "networks"), as_table(hundred, "networks")])
    if not enough(networks, "dataset", "unit") or "digits" in set(networks["dataset"]):
        return Verdict(claim, "not tested", "The criterion asks for 5 seeds on data sets of real images.")
    found = gains(networks)
    met = [gain.low > 0 and gain.mean >= LEAST_ACCURACY for gain in found.values()]
    small = [gain.low > -LEAST_ACCURACY and gain.high < LEAST_ACCURACY for gain in found.values()]
    below = [gain.high < LEAST_ACCURACY for gain in found.values()]
    evidence = "Learned β less " + ", ".join(
        f"{unit} ({DATASETS[dataset]}) {gain:+.2%}" for (dataset, unit), gain in found.items()
    )
    for runs in (records, hundred):
        betas = as_table(runs, "betas")
        first, end = depth(betas)
        name = DATASETS[betas["dataset"].iloc[0]]
        evidence += f"; {name}: first less middle layer's β {first:+.3f}, last less middle {end:+.3f}"
        evidence += " (U-shaped)" if first.low > 0 and end.low > 0 else " (not U-shaped)"
    (dataset, unit), gain = next(iter(found.items()))
    effect = f"{gain:+.2%} against {unit} on {DATASETS[dataset]}"
    if all(met):
        return Verdict(claim, "holds", evidence + ".", effect)
    if any(met):
        names = [f"{unit} on {DATASETS[dataset]}" for (dataset, unit), good in zip(found, met, strict=True) if good]
        return Verdict(claim, "holds in part", evidence + ".", effect, "against " + ", ".join(names))
    if all(small):
        return Verdict(claim, "too small to matter", evidence + ".", effect)
    return Verdict(claim, "does not hold" if all(below) else "not decided", evidence + ".", effect)


def probe_gains(probes: pd.DataFrame) -> pd.Series:
    """Of each network, accuracy of the probe at the β that validation prefers less that at β = 1, one form.

    Where several β validate equally well, the largest of them counts.
    """
    order = probes.sort_values(["validation_accuracy", "beta"])
    best = order.groupby(["dataset", "seed"])["probe_accuracy"].last()
    return best - probes[probes["beta"] == 1].set_index(["dataset", "seed"])["probe_accuracy"]


def _probed(probes: pd.DataFrame) -> dict[str, Interval]:
    """In words → the gain of linear probes, for each data set that networks were trained on; one form."""
    gains = probe_gains(probes).groupby("dataset")
    found = {DATASETS[dataset]: interval(each) for dataset, each in gains}
    return {f"probe of {name} networks {each:+.2%}": each for name, each in found.items()}


def _judge_tuning(claim: str, robust: list[Record], transfer: list[Record]) -> Verdict:
    attacks, probes = as_table(robust, "chosen").query(PUBLISHED), as_table(transfer).query(PUBLISHED)
    real = "digits" not in set(attacks["dataset"]) | set(probes["dataset"])
    two = attacks["dataset"].nunique() == probes["dataset"].nunique() == 2
    if not (enough(attacks, "dataset", "attack") and enough(probes, "dataset") and real and two):
        return Verdict(
            claim, "not tested", "The criterion asks for 5 networks on each of two data sets of real images."
        )
    probed = _probed(probes)
    parts = list(probed)
    met = [found.low > 0 and found.mean >= LEAST_ACCURACY for found in probed.values()]
    for (dataset, attack), rows in arms(attacks, "dataset", "attack"):
        found = interval(rows["robust"] - rows["robust_hard"])
        loss = interval(rows["clean_hard"] - rows["clean"])
        met.append(found.low > 0 and found.mean >= LEAST_ROBUST and loss.mean < found.mean)
        parts.append(
            f"{DATASETS[dataset]}, {attack}: robust {found:+.2%} (from {rows['robust_hard'].mean():.1%}), clean "
            f"{-loss.mean:+.2%}, on the images of the choice {rows['validation_gain'].mean():+.2%}"
        )
    evidence = "; ".join(parts) + "."
    if all(met):
        return Verdict(claim, "holds", evidence, parts[0])
    if not any(met):
        return Verdict(claim, "does not hold", evidence, parts[0])
    return Verdict(claim, "holds in part", evidence, parts[0], f"{sum(met)} of {len(met)} parts")
