"""The site: serves the pages, their live parts, and the targets of their forms.

A page is a frame with its live part in it. That is requested again every two seconds, by one tab of
a browser for all, and replaced where it has changed. Without JavaScript the whole page is loaded
again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, abort, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from markupsafe import Markup

from ktrdr.errors import KtrdrError
from ktrdr.health.system import System
from ktrdr.health.verdict import sources
from ktrdr.ipc.wording import because, day_of, noun, sentence
from ktrdr.web import words
from ktrdr.web.fragments import Fragments
from ktrdr.web.page_access import page_is_for
from ktrdr.web.pages.add_series import ADD, add_adding_form
from ktrdr.web.pages.add_series import NOTICES as ADD_NOTICES
from ktrdr.web.pages.badges import connection_badge, filler_badge, verdict_tone
from ktrdr.web.pages.connection import CONNECTION, add_connection_forms
from ktrdr.web.pages.connection import NOTICES as CONNECTION_NOTICES
from ktrdr.web.pages.contracts import CONTRACTS
from ktrdr.web.pages.day import DAY
from ktrdr.web.pages.fills import FILLS, add_fill_forms
from ktrdr.web.pages.fills import NOTICES as FILL_NOTICES
from ktrdr.web.pages.log import LOG, add_log
from ktrdr.web.pages.overview import OVERVIEW, remarks_on
from ktrdr.web.pages.page import Page, Site
from ktrdr.web.pages.programs import NOTICES as PROGRAM_NOTICES
from ktrdr.web.pages.programs import PROGRAMS, add_program_forms, add_usage
from ktrdr.web.pages.series import SERIES
from ktrdr.web.pages.series_forms import NOTICES as SERIES_NOTICES
from ktrdr.web.pages.series_forms import add_series_forms
from ktrdr.web.pages.simulator import NOTICES as SIMULATOR_NOTICES
from ktrdr.web.pages.simulator import SIMULATOR, carry_out

PAGES = (OVERVIEW, CONNECTION, FILLS, PROGRAMS, LOG, SERIES, DAY, SIMULATOR, ADD, CONTRACTS)

_FILTERS = (
    *("absolute", "bar_start", "clock", "command", "count", "counted", "due", "duration", "marked"),
    *("minute", "moment", "percent", "price", "size", "spoken"),
)
_NOTICES = {
    "scan-requested": "Scan requested.",
    "scan-failed": "The gap filler could not be reached; its card says why.",
    **ADD_NOTICES,
    **CONNECTION_NOTICES,
    **FILL_NOTICES,
    **PROGRAM_NOTICES,
    **SERIES_NOTICES,
    **SIMULATOR_NOTICES,
}

Key = tuple[str, tuple[str, ...], str]
"""A page's name, the values of its parameters, and the path of its links' root."""


def pages(site: Site) -> Blueprint:
    """The pages that the group has, `/live/NAME` for each, and the targets of their forms."""
    bp = Blueprint("page", __name__)
    _add_words(bp)
    by_name = {page.name: page for page in _served(site)}
    fragments = Fragments[Key](lambda key: _rendered(site, by_name[key[0]], key[1]))

    def show(page: Page, notice: str = "", html: str = "", **path: str) -> str:
        key, tag = _key(page, path), ""
        if page.is_live:
            fragment = fragments.get(key)
            html, tag = fragment.html, fragment.etag
        title, end, live = (html or _rendered(site, page, key[1])).partition("</title>")
        return render_template(
            "frame.html",
            page=page,
            title=Markup(title + end),  # noqa: S704 - rendered and escaped by us, as the next
            live=Markup(live),  # noqa: S704
            live_url=_live_url(page, key) if page.is_live else "",
            live_tag=tag,
            notice=notice or _NOTICES.get(request.args.get("notice", ""), ""),
            is_for=page_is_for(site.system.settings),
        )

    for page in by_name.values():
        bp.add_url_rule(page.path, page.name, partial(show, page), methods=["GET"])

    @bp.get("/live/<name>")
    def live(name: str) -> Response:
        page = by_name.get(name)
        if page is None or not page.is_live:
            abort(404)
        return fragments.get(_key(page, {})).response()

    _add_parts(bp, site, fragments)
    add_adding_form(
        bp,
        site.system.peers,
        lambda values: show(ADD, html=_rendered(site, ADD, (), values)),
        fragments.forget,
    )
    if SIMULATOR.name in by_name:
        _add_fault_forms(bp, site, fragments, partial(show, SIMULATOR))
    return bp


def _add_parts(bp: Blueprint, site: Site, fragments: Fragments[Key]) -> None:
    """The forms that lead back to a page, and what pages load on their own."""
    _add_forms(bp, site.system)
    add_program_forms(bp, site.system, fragments.forget)
    add_usage(bp, site.recorder)
    add_log(bp, site)
    add_connection_forms(bp, site.system.peers, fragments.forget)
    add_fill_forms(bp, site.system.peers, fragments.forget)
    add_series_forms(bp, site.system)


def _served(site: Site) -> list[Page]:
    return [page for page in PAGES if page.is_served(site.system.settings)]


def _add_words(bp: Blueprint) -> None:
    for name in _FILTERS:
        bp.add_app_template_filter(getattr(words, name), name)
    bp.add_app_template_filter(because, "because")
    bp.add_app_template_filter(day_of, "day_of")
    bp.add_app_template_filter(noun, "noun")
    bp.add_app_template_filter(sentence, "sentence")
    bp.add_app_template_filter(remarks_on, "remarks")


def _add_forms(bp: Blueprint, system: System) -> None:
    @bp.post("/scan")
    def scan() -> ResponseReturnValue:
        requested = system.peers.scan().content is not None
        notice = "scan-requested" if requested else "scan-failed"
        return redirect(url_for("page.overview", notice=notice), 303)


def _add_fault_forms(
    bp: Blueprint, site: Site, fragments: Fragments[Key], show: Callable[[str], str]
) -> None:
    @bp.post(SIMULATOR.path)
    def break_something() -> ResponseReturnValue:
        try:
            notice = carry_out(site.simulator, request.form)
        except KtrdrError as error:
            hint = f" ({error.hint})" if error.hint else ""
            return show(f"Not done: {error.message}{hint}"), error.http_status
        fragments.forget()  # the page that follows shows what was done
        return redirect(url_for("page.simulator", notice=notice), 303)


def _key(page: Page, path: dict[str, str]) -> Key:
    given = request.args | path
    values = tuple(given.get(name, "")[: page.longest] for name in page.parameters)
    return page.name, values, request.script_root


def _live_url(page: Page, key: Key) -> str:
    given = {k: v for k, v in zip(page.parameters, key[1], strict=True) if v}
    return url_for("page.live", name=page.name) + (f"?{urlencode(given)}" if given else "")


def _rendered(
    site: Site, page: Page, values: tuple[str, ...], shown: dict[str, Any] | None = None
) -> str:
    """The live part of a page, as HTML. `shown`: what it shows, instead of its view."""
    snapshot, settings = site.system.snapshot(), site.system.settings
    connection, gap_filler = snapshot.connection, snapshot.gap_filler
    context: dict[str, Any] = {
        "page": page,
        "pages": _served(site),
        "now": snapshot.time,
        "settings": settings,
        "verdict": snapshot.verdict,
        "verdict_tone": verdict_tone(snapshot.verdict),
        "sources": sources(settings, connection.content, gap_filler.content),
        "connection": connection,
        "connection_badge": connection_badge(connection, settings, snapshot.time),
        "filler": gap_filler,
        "filler_badge": filler_badge(gap_filler, snapshot.verdict),
        "services": snapshot.services,
        "forwarding": snapshot.forwarding,
    }
    if shown is None:
        shown = page.view(site, snapshot, dict(zip(page.parameters, values, strict=True)))
    context |= shown
    return render_template("live.html", **context)
