"""Chapter 07: agreement and axioms against brute force on small cells; its verdicts; its figures and tables."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from maso.partition import Plane
from maso_book import registry, trained
from maso_book.ch07 import agreement, figures, metric, tables, verdicts
from maso_book.ch07.agreement import DIVERGED, EUCLID, KS, Agreement, last_layer
from maso_book.ch07.experiments import QUICK
from maso_book.ch07.speed import Speed
from maso_book.experiment import Experiment
from maso_book.records import Record
from maso_book.results import compute
from maso_book.tidy import as_table
from maso_book.trained import data
from maso_book.training import History
from maso_book.verdict import Verdict

SMALL = Agreement(0, epochs=2, shown=2, **QUICK)


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Record:
    network = trained.trained(SMALL.recipe, folder=tmp_path_factory.mktemp("networks"))
    return computed(network)


def computed(network: trained.Trained) -> Record:
    """The cell `SMALL` of this network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agreement, "trained", lambda _: network)
        return compute(Experiment("07-agreement", agreement.run_agreement, list), SMALL)


def verdict(claim: str, **results: Sequence[Record]) -> Verdict:
    """The verdict on a claim from records of 07-agreement (`agreement=`), 07-labels and so on."""
    named = {f"07-{name}": list(records) for name, records in results.items()}
    return next(v for v in verdicts.verdicts(named) if v.claim == claim)


# Measurements ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", KS)
def test_agreement_of_pixels_is_that_of_a_plain_search(cell: Record, k: int) -> None:
    d = data(SMALL.recipe)
    queries, images = d.x_test[: SMALL.queries].flatten(1).double(), d.x[: SMALL.images].flatten(1).double()
    nearest = (queries[:, None] - images[None]).square().sum(2).argsort(1)[:, :k]
    share = (d.y[nearest] == d.y_test[: SMALL.queries, None]).double().mean()
    table = as_table([cell], "agreement")
    counted = table[(table["distance"] == "pixels") & (table["k"] == k)]["label_agreement"]
    assert counted.tolist() == pytest.approx([float(share)] * 2, abs=1e-3)


def test_a_record_has_a_row_for_each_epoch_distance_and_k(cell: Record) -> None:
    table = as_table([cell], "agreement")
    names = ["ReLU 1", "pool 1", "ReLU 2", "pool 2", "ReLU 3", "pool 3", *EUCLID]
    expected = [(epoch, name, k) for epoch in (0, 2) for name in names for k in KS]
    assert list(zip(table["epoch"], table["distance"], table["k"], strict=True)) == expected
    assert set(zip(table["kind"], table["distance"], strict=True)) == {
        ("Euclid" if name in EUCLID else name.split()[0], name) for name in names
    }
    layers = as_table([cell], "layers")
    assert layers["distance"].tolist() == 2 * names[:6]
    sizes = layers["units"].tolist()
    assert sizes == 2 * sizes[:6]
    assert [4 * pool for pool in sizes[1:2]] == sizes[:1]  # each window has four entries


def test_neighbours_that_are_shown_are_the_nearest_pictures(cell: Record) -> None:
    pictures, index = cell.arrays["pictures"], cell.arrays["neighbours"]
    d = data(SMALL.recipe)
    assert np.array_equal(pictures[:2], d.x_test[:2].numpy())
    assert index.shape == (2, 9, 2, 15)
    assert index.min() == 2
    assert index.max() == len(pictures) - 1

    queries, images = d.x_test[:2].flatten(1).double(), d.x[: SMALL.images].flatten(1).double()
    nearest = (queries[:, None] - images[None]).square().sum(2).argmin(1)
    assert np.array_equal(pictures[index[0, 6, :, 0]], d.x[nearest].numpy())
    assert np.array_equal(cell.arrays["picture_labels"][index[0, 6, :, 0]], d.y[nearest].numpy())


def test_permuted_labels_are_not_those_that_agreement_is_counted_with() -> None:
    true, permuted = (data(Agreement(0, labels=labels, **QUICK).recipe) for labels in agreement.LABELS)
    assert torch.equal(true.x, permuted.x)
    assert not torch.equal(true.y, permuted.y)


