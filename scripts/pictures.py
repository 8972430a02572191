"""Makes the pictures of the README from a running group, with Chromium.

Each picture is at most 200 KB. See scripts/pictures.
"""
# ruff: noqa: INP001, T201 - a script beside the others, which prints for a person

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ktrdr.config.running_group import settings_to_read_with
from ktrdr.web.page_access import page_url

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs/pictures"
MAX_BYTES = 200_000
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WAIT_MS = 5000


@dataclass(frozen=True)
class Picture:
    """A picture of a page: `NAME.png`."""

    path: str
    name: str
    width: int = 1280
    height: int = 900
    scheme: str = "light"


PICTURES = (
    Picture("/", "overview"),
    Picture("/", "overview-dark", scheme="dark"),
    Picture("/", "overview-phone", 400, 800),
    Picture("/connection", "connection"),
    Picture("/simulator", "simulator"),
)


def main() -> int:
    """Make all pictures; 1 where one cannot be made or is too large."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"none of {', '.join(BROWSERS)} is installed: apt install chromium", file=sys.stderr)
        return 1
    url = page_url(settings_to_read_with()[0]).split()[0].rstrip("/")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for picture in PICTURES:
        take(browser, url, picture, FOLDER / f"{picture.name}.png")
    large = too_large(FOLDER)
    for path in large:
        size = path.stat().st_size
        print(f"{path.name}: {size} bytes, expected at most {MAX_BYTES}", file=sys.stderr)
    return 1 if large else 0


def too_large(folder: Path) -> list[Path]:
    """The files of a folder that are larger than a picture may be."""
    return [path for path in sorted(folder.iterdir()) if path.stat().st_size > MAX_BYTES]


def take(browser: str, url: str, picture: Picture, path: Path) -> None:
    """Have the browser make a picture. CalledProcessError: it does not."""
    with tempfile.TemporaryDirectory() as profile:
        command = [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={profile}",
            f"--virtual-time-budget={WAIT_MS}",
            f"--window-size={picture.width},{picture.height}",
            f"--blink-settings=preferredColorScheme={0 if picture.scheme == 'dark' else 1}",
            f"--screenshot={path}",
            url + picture.path,
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=120)  # noqa: S603 - found above
    print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    sys.exit(main())
