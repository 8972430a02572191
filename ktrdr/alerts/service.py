"""One step of the program: look at the group, decide what to notify of, send, write it down."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Sequence
from dataclasses import replace

from ktrdr.alerts.conditions import conditions, unknown
from ktrdr.alerts.delivery import Delivery
from ktrdr.alerts.incidents import decide
from ktrdr.alerts.record import Outgoing, Record, Sent, put_aside, read_record, write_record
from ktrdr.alerts.targets import Target
from ktrdr.alerts.wording import compose
from ktrdr.config.settings import Settings
from ktrdr.errors import Misconfigured
from ktrdr.health.system import Snapshot

_SENT_KEPT = 50

log = logging.getLogger(__name__)


class Service:
    """Keeps the record, in memory too: a full disk is what people must hear of. For one thread."""

    def __init__(
        self, settings: Settings, targets: Sequence[Target], snapshot: Callable[[], Snapshot]
    ) -> None:
        self._settings = settings
        self._fingerprints = [target.fingerprint for target in targets]
        self._snapshot = snapshot
        self._delivery = Delivery(targets)
        self._record = _known(settings)
        self._written: Record | None = self._record
        self._is_failing = False

    def step(self) -> None:
        """Look once, and send what is due."""
        found = self._snapshot()
        now = found.time
        quiet = self._settings.quiet_hours
        incidents, news = decide(
            conditions(found),
            unknown(found),
            self._record.incidents,
            now,
            self._settings.ktrdr_alerts_grace_s,
            is_quiet=quiet is not None and quiet.contains(now.astimezone()),
        )
        record = replace(self._record, incidents=incidents)
        if news:
            message = compose(news, now, self._settings.source, platform.node())
            log.info("to be sent: %s", message.title)
            new = tuple(Outgoing(target, message, now) for target in self._fingerprints)
            record = replace(record, outgoing=record.outgoing + new)
        self._record = record
        self._write()  # before anything is sent, so that a restart sends nothing twice
        left, sent = self._delivery.step(record.outgoing, now)
        self._keep(left, sent)

    def finish(self, timeout_s: float) -> None:
        """Wait a moment for what is being sent, and write down what was."""
        self._keep(*self._delivery.finish(self._record.outgoing, timeout_s))

    def _keep(self, left: tuple[Outgoing, ...], sent: tuple[Sent, ...]) -> None:
        kept = (*self._record.sent, *sent)[-_SENT_KEPT:]
        self._record = replace(self._record, outgoing=left, sent=kept)
        self._write()

    def _write(self) -> None:
        """Write the record down if it has changed; if that fails, at the next step again."""
        if self._record == self._written:
            return
        try:
            write_record(self._settings.alerts_record, self._record)
        except (OSError, Misconfigured) as error:
            if not self._is_failing:
                log.warning("what was sent cannot be written down now: %s", error)
            self._is_failing = True
        else:
            self._written, self._is_failing = self._record, False


def _known(settings: Settings) -> Record:
    """What was written down before; nothing if that cannot be read."""
    try:
        return read_record(settings.alerts_record)
    except Misconfigured as error:
        log.warning("%s: put aside, begun anew", error)
        put_aside(settings.alerts_record)
        return Record()