def test_histograms_count_every_pair(cell: Record) -> None:
    histograms, layers = cell.arrays["histograms"], as_table([cell], "layers")
    assert histograms.shape == (2, 6, 2, len(agreement.BINS) - 1)
    n, m = SMALL.pairs
    assert (histograms.sum((2, 3)) == n * m).all()
    middle = (agreement.BINS[1:] + agreement.BINS[:-1]) / 2
    means = (histograms @ middle / histograms.sum(3)).reshape(-1, 2)  # to half a bin
    assert np.allclose(means, layers[["mean_within", "mean_between"]], atol=0.01)


def test_a_network_that_diverged_is_recorded_as_such(cell: Record) -> None:
    none = np.zeros(0)
    network = trained.Trained(SMALL.recipe, nn.Identity(), History(none, none, none, none, diverged=True), {})
    record = computed(network)
    assert record.tables == {"networks": [DIVERGED], "agreement": [], "layers": []}
    assert cell.tables["networks"][0].keys() == DIVERGED.keys()


def test_the_last_layer_is_what_enters_and_leaves_the_dense_one() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    x = torch.randn(7, 3)
    features, outputs = last_layer(model, x)
    assert torch.equal(features, model[:2](x))
    assert torch.equal(outputs, model(x))


def test_a_broken_triangle_is_noticed() -> None:
    n = torch.tensor([[0, 3, 1], [3, 0, 1], [1, 1, 0]])
    assert metric.broken_triangles(n) == 2
    assert metric.broken_triangles(n.clamp(max=2)) == 0


def test_a_small_cell_of_the_axioms_has_no_violation() -> None:
    table = as_table([compute(registry.named("07-metric"), metric.Metric(5, 60))])
    assert table["network"].tolist() == list(metric.NETWORKS)
    assert (table["pairs"] == 60 * 59).all()
    assert (table["pairs_at_zero"] > 0).any()
    assert not table[[*verdicts.VIOLATIONS, *verdicts.DISAGREEMENTS]].any(axis=None)
    assert table["largest_map_difference"].max() < metric.SAME


def test_ways_to_compare_codes_find_the_same() -> None:
    record = compute(registry.named("07-speed"), Speed(0, 40, 300, 200, repeats=2))
    assert [row["other_neighbours"] for row in record.tables["ways"]] == [0, 0, 0]
    assert [row["repeat"] for row in record.tables["timings"]] == 4 * [0, 1]
    assert len(tables.speed_table([record]).splitlines()) == 6


# Verdicts -------------------------------------------------------------------------------------------------------------


def made_up(
    trained: Sequence[float], untrained: Sequence[float], outputs: float = 0.3, seeds: int = 5, **config: Any
) -> list[Record]:
    """Records with these agreements in three ReLU layers and three pools, a little different for each seed."""
    records = []
    for seed in range(seeds):
        layers = {
            (epoch, kind, f"{kind} {number}"): share * (1 + seed / 1000)
            for epoch, shares in ((0, untrained), (3, trained))
            for kind in ("ReLU", "pool")
            for number, share in enumerate(shares, 1)
        }
        euclid = {
            (epoch, "Euclid", name): share
            for epoch in (0, 3)
            for name, share in zip(EUCLID, (0.25, 0.3, outputs), strict=True)
        }
        rows = [
            {"epoch": epoch, "kind": kind, "distance": name, "k": k, "label_agreement": share}
            for (epoch, kind, name), share in (layers | euclid).items()
            for k in KS
        ]
        asked = {"dataset": "cifar10", "network": "small_cnn", "labels": "true", "seed": seed, "epochs": 3} | config
        networks = [DIVERGED | {"diverged": False}]
        found = {"networks": networks, "agreement": rows}
        records.append(Record("07-agreement", asked, found, {}, {"device": "cpu"}, str(seed)))
    return records


RISES, FLAT, FALLS = [0.2, 0.3, 0.5], [0.2, 0.21, 0.22], [0.4, 0.3, 0.2]


def test_depth_is_measured_by_last_layer_gain_and_order() -> None:
    table = verdicts.by_depth(made_up([0.2, 0.5, 0.4], FALLS, seeds=1))
    rows = table[(table["kind"] == "pool") & (table["k"] == 5)].set_index("arm")
    assert rows.loc["trained", ["last", "gain", "order"]].tolist() == pytest.approx([40, 20, 1 / 3])
    assert rows.loc["untrained", ["last", "gain", "order"]].tolist() == pytest.approx([20, -20, -1])


