"""The scan schedule: when all files are scanned again, and single series between. Scans none."""

from __future__ import annotations

from uuid import uuid4

from ktrdr.gap_filler.due_times import DueTimes


class ScanSchedule:
    """When to scan. Any thread may request a scan; the rest is for the stepping thread."""

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s
        self.due_times = DueTimes()
        """When single series are assessed between scans."""
        self.assesses_history = False
        """Past days are being assessed, since no answers arrive just now."""
        self.last_time: float | None = None
        """When the last one ended (UTC seconds)."""
        self.last_id: str | None = None
        """The last requested scan that was completed, or of none the first scan; other scans keep
        it, or whoever waits for the requested one could miss it."""
        self.is_retry_due = False
        """Deferred series may be retried, so a scan is due."""
        self.is_up_to_date = True
        """All files were assessed since clocks or store last began to work, or ceased to."""
        self._requested_id: str | None = None

    def request(self) -> str:
        """Scan everything now, including what was given up; returns the scan's id. Any thread."""
        self._requested_id = scan_id = uuid4().hex[:12]
        return scan_id

    def is_due(self, now: float) -> bool:
        """A scan should begin."""
        if self._requested_id is not None or self.last_time is None or not self.is_up_to_date:
            return True
        since_s = now - self.last_time
        return self.is_retry_due or not 0 <= since_s < self.interval_s  # the clock may be set back

    def begin(self) -> tuple[str | None, bool]:
        """Begin a scan: its requested id, if any, and whether what was given up is assessed too."""
        self.is_retry_due = False
        requested = self._requested_id  # which any thread may set
        return requested, requested is not None or not self.is_up_to_date

    def end(self, requested_id: str | None, now: float) -> None:
        """Note that a scan was completed."""
        self.last_time = now
        if self._requested_id == requested_id:  # otherwise another was requested since
            self._requested_id = None
        self.last_id = requested_id or self.last_id or uuid4().hex[:12]
        self.is_up_to_date = True

    def next_time(self, now: float) -> float:
        """When the next one is due (UTC seconds), unless something happens before."""
        return (self.last_time or now) + self.interval_s
