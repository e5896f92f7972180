"""Chapter 08: verdicts, tables and figures, on records made up with known effects."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from made import ERRORS, FACTORS, KINDS, digits, made

from maso_book.ch08 import compared, figures, tables
from maso_book.ch08.verdicts import verdicts


def outcomes(records) -> dict[str, str]:
    return {verdict.claim: verdict.outcome for verdict in verdicts(records)}


@pytest.fixture(scope="module")
def records():
    return made()


def both(records):
    return [*records["08-cifar100"], *records["08-cifar10"]]


def ways(records):
    return [*records["08-cifar10"], *records["08-explicit"]]


# Two arms -------------------------------------------------------------------------------------------------------------


def curve(losses, values) -> pd.DataFrame:
    return pd.DataFrame({"epoch": range(1, len(losses) + 1), "train_loss": losses, "free_2": values})


def test_two_arms_are_compared_where_their_losses_overlap() -> None:
    first = curve([2.0, 1.0, 0.5], [0.5 * math.exp(loss) for loss in (2.0, 1.0, 0.5)])
    second = curve([3.0, 1.0, 0.8], [math.exp(loss) for loss in (3.0, 1.0, 0.8)])
    assert compared.log_ratio(first, second) == pytest.approx(math.log(0.5))
    assert math.isnan(compared.log_ratio(curve([2.0, 1.9], [1, 1]), curve([1.0, 0.5], [1, 1])))


def test_what_is_before_training_is_not_compared() -> None:
    early = curve([2.0, 1.0], [1.0, 1.0]).assign(epoch=[0, 1])
    assert math.isnan(compared.log_ratio(early, early))


def test_a_share_lower_is_that_of_the_mean_log_ratio() -> None:
    found = compared.share_lower([math.log(0.8), math.log(0.7)])
    assert found.mean == pytest.approx(1 - math.sqrt(0.56))
    assert found.low < found.mean < found.high


# Verdicts -------------------------------------------------------------------------------------------------------------


def test_the_made_up_world_as_the_source_has_it(records) -> None:
    found = outcomes(records)
    assert found == {
        "08.1": "holds", "08.2": "holds", "08.3": "holds", "08.4": "holds", "08.5": "holds", "08.6": "holds",
        "08.7": "holds in part", "08.8": "holds",
    }  # fmt: skip


def test_nothing_is_tested_without_records_seeds_or_real_images(records) -> None:
    assert set(outcomes({}).values()) == {"not tested"}
    few = outcomes(made(seeds=range(2)))
    assert {claim for claim, outcome in few.items() if outcome != "not tested"} <= {"08.3", "08.5"}
    drawn = outcomes({name: digits(runs) if "cifar" in name else runs for name, runs in records.items()})
    assert {drawn[claim] for claim in ("08.1", "08.2", "08.6", "08.7")} == {"not tested"}


@pytest.mark.parametrize(
    ("factor", "outcome"), [(1.0, "does not hold"), (0.95, "does not hold"), (1.4, "does not hold"), (0.7, "holds")]
)
def test_augmentation_must_lower_it_by_a_tenth(factor, outcome) -> None:
    assert outcomes(made(FACTORS | {"augmented": factor}))["08.1"] == outcome


def test_noise_that_lowers_it_refutes_the_claim() -> None:
    assert outcomes(made(FACTORS | {"noise, a pixel": 0.7}))["08.2"] == "holds in part"
    lowered = {"noise, a pixel": 0.7, "noise, augmentation": 0.6}
    assert outcomes(made(FACTORS | lowered))["08.2"] == "does not hold"


def test_without_an_effect_of_augmentation_noise_decides_nothing() -> None:
    assert outcomes(made(FACTORS | {"augmented": 1.0}))["08.2"] == "not decided"


def test_a_penalty_that_gains_and_is_never_as_flat_holds_in_part() -> None:
    rough = dict.fromkeys(("rugosity, weak", "rugosity, strong", "relative, weak", "relative, strong"), 1.2)
    assert outcomes(made(FACTORS | rough))["08.4"] == "holds in part"
    same = dict.fromkeys(rough, ERRORS["none"])
    assert outcomes(made(FACTORS | rough, ERRORS | same))["08.4"] == "does not hold"


def test_a_dear_step_is_not_affordable() -> None:
    assert outcomes(made(rugosity=2.3))["08.5"] == "does not hold"


def test_squared_error_may_go_the_other_way() -> None:
    assert outcomes(made(FACTORS | {"augmented, squared": 1.3}))["08.6"] == "does not hold"
    assert outcomes(made(FACTORS | {"augmented, squared": 0.99}))["08.6"] == "too small to matter"


def test_experiments_without_records_leave_their_claims_open_and_the_numbers_shown(records) -> None:
    some = {name: runs for name, runs in records.items() if name in ("08-identity", "08-cifar10", "08-cost-cpu")}
    found = {verdict.claim: verdict for verdict in verdicts(some)}
    open_ = {claim for claim, verdict in found.items() if verdict.outcome == "not tested"}
    assert open_ == {"08.1", "08.2", "08.4", "08.5", "08.7", "08.8"}
    assert found["08.1"].evidence.startswith("No record of 08-cifar100. So far: CIFAR-10")
    assert found["08.3"].outcome == "holds"


def test_ranks_that_are_turned_round() -> None:
    turned = {arm: 1 - error for arm, error in ERRORS.items()}
    assert outcomes(made(errors=turned))["08.8"] == "does not hold"


# Tables and figures ---------------------------------------------------------------------------------------------------


def test_every_table_has_a_row_an_arm(records) -> None:
    assert tables.arms_table(both(records)).count("\n") == 1 + 5 + 6
    assert tables.explicit_table(ways(records)).count("\n") == 1 + 9
    assert tables.talk_table(both(records)).count("\n") == 1 + 5 + 6
    assert tables.occam_table(ways(records)).count("\n") == 1 + 4
    devices = tables.cost_table(records["08-cost"], records["08-cost-cpu"]).splitlines()
    assert len(devices) == 2 + len(KINDS)
    assert [word for word in ("GPU, time ×", "CPU, time ×", "GPU, memory") if word not in devices[0]] == []
    alone = tables.cost_table([], records["08-cost-cpu"]).splitlines()
    assert (len(alone), "GPU" in alone[0]) == (2 + len(KINDS), False)
    assert tables.class_table(both(records)).count("\n") == 1 + 3


def test_changes_are_against_none_of_the_same_loss(records) -> None:
    table = figures.changes(both(records))
    assert set(table["way"]) == {"augmented", "noise, a pixel", "noise, augmentation", "augmented, squared"}
    mean = table[table["way"] == "augmented"]["change"].mean()
    assert mean == pytest.approx(FACTORS["augmented"] - 1, abs=0.02)


def test_the_scan_has_every_bandwidth_and_p(records) -> None:
    table = figures.scan(records["08-cifar10"])
    assert table.groupby(["bandwidth", "p"]).ngroups == 2 * 7


def test_directions_have_a_row_each(records) -> None:
    assert figures.directions(records["08-cifar10"]).groupby("record")["direction"].nunique().eq(6).all()


def test_bars_of_the_terms_reach_the_extra_loss(records) -> None:
    table = compared.tables(records["08-cifar10"], "taylor").query("arm in ('none', 'augmented')")
    _, ax = plt.subplots()
    figures.terms(ax, table)
    heights = sum(bar.get_height() for bar in ax.patches if abs(bar.get_x() - (1 - 0.2 - 0.18)) < 1e-9)
    assert heights == pytest.approx(table.query("arm == 'none' and shift == 1")["extra_loss"].mean())
    assert {text.get_text() for text in ax.legend().get_texts()} >= {"difference of $A$", "first order"}
    plt.close()


def test_paths_show_outputs_and_bends(records) -> None:
    drawn = [record for record in records["08-cifar10"] if "outputs" in record.arrays]
    fig = figures.paths(drawn)
    titles = [ax.get_title("left") for ax in fig.axes if ax.get_title("left")]
    assert titles == ["without augmentation", "with augmentation"]
    outputs = fig.axes[1]
    assert len(outputs.lines) == 10 + 1
    drawn_rms = np.sqrt(np.mean([line.get_ydata() ** 2 for line in outputs.lines[:10]]))
    assert drawn_rms == pytest.approx(1, rel=1e-3)
    plt.close(fig)
