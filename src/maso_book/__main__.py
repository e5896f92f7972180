"""`python -m maso`: run chapters, say what is recorded and fresh, verify the records, build the book.

Exit codes: 0 done, 1 something failed (it is named), 2 wrong usage, 3 the time budget is used up before all is run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

import maso_book.tree
from maso.errors import MasoError
from maso_book import chapters, records, registry, results
from maso_book.claims import claims
from maso_book.differences import differences
from maso_book.experiment import Experiment
from maso_book.locks import locked
from maso_book.parameters import PARAMETERS, PROFILES, check_device, check_profile, check_values
from maso_book.records import Record

OUT_OF_TIME = 3
LONGEST_CHECK = 120.0  # `verify` re-runs no cell that took longer, in seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    failed: list[str] = []
    try:
        with _alone("", failed):
            code = options.command(options)
            sys.stdout.flush()
            return code
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("maso: interrupted; what is recorded stays, and the same command resumes.", file=sys.stderr)
        return 130
    return 1


@contextlib.contextmanager
def _alone(name: str, failed: list[str]) -> Iterator[None]:
    """What goes wrong inside is said and costs this chapter or experiment alone: its name is added to `failed`."""
    about = f"{name}: " if name else ""
    try:
        yield
        return
    except BrokenPipeError:
        raise
    except MasoError as error:
        print(f"maso: {about}{error}", file=sys.stderr)
    except OSError as error:
        print(f"maso: {about}{error.filename or 'input or output'}: {records.reason(error)}", file=sys.stderr)
    except Exception:
        if not name:
            raise
        print(f"maso: {about}", file=sys.stderr)
        traceback.print_exc()
    failed.append(name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="maso", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="{run,status,verify,new-chapter,queue,lease,book}")

    run = commands.add_parser("run", help="run chapters, or with --profile full only their experiments")
    run.add_argument(
        "chapters", nargs="*", metavar="CHAPTER", help="01, 01-maso-proof-checks, …; all where none is named"
    )
    run.add_argument("--profile", default="paper", help="quick, paper (the default) or full")
    run.add_argument("-p", dest="parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
                     help="a parameter of the notebook: dataset, seeds, device, recompute")  # fmt: skip
    run.add_argument(
        "--budget",
        type=_seconds,
        help="with --profile full: stop after this time, between cells or between epochs of a training: 9m",
    )
    run.add_argument("--record", metavar="EXPERIMENT/HASH", help="with --profile full: only this cell")
    run.set_defaults(command=_run)

    status = commands.add_parser("status", help="which records exist, which chapters are fresh")
    status.set_defaults(command=_status)

    verify = commands.add_parser("verify", help="re-hash all records: seconds, no data set")
    verify.add_argument("--rerun", action="store_true", help="and run the quickest cell of each experiment again")
    verify.set_defaults(command=_verify)

    new = commands.add_parser("new-chapter", help="write a chapter from the template")
    new.add_argument("number", metavar="NUMBER", help="two digits: 12")
    new.add_argument("title", metavar="TITLE", help='"Dead units"')
    new.set_defaults(command=_new_chapter)

    queue = commands.add_parser("queue", help="what is missing of the grids for a GPU, the worthiest first")
    queue.add_argument("--minutes", type=float, default=10.0, help="how long the slot is (10)")
    queue.add_argument("--workers", type=int, default=1, help="processes side by side (1)")
    queue.set_defaults(command=_queue)

    lease = commands.add_parser("lease", help="run the queue in a slot on a GPU, and take in what it gave")
    steps = lease.add_subparsers(required=True, metavar="{pack,unpack,check,run,collect}")
    packed = steps.add_parser("pack", help="at home: write the data and trainings that the next cells need")
    packed.add_argument("folder", type=Path, nargs="?", default=Path(".lease"), metavar="DIR", help=".lease")
    packed.add_argument("--minutes", type=float, required=True)
    packed.add_argument("--workers", type=int, default=1)
    packed.add_argument("--limit", type=float, default=50.0, help="MiB that travel in a call, besides the tree (50)")
    packed.set_defaults(command=_lease_pack)
    came = steps.add_parser("unpack", help="on the machine: put what `pack` wrote where it belongs")
    came.add_argument("folders", type=Path, nargs="+", metavar="CALL")
    came.set_defaults(command=_lease_unpack)
    slot = steps.add_parser("run", help="on the machine: work for some minutes, pack what is done into a folder")
    slot.add_argument("out", type=Path, metavar="OUT")
    slot.add_argument("--minutes", type=float, required=True)
    slot.add_argument("--workers", type=int, default=1)
    slot.add_argument("--device", default="cuda")
    slot.add_argument("--profile", default="full")
    slot.set_defaults(command=_lease_run)
    checked = steps.add_parser("check", help="on the machine: does it give what a CPU gives, and how fast")
    checked.add_argument("--device", default="cuda")
    checked.set_defaults(command=_lease_check)
    work = steps.add_parser("work")  # one worker of `run`
    for name, kind in (("profile", str), ("device", str), ("deadline", float), ("number", int)):
        work.add_argument(f"--{name}", type=kind, required=True)
    work.set_defaults(command=_lease_work)
    taken = steps.add_parser("collect", help="at home: take in what `run` packed")
    taken.add_argument("folder", type=Path, metavar="DIR")
    taken.set_defaults(command=_lease_collect)

    book = commands.add_parser("book", help="run the chapters that are not fresh and build the site")
    book.set_defaults(command=_book)
    return parser


def _seconds(text: str) -> float:
    """`9m`, `90s`, `2h` or plain seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a time such as 90s, 9m or 2h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


