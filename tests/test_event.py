"""Event: named by itself or by its class, cheap until it is asked for more, the same event in a copy."""

from __future__ import annotations

import copy
import json
import pickle
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import pytest

from callpyback import ConfigurationError, Event


@dataclass
class OrderPaid(Event):
    name = "order.paid"
    order_id: int
    lines: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class OrderSent(Event):
    order_id: int


class Started(Event):
    event_type = "test.started"


class Resource(Event):
    def __init__(self, resource, ctxt=None):
        super().__init__(ctxt=ctxt)
        self.resource = resource

    @property
    def name(self):
        return f"{self.resource}.changed"


def test_event_has_the_name_and_the_data_it_was_given():
    event = Event("order.paid", {"order_id": 7}, total=5)
    assert (event.name, event.event_type) == ("order.paid", "order.paid")
    assert event.data == {"order_id": 7, "total": 5}


def test_data_is_the_events_own():
    given = {"order_id": 7}
    event = Event("order.paid", given)
    event.data["order_id"] = 8
    assert given == {"order_id": 7}


def test_event_without_data_has_a_dictionary_to_write_to():
    event = Event("order.paid")
    event.data["seen"] = True
    assert event.data == {"seen": True}


def test_words_of_the_event_itself_can_be_data():
    event = Event("x", {"ctxt": 1, "uuid": 2, "timestamp": 3, "data": 4, "name": 5, "self": 6})
    assert event.data == {"ctxt": 1, "uuid": 2, "timestamp": 3, "data": 4, "name": 5, "self": 6}
    assert event.ctxt is None


def test_dataclass_has_its_fields_as_data():
    paid = OrderPaid(7)
    paid.lines.append("book")
    assert (paid.name, paid.data) == ("order.paid", {"order_id": 7, "lines": ["book"]})
    assert paid == OrderPaid(7, ["book"])


def test_class_without_a_name_names_its_events_after_itself():
    assert (OrderSent(7).name, OrderSent.event_type) == ("OrderSent", "OrderSent")


def test_event_type_of_a_class_is_the_name():
    started = Started(entity_id="test-123")
    assert (started.name, started.event_type, Started.event_type) == ("test.started",) * 3
    assert started.data == {"entity_id": "test-123"}


def test_event_type_may_be_a_property():
    class Computed(Event):
        @property
        def event_type(self):
            return f"computed.{self.data['what']}"

    assert Computed(what="sum").name == "computed.sum"


def test_given_name_is_inherited_and_a_class_name_is_not():
    class Plain(Event):
        pass

    class OfPlain(Plain):
        pass

    class OfStarted(Started):
        pass

    assert (OfPlain().name, OfStarted().name) == ("OfPlain", "test.started")


def test_name_may_be_a_property_and_a_constructor_need_not_name_anything():
    event = Resource("file", ctxt={"user": "ada"})
    assert (event.name, event.ctxt) == ("file.changed", {"user": "ada"})


def test_dataclass_may_have_fields_called_as_the_events_own():
    @dataclass
    class Recorded(Event):
        uuid: str
        timestamp: float
        data: dict[str, Any]
        ctxt: Any = None

    recorded = Recorded("u", 1.5, {"a": 1})
    assert (recorded.uuid, recorded.timestamp, recorded.data) == ("u", 1.5, {"a": 1})


def test_uuid_is_made_once_and_differs():
    one, two = Event("x"), Event("x")
    assert one.uuid == one.uuid != two.uuid
    for _ in range(100):
        known = uuid.UUID(Event("x").uuid)
        assert (known.version, known.variant) == (4, uuid.RFC_4122)
    assert str(uuid.UUID(one.uuid)) == one.uuid


def test_threads_that_ask_first_at_once_get_one_uuid():
    for _ in range(50):
        event, barrier, got = Event("x"), threading.Barrier(4), []

        def ask(event=event, barrier=barrier, got=got):
            barrier.wait()
            got.append(event.uuid)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(got)) == 1


def test_uuid_and_timestamp_can_be_given_and_set_for_a_replay():
    event = Event("x", uuid="u-1", timestamp=12.5)
    assert (event.uuid, event.timestamp) == ("u-1", 12.5)
    event.uuid, event.timestamp = "u-2", 13.5
    assert (event.uuid, event.timestamp) == ("u-2", 13.5)


def test_timestamp_that_nobody_set_is_when_it_was_first_read():
    before = time.time()
    event = Event("x")
    assert before <= event.timestamp <= time.time()
    assert event.timestamp == event.timestamp


def test_handlers_share_names_in_a_namespace_alone():
    event = Event("x")
    event.shared.tests.args = (1, 2)
    assert event.shared.tests.args == (1, 2)
    with pytest.raises(AttributeError, match="namespace"):
        event.shared.args = (1, 2)


@pytest.mark.parametrize(
    "event",
    [Event("x", a=1, ctxt="c"), OrderPaid(7), OrderSent(7), Started(a=1), Resource("file", ctxt=3)],
    ids=lambda event: type(event).__name__,
)
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda event: pickle.loads(pickle.dumps(event))])
def test_copy_is_the_same_event(event, copied):
    event.shared.tests.found = True
    copy_of_it = copied(event)
    assert type(copy_of_it) is type(event)
    for name in ("name", "data", "ctxt", "uuid", "timestamp"):
        assert getattr(copy_of_it, name) == getattr(event, name)
    assert "tests" not in copy_of_it.shared


def test_data_of_an_event_are_json_if_its_values_are():
    assert json.loads(json.dumps(OrderPaid(7).data)) == {"order_id": 7, "lines": []}


def test_events_are_told_apart_as_objects():
    assert Event("x", a=1) != Event("x", a=1)
    assert len({Event("x"), Event("x")}) == 2


def test_shown_with_name_and_data_in_bounded_length():
    assert repr(Event("order.paid", order_id=7)) == "<Event 'order.paid' order_id=7>"
    assert len(repr(Event("x", text="y" * 100_000))) < 2000


@pytest.mark.parametrize("name", [None, "", 7, b"x", ["x"]])
def test_name_that_is_none_is_refused(name):
    with pytest.raises(ConfigurationError, match="name"):
        Event(name)


@pytest.mark.parametrize("data", [7, "text", [1], object()], ids=["number", "text", "list", "object"])
def test_data_that_are_no_mapping_are_refused(data):
    with pytest.raises(ConfigurationError, match="data"):
        Event("x", data)


@pytest.mark.parametrize("timestamp", ["now", True, b"1"], ids=repr)
def test_timestamp_that_is_no_number_is_refused(timestamp):
    with pytest.raises(ConfigurationError, match="timestamp="):
        Event("x", timestamp=timestamp)


def test_attributes_that_there_are_not_on_a_class_say_so():
    with pytest.raises(AttributeError, match="its instances have"):
        _ = Event.uuid
