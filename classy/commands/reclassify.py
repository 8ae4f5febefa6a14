"""`classy reclassify`: let a model see all pictures that are recorded, with a bar, an estimate and a summary."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TextIO

from classy.front import Classy
from classy.reclassified import Reclassified
from classy.report import one_line
from classy.settings import Settings

INTERRUPTED = 130  # as shells say of SIGINT
BAR_CHARS = 24
LINE_S = 10.0  # between two lines where no terminal can show a bar
TOP_CHANGES, TOP_REASONS = 10, 10


def reclassify(
    settings: Settings, *, model: str, workers: int = 2, limit: int | None = None, as_json: bool = False
) -> int:
    """
    Classify every recorded picture that a model has not seen.

    Args:
        model: NAME or NAME@VERSION.
        workers: Calls of the pipeline at the same time.
        limit: Pictures, at most.
        as_json: Print the summary as one JSON object.

    Returns:
        The exit status: 0 when all is done, 1 when some failed, 130 when it was interrupted.

    Raises:
        GraphPipeError: as Reclassifier.run does.
    """
    classy = Classy(replace(settings, model=model))  # the one that is loaded at once
    ref = classy.manifests.get(model).ref
    bar = Bar(sys.stderr, limit=limit)
    interrupted = False
    try:
        bar.last = classy.reclassifier().run(ref, workers=workers, limit=limit, progress=bar.show)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        bar.end()
        classy.close()
    found = bar.last
    if as_json:
        print(json.dumps({"model": ref, **asdict(found)}, ensure_ascii=False))
    else:
        print_summary(ref, found)
    if interrupted:
        print("classy: interrupted; what is done is recorded, and the same command does the rest", file=sys.stderr)
        return INTERRUPTED
    return int(bool(found.failed))


def local_settings(settings: Settings, state_dir: Path, environ: Mapping[str, str]) -> Settings | None:
    """
    Return settings that find the records: the environment's own, else those of the local cloud or page.

    Args:
        settings: The environment's.
        environ: With a person's other settings in it.

    Returns:
        None where nothing was recorded in the state folder.
    """
    if settings.records:
        return settings
    folder = state_dir.absolute()
    if not (folder / "records.db").exists():
        return None
    from classy.local.cloud import BUCKETS, MODEL_STORE, PICTURES
    from classy.local.state import locked, read_state
    from classy.local.storage import environment_of

    records = f"sqlite:///{folder / 'records.db'}"
    state = read_state(state_dir) if locked(state_dir) else None
    if state is None or not state.storage_url:
        pictures = settings.pictures or (folder / "pictures").as_uri()
        return replace(settings, records=records, pictures=pictures)
    return Settings.from_env(
        {
            **environ,
            **environment_of(state.storage_url),
            "CLASSY_MODEL_STORE": MODEL_STORE,
            "CLASSY_PICTURES": f"s3://{PICTURES}",
            "CLASSY_RECORDS": records,
            "CLASSY_BUCKETS": " ".join(BUCKETS),
            "CLASSY_DOWNLOAD_ALLOW": " ".join(
                filter(None, (settings.download_allow, state.storage_url.removeprefix("http://")))
            ),
        }
    )


def print_summary(ref: str, found: Reclassified) -> None:
    """Print what became of the pictures: how many agreed, what changed most, and why some failed."""
    compared = found.agreed + found.changed
    line = f"{ref}: {found.done:,} done, {len(found.failed):,} failed, {found.left:,} left"
    print(line + (f"; {found.agreed / compared:.1%} of {compared:,} as before" if compared else ""))
    for change in found.changes[:TOP_CHANGES]:
        old, new = (one_line(" · ".join(change[side].values())) for side in ("from", "to"))
        print(f"  {change['count']:6,} × {old} → {new}")
    reasons = Counter((failed.code, failed.message) for failed in found.failed)
    for (code, message), count in reasons.most_common(TOP_REASONS):
        print(f"  {count:6,} failed: {one_line(message)} (code {code})")
    if len(reasons) > TOP_REASONS:
        print(f"  and {len(reasons) - TOP_REASONS:,} more reasons; --json lists every picture that failed")


class Bar:
    """
    Show how far it is, and about how long it will take.

    Args:
        out: A terminal gets one line that changes; anything else a new line from time to time.
        limit: Pictures, at most.
    """

    def __init__(self, out: TextIO, *, limit: int | None = None) -> None:
        self.last = Reclassified()
        self._out = out
        self._live = out.isatty()
        self._limit = limit
        self._total: int | None = None
        self._began_s = self._shown_s = time.monotonic()

    def show(self, found: Reclassified) -> None:
        """Take note of what is done."""
        self.last = found
        now_s = time.monotonic()
        if self._total is None:
            self._total = found.left if self._limit is None else min(found.left, self._limit)
            self._began_s = now_s
        elif not self._live and now_s - self._shown_s < LINE_S:
            return
        self._shown_s = now_s
        line = self.line(found.done + len(found.failed), now_s - self._began_s)
        failed = f", {len(found.failed):,} failed" if found.failed else ""
        self._out.write(f"\r{line}{failed}\x1b[K" if self._live else f"{line}{failed}\n")
        self._out.flush()

    def line(self, so_far: int, took_s: float) -> str:
        """Return how far it is."""
        total = max(self._total or 0, so_far)
        full = BAR_CHARS * so_far // total if total else BAR_CHARS
        line = f"{'█' * full}{'░' * (BAR_CHARS - full)} {so_far:,} of {total:,}"
        if not 0 < so_far < total or took_s <= 0:
            return line
        return f"{line}, {so_far / took_s:.1f}/s, about {_time((total - so_far) * took_s / so_far)} left"

    def end(self) -> None:
        """Leave the bar where it is."""
        if self._live and self._total is not None:
            self._out.write("\n")


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