# run ----------------------------------------------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    from maso_book import runner

    check_profile(options.profile)
    try:
        parameters = {name: yaml.safe_load(value) for name, value in options.parameters}
    except yaml.YAMLError as error:
        raise MasoError(f"-p takes NAME and VALUE, a value as YAML writes it: [1, 2], true. {error}") from error
    if "profile" in parameters:
        raise MasoError("The profile is chosen with --profile.")
    allowed = [name for name in PARAMETERS if name != "profile"]
    unknown = sorted(set(parameters) - set(allowed))
    if unknown:
        raise MasoError(f"There is no parameter {', '.join(unknown)}. Parameters: {', '.join(allowed)}.")
    check_values(parameters)
    if options.profile == "full":
        return _run_experiments(options, parameters)
    if options.budget is not None or options.record is not None:
        raise MasoError("--budget and --record belong to --profile full.")
    names = options.chapters or [chapter.number for chapter in chapters.written()]
    parameters["profile"] = options.profile
    failed: list[str] = []
    for chapter in [chapters.find(name) for name in names]:
        with _alone(chapter.number, failed):
            print(f"{chapter.name}: running, profile {options.profile}", flush=True)
            print(f"{chapter.name}: done, {_relative(runner.run(chapter, parameters))}", flush=True)
    return _report(failed)


def _run_experiments(options: argparse.Namespace, parameters: dict[str, Any]) -> int:
    device = check_device(parameters.get("device"))
    dataset, seeds = parameters.get("dataset"), parameters.get("seeds")
    failed: list[str] = []
    chosen = _experiments_of(options.chapters, failed)
    grid = results.grid_of(device)
    have = [e for e in chosen if any(hasattr(config, "dataset") for config in e.grid(grid))]
    if dataset is not None and not have:
        raise MasoError(f"None of {', '.join(e.name for e in chosen)} has a data set to choose.")
    wanted = [(e, results.cells(e, grid, dataset=dataset if e in have else None, seeds=seeds)) for e in chosen]
    if options.record is not None:
        wanted = [(e, [c for c in cells if _name(e, c) == options.record]) for e, cells in wanted]
        if not any(cells for _, cells in wanted):
            raise MasoError(f"No cell of the grid has the name {options.record!r}: expected EXPERIMENT/HASH.")
    deadline = None if options.budget is None else time.monotonic() + options.budget
    recompute, left = parameters.get("recompute", False), 0
    for experiment, cells in wanted:
        with _alone(experiment.name, failed):
            done, skipped = results.run_missing(
                experiment, cells, device=device, recompute=recompute, deadline=deadline
            )
            left += skipped
            print(f"{experiment.name}: {len(done)} of {len(cells)} cells recorded", flush=True)
    if failed:
        return _report(failed)
    if left:
        print(f"The time budget is used up with {left} cells left. The same command goes on from here.")
        return OUT_OF_TIME
    return 0


