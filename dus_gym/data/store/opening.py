"""``open_store``: the finished store of some rows, built where there is none."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from dus_gym.data.store.builder import Builder, Earlier, Plan, Progress, TooManyBadError, is_of
from dus_gym.data.store.decoder import Decoder, Row
from dus_gym.data.store.files import DONE, ERRORS, PARTIAL, RESUME
from dus_gym.data.store.key import SurveyedRow, content_of, key_of, recipe_of, survey
from dus_gym.data.store.reader import BadFile, Store
from dus_gym.data.surveys import surveyed
from dus_gym.errors import BadMediaError, ConfigError, StoreError, check_at_least, check_choice
from dus_gym.lock import FileLock, LockHeldError, LockLostError

ON_ERROR = ("fail", "skip", "substitute")
SHOWN = 20
_log = logging.getLogger(__name__)


def open_store(
    root: Path,
    dataset: str,
    decoder: Decoder,
    rows: Iterable[Row],
    *,
    on_error: str = "fail",
    max_bad: float = 0.005,
    progress: Progress | None = None,
    verify: bool = False,
    workers: int = 0,
    pool: str = "process",
) -> Store:
    """Open the store that holds ``rows``; decodes what is not there yet.

    A finished store is used as it is if decoder, library versions, and name, size and time of every file are those
    it was built from; one that holds more rows than asked for will do. Otherwise it is built, going on from where
    a killed build stopped and taking over what stores of the same decoder already have. One process builds at a
    time, others wait. Any folder of the cache may be deleted while nobody builds in it.

    Args:
        root: the cache; ``<data_root>/.dus-cache`` by habit.
        dataset: name of the data set.
        decoder: of one modality.
        rows: every sample of the data set, whatever split it is in.
        on_error: what a bad file means: ``"fail"``, ``"skip"`` (the row can't be gathered, see
            :meth:`Store.usable`) or ``"substitute"`` (zeros).
        max_bad: the fraction of the rows that may be bad with ``"skip"`` and ``"substitute"``.
        progress: called with the rows done and all rows.
        verify: read everything again: shards against their checksums, sources against the SHA-256 they had.
            What differs is decoded again.
        workers: processes or threads that decode; 0: none but this one. Results do not depend on it. A script
            that wants processes needs the usual ``if __name__ == "__main__":``.
        pool: ``"process"`` or ``"thread"``.

    Raises:
        BadMediaError: for more bad files than the policy allows; the message lists the first.
        StoreError: if the disk is full or would be.
        ConfigError: for arguments that can't be, and rows that repeat a sample.
    """
    check_choice("on_error", on_error, ON_ERROR)
    check_choice("pool", pool, ("process", "thread"))
    check_at_least("workers", workers, 0)
    if not 0.0 <= max_bad <= 1.0:
        raise ConfigError(f"max_bad={max_bad!r} is not allowed; it is a fraction, from 0 to 1.")
    asked = tuple(rows)
    sources = surveyed((Path(root).absolute(), asked), lambda: survey(asked, root))
    if not sources:
        raise ConfigError(f"dataset {dataset!r} has no rows of {decoder.name!r} to decode.")
    recipe = recipe_of(dataset, decoder)
    key = key_of(recipe, sources)
    most_bad = int(max_bad * len(sources))
    plan = Plan(
        final=Path(root) / dataset / f"{decoder.name}-{key[:16]}",
        recipe=recipe,
        key=key,
        sources=sources,
        decoder=decoder,
        most_bad=max(most_bad, SHOWN) if on_error == "fail" else most_bad,
        workers=workers,
        pool=pool,
        progress=progress,
    )
    complain = partial(_report, f"{decoder.name} of {dataset}", on_error, max_bad)

    store = _finished(plan, verify)
    if store is None:
        known = [_known(source, decoder.name) for source in sources if source.problem is not None]
        if len(known) > (0 if on_error == "fail" else most_bad):
            # Known without decoding anything.
            raise BadMediaError(complain(known, len(sources)))
        try:
            store = _built(plan, verify)
        except TooManyBadError as error:
            raise BadMediaError(complain([BadFile(**entry) for entry in error.bad], error.done)) from None
    wanted = {source.row.sample for source in sources}
    store.bad = [bad for bad in store.bad if bad.sample in wanted]
    if len(store.bad) > (0 if on_error == "fail" else most_bad):
        raise BadMediaError(complain(store.bad, len(sources), store.path / ERRORS))
    return store.substituting(wanted) if on_error == "substitute" else store


def warn_of_bad(store: Store, dataset: str, rows: int) -> None:
    """Say in the log which of so many rows can't be used, where the policy let the store open all the same."""
    if store.bad:
        lines = _listing(f"{store.modality} of {dataset}", store.bad, rows, store.path / ERRORS)
        what = "Zeros stand for them." if store.substitutes else "Their samples are left out of every modality."
        _log.warning("%s", "\n".join([*lines, what]))


