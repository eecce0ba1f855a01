"""An outside system as a service sees it: idempotent by key, undone by key, and able to bar a key it has not seen."""

from __future__ import annotations

from collections import Counter


class Gateway:
    """The books of one outside system; every answer is the same for the same key."""

    def __init__(self) -> None:
        self.status: dict[str, str] = {}
        """Key of an effect → present, undone or barred."""
        self.made: Counter[str] = Counter()
        self.unmade: Counter[str] = Counter()
        self._answers: dict[str, bool] = {}

    def act(self, key: str, *, stubborn: bool = False) -> bool:
        """Make the effect unless it was made or barred; whether it was made. A stubborn call gets past a bar."""
        status = self.status.get(key, "")
        if not status or (status == "barred" and stubborn):
            self.status[key] = "present"
            self.made[key] += 1
            return True
        return status != "barred"

    def undo(self, key: str, compensation_key: str) -> bool:
        """Undo the effect, or bar it where there is none; whether there was one. The same undo key, the same answer."""
        if compensation_key not in self._answers:
            status = self.status.get(key, "")
            if status == "present":
                self.status[key] = "undone"
                self.unmade[key] += 1
            elif not status:
                self.status[key] = "barred"
            self._answers[compensation_key] = status in ("present", "undone")
        return self._answers[compensation_key]
