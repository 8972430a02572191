"""The verdict as a badge for other pages: a picture in a few hundred bytes, or its text as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from unicodedata import east_asian_width

from flask import Blueprint, Response, abort, render_template, request
from flask.typing import ResponseReturnValue

from ktrdr.health.system import Snapshot, System
from ktrdr.ipc.messages import GapFillerStatus
from ktrdr.web.pages.badges import verdict_tone

_COLOURS = {"good": "#0f6f3a", "busy": "#1d4f91", "warn": "#8a4b00", "bad": "#ac1f17"}
"""By tone; white letters are readable on each."""
_LONGEST_LABEL = 40
_LETTER_PX, _MARGIN_PX = 6.6, 10


@dataclass(frozen=True)
class VerdictBadge:
    """What a badge says: `label` before, `message` on the colour, and the whole sentence."""

    label: str
    message: str
    colour: str
    title: str

    @property
    def widths(self) -> tuple[int, int]:
        """Pixels of the two halves."""
        return _width(self.label), _width(self.message)


def badges(system: System) -> Blueprint:
    """`GET /badge.svg?label=`, and `/badge.json` as shields.io reads it."""
    bp = Blueprint("badge", __name__)

    @bp.get("/badge.svg")
    def picture() -> Response:
        badge = badge_of(system.snapshot(), _label(), is_simulated=system.settings.is_simulated)
        response = Response(render_template("badge.svg", badge=badge), mimetype="image/svg+xml")
        # it is there for pages of others, which can show it and not read it
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        return response

    @bp.get("/badge.json")
    def text() -> ResponseReturnValue:
        badge = badge_of(system.snapshot(), _label(), is_simulated=system.settings.is_simulated)
        return {
            "schemaVersion": 1,
            "label": badge.label,
            "message": badge.message,
            "color": badge.colour,
        }

    return bp


def badge_of(snapshot: Snapshot, label: str, *, is_simulated: bool) -> VerdictBadge:
    """`healthy, 451 of 451 series`, with the verdict's sentence."""
    verdict, filler = snapshot.verdict, snapshot.gap_filler.content
    said = [str(verdict.health), _count(filler)]
    message = ", ".join(filter(None, said)) + (" (simulated)" if is_simulated else "")
    title = f"{label}: {message}. {verdict.summary}"
    return VerdictBadge(label, message, _COLOURS[verdict_tone(verdict)], title)


def _count(filler: GapFillerStatus | None) -> str:
    return f"{filler.series_current} of {filler.series} series" if filler else ""


def _label() -> str:
    if unknown := [name for name in request.args if name != "label"]:
        abort(400, f"unknown parameter {unknown[0]!r}: expected label")
    label = request.args.get("label", "") or "ktrdr"
    if len(label) > _LONGEST_LABEL:
        abort(400, f"label: expected at most {_LONGEST_LABEL} characters, not {len(label)}")
    return label


def _width(text: str) -> int:
    letters = sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)
    return round(letters * _LETTER_PX) + _MARGIN_PX
