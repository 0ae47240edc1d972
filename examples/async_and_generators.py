"""Coroutines and generators are observed like functions: from their first step to their last."""

import asyncio
from collections.abc import AsyncIterator, Iterator

from callpyback import CallPyBack, ExecutionContext, on_completion


def show(context: ExecutionContext) -> None:
    """Print how a call ended; `items` counts what a generator gave."""
    items = "" if context.items is None else f" after {context.items} items"
    print(f"  [{context.function_signature.name} {context.arguments}: {context.outcome.name}{items}]")


watch = CallPyBack(observers=[on_completion(show)])


@watch
async def fetch(page: int) -> str:
    """Pretend to wait for a server."""
    await asyncio.sleep(0)
    if page == 3:
        raise ConnectionError("no such page")
    return f"page {page}"


@watch
def countdown(start: int) -> Iterator[int]:
    """Yield numbers."""
    while start:
        yield start
        start -= 1


@watch
async def ticks(limit: int) -> AsyncIterator[int]:
    """Yield numbers, asynchronously."""
    for number in range(limit):
        yield number


async def main() -> None:
    """Use them all; a generator that nobody finishes was abandoned, which is no failure."""
    print(await asyncio.gather(fetch(1), fetch(3), return_exceptions=True))
    print(list(countdown(3)))
    half = countdown(10)
    print(next(half), next(half))
    half.close()
    print([number async for number in ticks(2)])


asyncio.run(main())
