"""
SnapStart: a function's memory is kept after its initialisation, and every new environment starts from that copy.

So what takes long is done before the snapshot, and what must not be shared by copies is made new afterwards. Without
SnapStart nothing here runs, and nothing is imported.

Source: AWS, "Lambda SnapStart runtime hooks for Python" (3.12 and newer; the module is the runtime's own).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping


def keep_in_snapshot(
    environ: Mapping[str, str], *, prepare: Callable[[], object], renew: Callable[[], object]
) -> bool:
    """
    Register what is done around a snapshot, where one will be taken.

    Args:
        prepare: Loads what the first call would wait for. It may fail: the call then does it.
        renew: Drops connections, which the copy's peers have long closed.

    Returns:
        Whether this process is started for a snapshot.
    """
    if environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") != "snap-start":
        return False
    from snapshot_restore_py import register_after_restore, register_before_snapshot

    def before() -> None:
        try:
            prepare()
        except Exception:
            import logging  # 5 ms of a cold start

            logging.getLogger(__name__).exception(
                "nothing was loaded before the snapshot; each copy's first call does it"
            )

    register_before_snapshot(before)
    register_after_restore(renew)
    return True
