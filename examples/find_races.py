"""OverlapObserver: two threads in one account at once, reported with both places; and refused, if that is asked for."""

import threading
from pathlib import Path

from callpyback import CallPyBack, CallVetoed
from callpyback.observers.overlap import OverlapObserver

overlaps, refusing = OverlapObserver(), OverlapObserver(veto=True)
inside, leave = threading.Event(), threading.Event()


class Account:
    """Reads a balance and writes it later: what comes in between is lost."""

    balance = 100

    @CallPyBack(observers=[overlaps])
    def withdraw(self, amount: int) -> None:
        """Take money, slowly."""
        balance = self.balance
        inside.set()
        leave.wait(5)
        self.balance = balance - amount

    @CallPyBack(observers=[overlaps])
    def deposit(self, amount: int) -> None:
        """Bring money."""
        self.balance += amount

    @CallPyBack(observers=[refusing])
    def audit(self) -> None:
        """Let nobody else audit meanwhile."""
        thread = threading.Thread(target=self.second_audit)
        thread.start()
        thread.join()

    def second_audit(self) -> None:
        """Try to audit from another thread."""
        try:
            self.audit()
        except CallVetoed as refused:
            print(f"refused: {str(refused).partition(':')[0]}")


account = Account()
slow = threading.Thread(target=lambda: account.withdraw(30), name="cash machine")
slow.start()
inside.wait(5)
account.deposit(50)
leave.set()
slow.join()
print(f"balance: {account.balance}, and 50 are lost")

for report in overlaps.reports:
    for side in ("first", "second"):
        path, _, rest = report[side]["call_site"].partition(":")
        line, _, function = rest.partition(" in ")
        print(f"{side:<6} {report[side]['function']} in thread {report[side]['thread']!r}")
        source = Path(path).read_text(encoding="utf-8").splitlines()[int(line) - 1].strip()
        print(f"       called from {function}: {source}")

account.audit()
