"""The whole group at one moment: both peers, the programs, and the verdict on them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ktrdr.config.settings import ROOT, Settings
from ktrdr.forwarder import report
from ktrdr.health.latest import Latest
from ktrdr.health.own_folders import full_folders
from ktrdr.health.peers import Answer, Peers
from ktrdr.health.programs import Programs
from ktrdr.health.services import Service, services
from ktrdr.health.supervisor import control
from ktrdr.health.verdict import Verdict, judge
from ktrdr.ipc.messages import ConnectionStatus, FillList, FillStatus, GapFillerStatus, SeriesStatus

_FRESH_S = 0.5
_LOGS = ROOT / "var/log"
_WORKERS = 6


@dataclass(frozen=True)
class Snapshot:
    """What is known at `time` (UTC)."""

    time: datetime
    connection: Answer[ConnectionStatus]
    gap_filler: Answer[GapFillerStatus]
    services: dict[str, Service]
    verdict: Verdict
    forwarding: report.Report | None = None
    """The report of port-forward; None: no recent one."""


class System:
    """Reads everything at the same time, so two peers that hang cost no more time than one.

    `own`: the program that this runs in; empty: none of the group's.
    """

    def __init__(self, settings: Settings, supervisor_socket: Path, own: str = "") -> None:
        self.settings = settings
        self.peers = Peers(settings)
        self._programs = Latest(Programs(settings.run_dir, supervisor_socket, own).read, _FRESH_S)
        self._supervisor_socket = supervisor_socket
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="fetch")

    def snapshot(self) -> Snapshot:
        """The group now."""
        connection_status = self._workers.submit(self.peers.connection)
        gap_filler_status = self._workers.submit(self.peers.gap_filler)
        programs = self._programs.get()
        connection, gap_filler = connection_status.result(), gap_filler_status.result()
        now = datetime.now(UTC)
        forwarding = report.read(self.settings.run_dir, now.timestamp())
        found = services(
            programs,
            connection,
            gap_filler,
            is_simulated=self.settings.is_simulated,
            forwarding=forwarding,
        )
        full = [*map(str, full_folders((self.settings.run_dir, _LOGS), self.settings.data_dir))]
        verdict = judge(found, connection, gap_filler, self.settings, now, forwarding, full)
        return Snapshot(now, connection, gap_filler, found, verdict, forwarding)

    def control(self, program: str, action: str) -> None:
        """Start, stop or restart a program of the group; raises as `supervisor.control`."""
        control(self._supervisor_socket, program, action)
        self._programs.forget()

    def series(self, snapshot: Snapshot) -> Answer[list[SeriesStatus]]:
        """The series; not requested if the gap filler has just failed to answer."""
        if snapshot.gap_filler.content is None:
            return Answer(None, snapshot.gap_filler.why, snapshot.gap_filler.hint)
        return self.peers.series()

    def open_fills(self, snapshot: Snapshot) -> Answer[list[FillStatus]]:
        """The open fills; not requested if there are none."""
        if snapshot.gap_filler.content is None:
            return Answer(None, snapshot.gap_filler.reason)
        return self.peers.open_fills() if snapshot.gap_filler.content.fills else Answer([])

    def fill_list(self, snapshot: Snapshot) -> Answer[FillList]:
        """All fills and the queue; not requested if the gap filler has just failed to answer."""
        if snapshot.gap_filler.content is None:
            return Answer(None, snapshot.gap_filler.why, snapshot.gap_filler.hint)
        return self.peers.fill_list()