def _built(plan: Plan, verify: bool) -> Store:
    """Return the store, built under its lock by this process or, while it waits, by another."""
    home = plan.final.parent
    while True:
        try:
            with FileLock(home / f".{plan.final.name}.lock") as lock:
                store = _finished(plan, verify)
                if store is None:
                    given_up = [path for path in _unfinished_folders(plan) if is_of(path, plan.recipe)]
                    Builder(plan, Earlier([*_finished_folders(plan), *given_up], plan.recipe), lock.check).build()
                    store = Store(plan.final)
                    _remove(given_up)
                return store
        except LockLostError:
            _log.warning("%s: another process took this build over; waiting for it", plan.final)


def _finished_folders(plan: Plan) -> list[Path]:
    """Return stores of the same modality, whatever their keys; the one of this very key first."""
    found = {path.parent for path in plan.final.parent.glob(f"{plan.decoder.name}-*/{DONE}")}
    return sorted(found, key=lambda path: (path != plan.final, path.name))


def _unfinished_folders(plan: Plan) -> list[Path]:
    """Return folders that other builds of the same modality left, or are making now."""
    found = plan.final.parent.glob(f"{PARTIAL}{plan.decoder.name}-*")
    return sorted(path for path in found if path.name != PARTIAL + plan.final.name)


def _remove(given_up: Sequence[Path]) -> None:
    """Free the disk of builds that nobody goes on with; what they had is in the store that was just finished."""
    for path in given_up:
        try:
            lock = FileLock(path.with_name(f".{path.name.removeprefix(PARTIAL)}.lock")).take()
        except LockHeldError:
            continue  # somebody is building it
        try:
            shutil.rmtree(path, ignore_errors=True)
        finally:
            lock.release()


def _finished(plan: Plan, verify: bool) -> Store | None:
    """Return a store made with the same recipe that has all rows from their files as they are now, or None."""
    for path in _finished_folders(plan):
        try:
            store = Store(path)
            if store.manifest["recipe"] != plan.recipe or not _covers(store, plan.sources):
                continue
            if verify:
                store.verify()
                _verify_sources(store, plan.sources)
        except StoreError as error:
            if path == plan.final:
                _log.warning("%s Decoding what is damaged again.", error)
            continue
        # A build that was killed in its very last moment leaves its records.
        shutil.rmtree(path / RESUME, ignore_errors=True)
        return store
    return None


def _covers(store: Store, sources: Sequence[SurveyedRow]) -> bool:
    return all(store.digest_of(source.row.sample) == source.digest for source in sources)


def _verify_sources(store: Store, sources: Sequence[SurveyedRow]) -> None:
    """Raise StoreError if a file holds something else than what was decoded, whatever its size and time say."""
    for source in sources:
        kept = store.content_of(source.row.sample)
        if kept is not None and kept != content_of(source):
            raise StoreError(f"{source.shown} changed since {store.path} was built, though its size and time did not.")


def _known(source: SurveyedRow, modality: str) -> BadFile:
    kind, message = source.problem or ("", "")
    return BadFile(source.row.sample, source.shown, modality, kind, message)


def _report(
    what: str, on_error: str, max_bad: float, bad: Sequence[BadFile], looked_at: int, listed: Path | None = None
) -> str:
    lines = _listing(what, bad, looked_at, listed)
    if on_error == "fail":
        lines.append("Mend or remove them, or leave such samples out with on_error='skip' (at most max_bad of them).")
    else:
        lines.append(f"on_error={on_error!r} allows max_bad={max_bad:g} of the rows; mend the files, or raise max_bad.")
    return "\n".join(lines)


def _listing(what: str, bad: Sequence[BadFile], looked_at: int, listed: Path | None) -> list[str]:
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(entry.kind for entry in bad).most_common())
    lines = [f"{len(bad)} of the {looked_at} rows looked at of {what} can't be used ({kinds}):"]
    lines += [f"  {entry.sample}: {entry.path or 'no file'}: {entry.kind}: {entry.message}" for entry in bad[:SHOWN]]
    if len(bad) > SHOWN:
        lines.append(f"  and {len(bad) - SHOWN} more")
    if listed is not None:
        lines.append(f"All are listed in {listed}.")
    return lines
