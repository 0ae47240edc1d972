"""Inside the call: a body says what it works on, and its observers hear it, call inside call."""

from callpyback import CallPyBack, current_call, on_completion


def show(depth: int, arguments: dict[str, object], metadata: dict[str, object]) -> None:
    """Print what is known of a call, indented by how deep it was made."""
    print(f"{'  ' * depth}{arguments['assets']}: {metadata}")


watch = CallPyBack(observers=[on_completion(show)], metadata={"project": "film"})


@watch
def load(assets: str) -> str:
    """Tag this call alone: `metadata=` is the same for all of them."""
    call = current_call()
    call["kind"] = "model" if assets.endswith(".obj") else "texture"
    return assets.upper()


def count_bytes(loaded: list[str]) -> None:
    """Speak of the call around: to this function nobody listens."""
    current_call().tag(size=sum(map(len, loaded)))


@watch
def publish(*assets: str) -> None:
    """Call others, each with tags of its own."""
    count_bytes([load(asset) for asset in assets])


publish("rock.obj", "rock.png")
print("outside any call:", bool(current_call()))