def _experiments_of(names: Sequence[str], failed: list[str]) -> list[Experiment]:
    """The experiments of these chapters, which need no notebook yet; all where none is named.

    A broken chapter is said, and its number added to `failed`, where that has not been done.
    """
    known, broken = registry.registry().values(), registry.broken()
    numbers = {experiment.chapter for experiment in known} | set(broken)
    wanted = [name if name in numbers else chapters.find(name).number for name in names] or sorted(numbers)
    for number in sorted(set(wanted) & set(broken) - set(failed)):
        with _alone(number, failed):
            raise broken[number]
    return [experiment for experiment in known if experiment.chapter in wanted]


def _broken() -> list[str]:
    """The chapters whose experiments are left out, after each was said."""
    failed: list[str] = []
    _experiments_of([], failed)
    return failed


def _name(experiment: Experiment, config: Any) -> str:
    return f"{experiment.name}/{records.content_hash(experiment.name, config)}"


def _report(failed: Sequence[str]) -> int:
    if failed:
        print(f"maso: failed: {', '.join(dict.fromkeys(failed))}", file=sys.stderr)
    return 1 if failed else 0


def _relative(path: Path) -> Path:
    root = maso_book.tree.root()
    return path.relative_to(root) if path.is_relative_to(root) else path


# status and verify --------------------------------------------------------------------------------------------------


def _status(options: argparse.Namespace) -> int:
    from maso_book import runner

    folder = records.results_folder()
    failed: list[str] = []
    for chapter in chapters.written():
        with _alone(chapter.number, failed):
            print(f"{chapter.name}: {'fresh' if runner.is_fresh(chapter) else 'to be run'}")
    for experiment in _experiments_of([], failed):
        present = {path.stem for path in (folder / experiment.name).glob("*.json")}
        counts = []
        in_grid: set[str] = set()
        for profile in ("paper", "full"):
            asked = {records.content_hash(experiment.name, c) for c in results.cells(experiment, profile)}
            in_grid |= asked
            counts.append(f"{profile} {len(asked & present)} of {len(asked)}")
        notes, older, on_gpu = [], 0, 0
        for name in sorted(present):
            try:
                record = records.load(folder / experiment.name / f"{name}.json")
                older += record.provenance.get("code") != experiment.code(record.config)
                on_gpu += record.provenance["device"] == "cuda"
            except MasoError as error:
                notes.append(str(error))
        if older:
            notes.insert(0, f"{older} made by older code")
        if on_gpu:
            counts.append(f"{on_gpu} on a GPU")
        if present - in_grid:
            notes.insert(0, f"{len(present - in_grid)} outside the grid")
        print(f"{experiment.name}: recorded: {', '.join(counts)}" + "".join(f"\n    {note}" for note in notes))
    return _report(failed)


def _verify(options: argparse.Namespace) -> int:
    problems = [*records.verify(), *_strange_folders()]
    for problem in problems:
        print(f"maso: {problem}", file=sys.stderr)
    wrong = [] if not problems else [f"{len(problems)} files"]
    if not options.rerun:
        sealed = len(list(records.results_folder().glob("*/*.json")))
        print(f"{sealed} records, {len(problems)} problems. `--rerun` runs one cell of each experiment again.")
        return _report(wrong)
    for experiment in _experiments_of([], wrong):
        with _alone(experiment.name, wrong):
            found = _verify_cell(experiment) or []
            for line in found:
                print(f"    {line}", file=sys.stderr)
            if found:
                wrong.append(experiment.name)
    return _report(wrong)


def _strange_folders() -> list[str]:
    """A message for each thing beside the experiments' folders."""
    known = registry.registry()
    return [
        f"{path} is no experiment's folder. Move it out of the results folder."
        for path in sorted(records.results_folder().glob("*"))
        if path.name not in known and path.name.partition("-")[0] not in registry.broken()
    ]