def test_advantages_are_paired_by_seed() -> None:
    labels = made_up(RISES, FLAT) + made_up(FALLS, FLAT, labels="permuted")
    table = verdicts.advantages(made_up(RISES, FLAT, outputs=0.6, seeds=6), labels)
    rows = table[(table["kind"] == "ReLU") & (table["k"] == 15)]
    more = 1 + np.arange(6) / 1000
    expected = {
        "untrained": 28 * more,
        "untrained, rise with depth": 28 * more,
        "permuted labels": 30 * more[:5],
        "pixels": 50 * more - 25,
        "outputs": 50 * more - 60,
    }
    assert set(rows["control"]) == set(verdicts.FIRST_CONTROLS)
    for control, values in expected.items():
        assert rows[rows["control"] == control]["advantage"].tolist() == pytest.approx(list(values))


AXIOMS = {
    "network": "ReLU", "pairs": 56, "triples": 512, "nonzero_to_itself": 0, "asymmetric": 0, "broken_triangles": 0,
    "pairs_at_zero": 30, "zero_across_polygons": 0, "positive_within_polygon": 0, "largest_map_difference": 1e-15,
    "positive_with_one_map": 2,
}  # fmt: skip


@pytest.mark.parametrize(
    ("networks", "change", "outcome"),
    [
        (50, {}, "holds"),
        (49, {}, "not tested"),
        (50, {"pairs_at_zero": 10}, "not tested"),
        (50, {"largest_map_difference": 1e-11}, "does not hold"),
        *((50, {column: 1}, "does not hold") for column in verdicts.VIOLATIONS + verdicts.DISAGREEMENTS),
    ],
)
def test_axioms_are_judged_over_all_networks(networks: int, change: dict[str, Any], outcome: str) -> None:
    found = {"networks": [AXIOMS | change, *[AXIOMS | {"pairs_at_zero": change.get("pairs_at_zero", 30)}] * 48]}
    found["networks"] += [AXIOMS] * (networks - 49)
    record = Record("07-metric", {"seed": 0}, found, {}, {"device": "cpu"}, "")
    assert verdict("07.3", metric=[record]).outcome == outcome


# Figures and tables ---------------------------------------------------------------------------------------------------


def test_curves_have_the_arms_of_each_panel() -> None:
    permuted = made_up(FALLS, FLAT, labels="permuted")
    table = figures.curves(made_up(RISES, FLAT), made_up(RISES, FLAT) + permuted)
    shown = {panel: set(rows["arm"]) for panel, rows in table.groupby("panel")}
    euclid = {"pixels, Euclid", "outputs, Euclid"}
    assert shown == {
        "CIFAR-10": {"trained", "untrained", *euclid},
        "CIFAR-10, twins": {"true labels", "permuted labels", "untrained", *euclid},
    }
    assert set(table["arm"]) == set(figures.ARMS)
    values = table[table["seed"] == 0].set_index(["panel", "arm", "k", "distance"])["label_agreement"].sort_index()
    assert values.index.is_unique
    assert values["CIFAR-10, twins", "permuted labels", 5, "pool 3"] == FALLS[2]
    assert values["CIFAR-10, twins", "pixels, Euclid", 5].tolist() == [0.25] * 6


def test_ends_are_first_and_last_layers_and_euclid() -> None:
    permuted = made_up(FALLS, FLAT, labels="permuted")
    table = tables.ends(made_up(RISES, FLAT), made_up(RISES, FLAT) + permuted)
    names = ["ReLU 1", "ReLU 3", "pool 1", "pool 3", "pixels, Euclid", "features, Euclid", "outputs, Euclid"]
    assert table["distance"].unique().tolist() == names
    shown = {panel: set(rows["arm"]) for panel, rows in table.groupby("panel")}
    twins = {"true labels", "permuted labels"}
    assert shown == {"CIFAR-10": {"trained", "untrained"}, "CIFAR-10, twins": twins}
    values = table[table["seed"] == 0].set_index(["panel", "arm", "k", "distance"])["label_agreement"].sort_index()
    assert values.index.is_unique
    assert values["CIFAR-10, twins", "permuted labels", 15, "pool 3"] == FALLS[2]


def test_a_network_is_named_in_words() -> None:
    assert tables.title("cifar10", "large_cnn") == "CIFAR-10, largeCNN"
    assert tables.title("mnist", "small_cnn") == "MNIST"


