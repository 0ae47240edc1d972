"""What a body pays that asks for its own call, and what calls pay that are tracked because some body asks."""

from __future__ import annotations

from benchmarks.controls import KINDS
from benchmarks.measuring import Budget, called, iterated, seconds_per_call
from benchmarks.table import Row
from callpyback import BaseObserver, CallPyBack, CurrentCall, ExecutionContext, ExecutionState, MetricsObserver
from callpyback.core.current import CURRENT
from callpyback.core.tracking import TRACKING

TITLE = "Inside the call"

ITEMS = 1000


class Quiet(BaseObserver):
    states = ExecutionState.COMPLETED

    def update(self, context: ExecutionContext) -> None:
        """Do nothing."""


def rows(budget: Budget) -> list[Row]:
    """Return rows for tags, for tracking without them, and for progress that nobody hears."""
    TRACKING.switch_off()
    kinds = {"function": KINDS["function"], "coroutine": KINDS["coroutine"], "generator": KINDS["generator"]}
    plain = {f"{name}: timer": kind.driven(kind.timer(kind.body)) for name, kind in kinds.items()}
    plain |= {f"{name}: quiet": kind.driven(CallPyBack([Quiet()])(kind.body)) for name, kind in kinds.items()}
    plain["metrics"] = called(CallPyBack([MetricsObserver()])(KINDS["function"].body))
    untracked = seconds_per_call(plain, budget)
    # Whoever imports it has calls tracked.
    from callpyback import current_call  # noqa: PLC0415

    TRACKING.switch_on()

    def tagged(number: int) -> int:
        current_call()["number"] = number
        return number

    def two_tags(number: int) -> int:
        current_call().tag(number=number, more=number)
        return number

    try:
        body = KINDS["function"].body
        tags = {
            "tag": called(CallPyBack([Quiet()])(tagged)),
            "two tags": called(CallPyBack([Quiet()])(two_tags)),
            "tag, nobody listens": called(tagged),
            "nothing": called(body),
        }
        subjects = {**plain, **tags}
        for subject in subjects.values():
            subject.run(2)  # the first call finds that its plan is to be made anew
        tracked = seconds_per_call(subjects, budget)
        loops = seconds_per_call(_loops(CURRENT.get()), budget)
    finally:
        TRACKING.switch_off()
    return [*_tag_rows(tracked, untracked), *_tracking_rows(kinds, tracked, untracked), *_loop_rows(loops)]


def _tag_rows(tracked: dict[str, float], untracked: dict[str, float]) -> list[Row]:
    timed, quiet = tracked["function: timer"], tracked["function: quiet"]
    both = tracked["tag"] - untracked["function: quiet"]
    alone = tracked["tag, nobody listens"] - tracked["nothing"]
    two = tracked["two tags"] - quiet
    return [
        Row(
            "a tag, in a call with one update(context) observer / timer",
            (tracked["tag"] - quiet) / timed,
            bar=1.0,
            seconds=tracked["tag"] - quiet,
            is_difference=True,
        ),
        Row("two by tag(...) / timer", two / timed, seconds=two, is_difference=True),
        Row("a tag, and the tracking of the call / timer", both / timed, seconds=both, is_difference=True),
        Row("a tag outside any call / timer", alone / timed, seconds=alone, is_difference=True),
    ]


def _tracking_rows(kinds: dict[str, object], tracked: dict[str, float], untracked: dict[str, float]) -> list[Row]:
    names = {f"{name}: one update(context) observer": f"{name}: quiet" for name in kinds}
    names["function: MetricsObserver"] = "metrics"
    return [
        Row(f"{what}, tracked / not", tracked[name] / untracked[name], seconds=tracked[name] - untracked[name])
        for what, name in names.items()
    ]


def _loops(call: CurrentCall) -> dict[str, object]:
    def bare(items: int) -> object:
        return iter(range(items))

    def in_track(items: int) -> object:
        return call.track(range(items))

    return {"bare": iterated(bare, ITEMS), "track": iterated(in_track, ITEMS)}


def _loop_rows(loops: dict[str, float]) -> list[Row]:
    return [
        Row(
            f"a loop over {ITEMS:,} items in track(), nobody listening / the bare loop",
            loops["track"] / loops["bare"],
            bar=1.05,
            seconds=loops["track"],
        ),
    ]
