"""WebhookObserver: failures are posted to a web server, again if it is busy, signed, and never in the caller's way."""

import base64
import hashlib
import hmac
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from callpyback import CallPyBack
from callpyback.sinks import WebhookObserver

SECRET = b"shared by sender and receiver, and by nobody else"


class Receiver(BaseHTTPRequestHandler):
    """Is busy at first; then it looks at the signature, and takes each event once."""

    known: set[str] = set()  # noqa: RUF012 - of the server, which makes a handler for each connection
    answers = [503, 204, 204, 410]  # noqa: RUF012

    def do_POST(self) -> None:
        """Answer."""
        body = self.rfile.read(int(self.headers["content-length"]))
        event_id, timestamp = self.headers["webhook-id"], self.headers["webhook-timestamp"]
        signed = hmac.digest(SECRET, f"{event_id}.{timestamp}.".encode() + body, hashlib.sha256)
        is_genuine = hmac.compare_digest(self.headers["webhook-signature"], f"v1,{base64.b64encode(signed).decode()}")
        event, status = json.loads(body), self.answers.pop(0)
        is_new = event_id not in self.known
        if status == 204:
            self.known.add(event_id)
        print(f"  {status}: attempt {event['attempt']}, genuine: {is_genuine}, new: {is_new}; {event['error_message']}")
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing else."""


server = HTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

alerts = WebhookObserver(
    f"http://127.0.0.1:{server.server_port}/alerts",
    secret=SECRET,
    allow_http=True,  # both only because the receiver is on this machine
    allow_private=True,
)


@CallPyBack(observers=[alerts], default_return="went on")
def charge(card: str, amount: int) -> str:
    """Charge a card."""
    message = f"no answer from the bank for {amount} from {card}"
    raise ConnectionError(message)


print(charge("4242", amount=10), charge("4242", amount=20))
print("done:", alerts.flush(timeout=10))
charge("4242", amount=30)
alerts.flush(timeout=10)
for letter in alerts.get_dead_letters():
    print("given up:", letter["reason"])
metrics = alerts.get_metrics()["observer"]
print(f"{metrics['sent']} sent, {metrics['given_up']} given up, in {metrics['requests']} requests")
alerts.close()
server.shutdown()
server.server_close()