def test_comparisons_are_in_the_order_of_the_controls() -> None:
    labels = made_up(RISES, FLAT) + made_up(FLAT, FLAT, labels="permuted")
    table = figures.comparisons(made_up(RISES, FLAT), labels)
    assert list(table["less"].unique()) == [f"less {control} (CIFAR-10)" for control in verdicts.FIRST_CONTROLS]
    assert set(table["layer"]) == set(figures.KINDS)


def test_pictures_are_framed_and_counted_by_their_labels(cell: Record) -> None:
    query, ax = figures.neighbours(cell, 1, trained=True).axes
    names = [name for name in as_table([cell], "agreement")["distance"].unique() if name not in EUCLID]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [*names, *(f"{name}, Euclid" for name in EUCLID)]
    (image,) = query.images
    assert np.array_equal(image.get_array(), cell.arrays["pictures"][1][0])

    labels, index = cell.arrays["picture_labels"], cell.arrays["neighbours"][1, :, 1]
    solid = np.reshape([patch.get_linestyle() in ("-", "solid") for patch in ax.patches], index.shape)
    assert np.array_equal(solid, labels[index] == labels[1])
    frame = ax.patches[15 * 2 + 4]  # third row, fifth column
    corner = int(frame.get_y() + 1.5), int(frame.get_x() + 1.5)
    inside = ax.images[0].get_array()[corner[0] : corner[0] + 32, corner[1] : corner[1] + 32]
    assert np.array_equal(inside, cell.arrays["pictures"][index[2, 4]][0])


def test_distances_have_a_panel_for_each_layer_and_epoch(cell: Record) -> None:
    fig = figures.distances([cell])
    layers = as_table([cell], "layers")
    titles = [ax.get_title(loc="left") for ax in fig.axes]
    expected = [f"{name}\n{value:.2f}" for name, value in zip(layers["distance"], layers["separation"], strict=True)]
    assert [title.partition(" [")[0] for title in titles] == expected
    within, between = fig.axes[7].lines
    counts = cell.arrays["histograms"][1, 1]
    assert np.allclose(within.get_ydata(), counts[0] / counts[0].sum())
    assert np.allclose(between.get_ydata(), counts[1] / counts[1].sum())


def test_the_first_network_is_shown_without_those_that_diverged() -> None:
    records = made_up(RISES, FLAT, dataset="mnist") + made_up(RISES, FLAT)
    records[0].tables["networks"] = [DIVERGED]
    assert figures.first_network(records) == records[1:5]


def test_cells_are_coloured_by_the_cuts_between() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
        model[0].bias.zero_()
    fig = figures.cells(model, Plane.square(-4, 4), torch.ones(1, 2, dtype=torch.float64))
    first, both = (fig.axes[i].collections[0].get_array() for i in (0, 1))
    assert sorted(np.asarray(first)) == sorted(np.asarray(both)) == [0, 1, 1, 2]  # the quadrants


def test_tables_give_means_over_seeds() -> None:
    permuted = made_up(FALLS, FLAT, labels="permuted")
    lines = tables.agreement_table(made_up(RISES, FLAT), made_up(RISES, FLAT) + permuted).splitlines()
    assert len(lines) == 2 + 4 * 7
    assert lines[2].startswith("| CIFAR-10, untrained | ReLU 1 | 20.0% ± 0.0% |")
    assert lines[10] == "|  | ReLU 3 | " + " | ".join(["50.1% ± 0.1%"] * 3) + " |"

    networks = [{"diverged": False, "training_accuracy": 0.5, "test_accuracy": 0.25}, DIVERGED]
    config = {"seed": 1, "dataset": "mnist", "network": "small_cnn", "labels": "true", "samples": None}
    records = [Record("07-labels", config, {"networks": [network]}, {}, {}, "") for network in networks]
    about = "| MNIST, seed 1 | true | all |"
    expected = [f"{about} 50.0% | 25.0% |", f"{about} diverged | |"]
    assert tables.accuracy_table(records).splitlines()[2:] == expected

    record = Record("07-metric", {"seed": 0}, {"networks": [AXIOMS | {"asymmetric": 3}]}, {}, {}, "")
    assert tables.metric_table([record, record]).splitlines()[2] == "| ReLU | 112 | 1,024 | 6 | 60 | 0 | 4 |"
