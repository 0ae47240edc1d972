"""Tags never bleed, and every call knows the call it was made in: in any nesting, of any kinds, in any context.

A program is a tree of calls. Each node says how it is called, what it says of itself before and after its children,
and how it ends. The tree itself is the model: what each call's last context shows must be what its node says.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callpyback import CallPyBack, ExecutionState, MetricsObserver, MockTimeSource, Retry
from callpyback.core.current import CURRENT, NOTHING
from kinds import Witness, ended
from tracking import current_call, tracked

__all__ = ["tracked"]

pytestmark = pytest.mark.usefixtures("tracked")

ENDS = (ExecutionState.COMPLETED, ExecutionState.ERROR)


class Failed(Exception):
    pass


class Again(Exception):
    pass


@dataclass
class Node:
    """One call: how it is watched and run, and what is made in it."""

    watched: str  # "contexts", "general", "plain values", "nobody"
    fails: bool
    attempts: int
    children: list
    name: int = -1
    ran: int = field(default=0)

    def numbered(self, numbers=None):
        numbers = iter(range(10**6)) if numbers is None else numbers
        self.name = next(numbers)
        for child in self.children:
            child.numbered(numbers)
        return self

    def all(self):
        yield self
        for child in self.children:
            yield from child.all()


def nodes(max_leaves):
    def of(children):
        return st.builds(
            Node,
            watched=st.sampled_from(["contexts", "contexts", "general", "plain values", "nobody"]),
            fails=st.booleans(),
            attempts=st.sampled_from([1, 1, 1, 3]),
            children=children,
        )

    return st.recursive(of(st.just([])), lambda inner: of(st.lists(inner, max_size=3)), max_leaves=max_leaves)


class World:
    """Decorators as the nodes want them, and what each call has shown at its end."""

    def __init__(self) -> None:
        self.witness = Witness(*ENDS)

    def decorator(self, node):
        if node.watched == "nobody":
            return CallPyBack()
        retry = None if node.attempts == 1 else Retry(attempts=node.attempts, on=Again, wait=0)
        observers = [MetricsObserver()] if node.watched == "plain values" else [self.witness]
        return CallPyBack(observers, retry=retry, time_source=MockTimeSource() if node.watched == "general" else None)

    def enter(self, node):
        node.ran += 1
        call = current_call()
        call[f"in {node.name}"] = node.ran
        return call

    def leave(self, node):
        current_call()[f"out {node.name}"] = node.ran
        if node.ran < node.attempts and node.watched != "nobody":
            raise Again
        if node.fails:
            raise Failed

    def run(self, node):
        """Call a node as a plain function, its children in it."""

        @self.decorator(node)
        def call(name):
            before = self.enter(node)
            for child in node.children:
                ended(lambda child=child: self.run(child))
                assert current_call() is before
            self.leave(node)

        call(node.name)

    def steps(self, node):
        """Call a node as a generator whose children are generators that take steps in turn."""

        @self.decorator(node)
        def call(name):
            before = self.enter(node)
            running = [self.steps(child) for child in node.children]
            while running:
                for steps in tuple(running):
                    yield
                    assert current_call() is before
                    if isinstance(ended(lambda steps=steps: next(steps)).exception, StopIteration | Failed | Again):
                        running.remove(steps)
                    assert current_call() is before
            self.leave(node)

        return call(node.name)

    async def run_async(self, node):
        """Call a node as a coroutine whose children are tasks, or threads of the same context."""

        @self.decorator(node)
        async def call(name):
            before = self.enter(node)
            await asyncio.sleep(0)
            children = [
                self.run_async(child)
                if child.name % 3
                else asyncio.to_thread(ended, lambda child=child: self.run(child))
                for child in node.children
            ]
            await asyncio.gather(*children, return_exceptions=True)
            assert current_call() is before
            self.leave(node)

        await call(node.name)


def expected_of(root):
    """What each observed call shows: its tags, its depth, and the node it was made in."""
    shown = {}

    def visit(node, around, depth):
        is_call = node.watched != "nobody"
        if is_call:
            shown[node.name] = ({}, depth, None if around is None else around.name)
        owner = node if is_call else around
        times = node.attempts if is_call else 1
        for attempt in range(1, times + 1):
            if owner is not None:
                tags = shown[owner.name][0]
                tags[f"in {node.name}"] = tags[f"out {node.name}"] = attempt
            for child in node.children:
                visit(child, owner, depth + 1 if is_call else depth)

    visit(root, None, 0)
    return shown


def check(world, root, *, own_tags_alone=False):
    expected = expected_of(root)
    watched = {node.name for node in root.all() if node.watched in ("contexts", "general")}
    of_call = {context.call_id: context.arguments["name"] for context in world.witness.contexts}
    assert set(of_call.values()) == watched
    for context in world.witness.contexts:
        name = context.arguments["name"]
        tags, depth, around = expected[name]
        assert context.depth == depth
        if around in watched:
            assert of_call[context.parent_call_id] == around
        else:
            assert (context.parent_call_id is None) is (around is None)
        if not own_tags_alone:
            assert set(context.tags) == set(tags)
        assert {key.split()[1] for key in context.tags} <= {key.split()[1] for key in tags}
    assert CURRENT.get() is NOTHING


def without_retries(node):
    for known in node.all():
        known.attempts = 1
    return node


@settings(max_examples=80, deadline=None)
@given(nodes(8))
def test_nested_and_recursive_plain_calls(root):
    world = World()
    root.numbered()
    without_retries(root) if sum(node.attempts > 1 for node in root.all()) > 2 else None  # 3 ** depth calls
    for node in root.all():
        node.ran = 0
    ended(lambda: world.run(root))
    if all(node.attempts == 1 for node in root.all()):
        check(world, root)
    else:
        check(world, root, own_tags_alone=True)


@settings(max_examples=60, deadline=None)
@given(nodes(8))
def test_generators_that_take_steps_in_turn(root):
    world = World()
    without_retries(root.numbered())
    ended(lambda: list(world.steps(root)))
    check(world, root)


@settings(max_examples=40, deadline=None)
@given(st.lists(nodes(5), min_size=1, max_size=3))
def test_tasks_and_threads_at_once(roots):
    world = World()
    numbers = iter(range(10**6))
    for root in roots:
        without_retries(root.numbered(numbers))

    async def main():
        await asyncio.gather(*(world.run_async(root) for root in roots), return_exceptions=True)

    asyncio.run(main())
    by_root = {node.name: root for root in roots for node in root.all()}
    for root in roots:
        part = World()
        part.witness.contexts = [c for c in world.witness.contexts if by_root[c.arguments["name"]] is root]
        check(part, root)


@settings(max_examples=20, deadline=None)
@given(st.lists(nodes(5), min_size=2, max_size=4))
def test_threads_that_call_the_same_functions(roots):
    worlds = [World() for _ in roots]
    start = threading.Barrier(len(roots))

    def work(world, root):
        start.wait()
        ended(lambda: world.run(root))
        return CURRENT.get()

    for root in roots:
        without_retries(root.numbered())
    with ThreadPoolExecutor(len(roots)) as pool:
        assert list(pool.map(work, worlds, roots)) == [NOTHING] * len(roots)
    for world, root in zip(worlds, roots, strict=True):
        check(world, root)