def _verify_cell(experiment: Experiment) -> list[str] | None:
    """Differences between the quickest recorded cell and a run of it here; None where nothing could be run."""
    grid = [c for profile in PROFILES for c in results.cells(experiment, profile)]
    recorded = []
    for path, config in {results.path_of(experiment, config): config for config in grid}.items():
        if path.exists():
            with contextlib.suppress(MasoError):  # already reported
                recorded.append((records.load(path), config))
    if not recorded:
        print(f"{experiment.name}: nothing recorded")
        return None
    here = [(r, c) for r, c in recorded if _can_run(experiment, r, c)]
    if not here:
        print(f"{experiment.name}: not re-run: this machine has no CUDA device, on which it was recorded or trained")
        return None
    record, config = min(here, key=lambda pair: _cost(experiment, *pair))
    seconds = _cost(experiment, record, config)
    if seconds > LONGEST_CHECK:
        print(f"{experiment.name}: not re-run: its quickest cell takes {seconds:.0f} s")
        return None
    data = getattr(config, "dataset", None)
    needs = f"{seconds:.0f} s" + (f", the data set {data}" if data else "")
    print(f"{experiment.name}: running {record.hash} again ({needs})", flush=True)
    try:
        again = results.compute(experiment, config, device=record.provenance["device"])
    except MasoError as error:
        print(f"{experiment.name}: not re-run: {error}")
        return None
    if again.provenance.get("networks") != record.provenance.get("networks"):
        print(
            f"{experiment.name}: {record.hash} not compared: its networks, trained on this machine, have other weights"
        )
        return None
    found = differences(record, again)
    print(f"{experiment.name}: {record.hash} re-run, {f'{len(found)} values differ' if found else 'the same'}")
    return found


def _can_run(experiment: Experiment, record: Record, config: Any) -> bool:
    """Whether this machine has the device of the record, and that of its networks unless these are here."""
    made = record.provenance
    if torch.cuda.is_available() or "cuda" not in (made["device"], *made.get("trained_on", [])):
        return True
    return made["device"] == "cpu" and _are_ready(experiment, config)


def _are_ready(experiment: Experiment, config: Any) -> bool:
    from maso_book import trained

    assert experiment.recipes is not None
    return all(trained.is_ready(recipe) for recipe in experiment.recipes(config))


def _cost(experiment: Experiment, record: Record, config: Any) -> float:
    """Seconds that a re-run takes, the training of networks that are not here included."""
    seconds = record.provenance["seconds"]
    if experiment.recipes is not None:
        with torch.device(record.provenance["device"]):
            if not _are_ready(experiment, config):
                seconds += record.provenance["training_seconds"]
    return seconds


def _new_chapter(options: argparse.Namespace) -> int:
    from maso_book.new_chapter import new_chapter

    for path in new_chapter(options.number, options.title, maso_book.tree.root()):
        print(_relative(path))
    print(f"Next: python -m maso run {options.number} --profile quick")
    return 0


# queue and lease ----------------------------------------------------------------------------------------------------


def _queue(options: argparse.Namespace) -> int:
    from maso_book import queue

    missing = queue.queue()
    try:
        timed = list(queue.timetable(missing, options.minutes, options.workers))
    except MasoError as error:  # a data set that is not here
        for cell in missing:
            print(f"  {cell.experiment.worth:5.1f}  {cell.name}  {cell.config}")
        print(f"{len(missing)} cells are missing. How long they take is not known here: {error}")
        return _report(_broken())
    for cell, seconds, done in timed:
        print(f"{'*' if done else ' '} {cell.experiment.worth:5.1f}  {seconds:6.1f} s  {cell.name}  {cell.config}")
    fits = sum(done for _, _, done in timed)
    print(f"{len(missing)} cells are missing; {fits} of them, marked *, fit into {options.minutes:g} minutes.")
    recipes = {recipe for cell in missing for recipe in cell.recipes}
    floor = sum(map(queue.floor, recipes)) + sum(queue.floor(r) for cell in missing for r in cell.trained_within)
    print(
        f"All trainings: {sum(seconds for _, seconds, _ in timed):,.0f} s by estimate; an H100 at the limits of its "
        f"arithmetic and memory would take {floor:,.0f} s."
    )
    return _report(_broken())


def _lease_pack(options: argparse.Namespace) -> int:
    from maso_book import packing

    plan = packing.pack(
        options.folder, minutes=options.minutes, workers=options.workers, limit=int(options.limit * 2**20)
    )
    print(f"{len(plan.cells)} cells, in {len(plan.calls)} calls: {', '.join(plan.calls) or 'nothing to carry'}")
    return _report(_broken())


def _lease_unpack(options: argparse.Namespace) -> int:
    from maso_book import packing

    packing.unpack(options.folders)
    return 0


