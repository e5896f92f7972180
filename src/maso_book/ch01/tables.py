"""The tables and sentences of chapter 01 that stand in its text, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from maso_book.records import Record
from maso_book.tidy import as_table


def layers(rational: Sequence[Record], proofs: Sequence[Record]) -> str:
    """The layers with their R, cases and proof times."""
    sampled = as_table(rational).groupby(["kind", "pieces"], sort=False)
    counts = sampled[["cases", "edge_cases", "ties", "mismatches"]].sum().reset_index()
    lines = [
        "| layer | pieces R | cases | edge cases | ties | mismatches | proved for all inputs | time |",
        "|---|---|--:|--:|--:|--:|---|--:|",
    ]
    for row in counts.merge(as_table(proofs, of="layers"), on="kind").itertuples():
        pieces = row.pieces.replace("#R_k", "$\\lvert R_k\\rvert$")
        proved = "✔" if row.equal and row.from_layer_equal else "✘"
        lines.append(
            f"| {row.kind} | {pieces} | {row.cases:,} | {row.edge_cases:,} | {row.ties:,} | {row.mismatches} | "
            f"{proved}\u00a0{row.inputs}\u00a0→\u00a0{row.outputs} | {1000 * row.equal_seconds:.1f}\u00a0ms |"
        )
    return "\n".join(lines)


def refusals(records: Sequence[Record]) -> str:
    """What `affine_map` names when it refuses each network."""
    lines = ["| network | refused because of the operator |", "|---|---|"]
    for row in records[0].tables["refusals"]:
        because = f"`{row['operator']}`" if row["operator"] else "not refused"
        lines.append(f"| {row['network']} | {because} |")
    return "\n".join(lines)


def proved_networks(proofs: Sequence[Record]) -> str:
    """How many small networks are affine on their cells and Lipschitz."""
    networks = as_table(proofs, of="networks")
    seconds = (networks["affine_seconds"] + networks["lipschitz_seconds"]).sum()
    return (
        f"Proved for all inputs: {networks['affine'].sum()} of {len(networks)} networks are affine on the cell of each "
        f"of their {networks['codes'][0]} codes, {networks['lipschitz'].sum()} are Lipschitz with the constant that "
        f"their weights give; {seconds:.1f} s in all."
    )


def single_precision(resnet: Sequence[Record]) -> str:
    """How many real images get another code in float32, in which layer, and what that does to A."""
    draws, layers = as_table(resnet, of="draws"), as_table(resnet, of="layers")
    images, other = draws["images"].sum(), draws["images_with_another_code"].sum()
    in_layer = layers.groupby("layer", sort=False)["images_with_another_piece"].sum()
    most = f" No layer differs more often than `{in_layer.idxmax()}`: for {in_layer.max()} of them."
    return (
        f"Of {images:,} images (all seeds together) {other:,} ({other / images:.1%}) get another code in float32."
        f"{most if other else ''} With the same code the matrix $A$ of float32 differs "
        f"from that of float64 by about {draws['median_slope_error_same_code'].mean():.1e} (median); the largest "
        f"difference of all is {draws['largest_slope_error'].max():.1e}."
    )
