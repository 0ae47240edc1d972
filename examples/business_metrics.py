"""BusinessMetricsObserver: what calls are worth, taken from their results and arguments."""

import json

from callpyback import CallPyBack, MockTimeSource
from callpyback.observers.business_metrics import BusinessMetricsObserver

business = BusinessMetricsObserver(
    {
        "process_order": {
            "revenue": {"source": "result", "path": ["order_total"]},
            "items_sold": {"source": "result", "path": ["item_count"]},
            "shipping_cost": {"source": "arguments", "path": ["shipping_method", "cost"]},
            "lost_orders": {"default": 1, "when": "failure"},
        },
        "*signup": {"new_users": {"default": 1}},
    },
    time_source=MockTimeSource(1_735_689_600.0),
)
watch = CallPyBack(observers=[business])


@watch
def process_order(items: list[dict[str, float]], shipping_method: dict[str, float]) -> dict[str, float]:  # noqa: ARG001
    """Sell something."""
    if not items:
        raise ValueError("an empty order")
    return {"order_total": sum(item["price"] for item in items), "item_count": len(items)}


@watch
def user_signup(email: str) -> dict[str, str]:
    """Let somebody in."""
    return {"user_id": email.partition("@")[0]}


process_order([{"price": 19.99}, {"price": 5.01}], {"cost": 3})
process_order([{"price": 10.0}], {"cost": 1})
try:
    process_order([], {"cost": 0})
except ValueError as error:
    print(f"failed: {error}")
user_signup("ann@example.org")

summary = business.get_business_summary()
for part in ("total_metrics", "function_performance", "daily_trends"):
    print(part, json.dumps(summary[part], indent=2))