def _lease_run(options: argparse.Namespace) -> int:
    from maso_book import lease

    done = lease.run(
        options.out,
        minutes=options.minutes,
        workers=options.workers,
        device=check_device(options.device),
        profile=options.profile,
    )
    print(f"{done} cells recorded.")
    return _report(_broken())


def _lease_check(options: argparse.Namespace) -> int:
    from maso_book import check

    check.run(check_device(options.device))
    return 0


def _lease_work(options: argparse.Namespace) -> int:
    from maso_book import lease

    lease.work(options.profile, options.device, options.deadline, options.number)
    return 0


def _lease_collect(options: argparse.Namespace) -> int:
    from maso_book import lease

    taken = lease.collect(options.folder)
    print(", ".join(f"{number} {kind}" for kind, number in taken.items()))
    return 0


# book ---------------------------------------------------------------------------------------------------------------


def _book(options: argparse.Namespace) -> int:
    root = maso_book.tree.root()
    with locked(root / "_build" / "locks" / "book", wait=False) as alone:
        if not alone:
            raise MasoError("Another process builds the book in this tree. Wait for it, then run the same again.")
        return _build(root)


def _build(root: Path) -> int:
    import maso_book.site
    from maso_book import runner

    html, before = root / "_build" / "html", root / "_build" / "html.old"
    if before.is_dir() and not html.is_dir():
        os.replace(before, html)  # a build was killed between the two renames below
    shutil.rmtree(before, ignore_errors=True)
    claims(root)  # an error there is no single chapter's
    failed: list[str] = []
    stale = []
    for chapter in chapters.written():
        with _alone(chapter.number, failed):
            try:
                if not runner.is_fresh(chapter):
                    stale.append(chapter)
            except MasoError as error:
                runner.put_failure(chapter, str(error))
                raise
    if stale:
        print(f"Running {', '.join(chapter.name for chapter in stale)}", flush=True)
        snakemake = [sys.executable, "-m", "snakemake", "chapters", "--cores", str(os.cpu_count() or 1)]
        how = "--keep-going --nolock --rerun-incomplete --rerun-triggers mtime --quiet rules host reason"
        subprocess.run([*snakemake, *how.split()], cwd=root, stdin=subprocess.DEVNULL, check=False)
    failed += [chapter.number for chapter in stale if not runner.is_fresh(chapter)]
    index, built = html / "index.html", root / "_build" / "state" / f"site-{_site_digest(root)}.done"
    if not (index.is_file() and built.is_file()):
        print("Building the site", flush=True)
        for number, why in maso_book.site.write_generated(root).items():
            with _alone(number, failed):
                raise MasoError(why)
        for old in (root / "_build").glob("aside*"):
            shutil.rmtree(old, ignore_errors=True)
        # the site that is there stays until the new one is whole; who was killed may have left a build under way
        aside = root / "_build" / f"aside-{os.getpid()}"
        strict = "" if failed else "-W -n"  # a chapter that failed may lack what the text refers to
        how = f"build book {strict} --keep-going --all -q --path-output {aside.relative_to(root)}"
        jupyter_book = [str(Path(sys.executable).with_name("jupyter-book")), *how.split()]
        if subprocess.run(jupyter_book, cwd=root, stdin=subprocess.DEVNULL, check=False).returncode:
            print("maso: the site was not built; jupyter-book says why above.", file=sys.stderr)
            return _report([*failed, "the site"])
        for old in built.parent.glob("site-*.done"):
            old.unlink()
        if html.is_dir():
            os.replace(html, before)
        os.replace(aside / "_build" / "html", html)
        records.write(built, b"")
        for old in (before, aside):
            shutil.rmtree(old, ignore_errors=True)
    print(f"The book is built. Open {index.as_uri()}")
    return _report(failed)


def _site_digest(root: Path) -> str:
    """Digest of all that the site is built from, the chapters with their outputs included."""
    folders = [root / "book", root / "notebooks", root / "results", root / "src"]
    derived = {"generated", "generated.tmp", "__pycache__", "_build", "maso.egg-info"}
    files = [root / name for name in ("_config.yml", "README.md", "CITATION.cff") if (root / name).is_file()]
    for folder in folders:
        found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".tmp")
        files += [path for path in found if not derived & set(path.relative_to(folder).parts)]
    return maso_book.tree.digest(part for path in files for part in (path.name.encode(), path.read_bytes()))


if __name__ == "__main__":
    sys.exit(main())
