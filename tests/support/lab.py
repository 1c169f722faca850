"""A real JupyterLab in a real browser: open a notebook, run it, move its controls, and hear what the console says."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Printed by JupyterLab or the browser whatever the notebook does, and of no consequence to a reader.
HARMLESS = ("favicon", "jupyter-dark-background", "ResizeObserver loop")


def browser_or_skip() -> str:
    """The path of a Chromium; skips the test with a reason when there is none."""
    pytest.importorskip("playwright", reason="the browser tests need playwright: pip install -e '.[dev]'")
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("the browser tests need Chromium: apt-get install chromium")
    return found


class Lab:
    """JupyterLab on a folder of its own with copies of what is to be opened.

    Used as `with Lab(folder, environment) as lab: lab.open("x.ipynb"); lab.run_all()`.
    """

    def __init__(self, folder: Path, environment: dict[str, str] | None = None, *, camera: bool = False) -> None:
        """`camera` gives the browser a made-up one, which shows a test picture and is allowed without asking."""
        self.folder = folder
        self._camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"] if camera else []
        self.errors: list[str] = []
        self._browser_path = browser_or_skip()
        self._environment = environment or {}

    def __enter__(self) -> Lab:
        from playwright.sync_api import sync_playwright

        home = self.folder / ".jupyter"
        settings = {
            # keep all cells in the page, also those out of view
            "notebook-extension/tracker": {"windowingMode": "none"},
            "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        }
        for name, content in settings.items():
            file = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(content))
        self._token = secrets.token_hex(16)
        # short, because kernels open sockets in it and their paths may not be longer than about a hundred characters
        self._runtime = Path(tempfile.mkdtemp(prefix="lab-"))
        options = [
            "--no-browser",
            "--ip=127.0.0.1",
            # if it is taken, the server takes another and writes down which
            f"--port={20000 + secrets.randbelow(9000)}",
            f"--IdentityProvider.token={self._token}",
            f"--notebook-dir={self.folder}",
            "--LabApp.expose_app_in_browser=True",
            "--KernelManager.transport=ipc",
        ]
        if os.geteuid() == 0:
            options.append("--allow-root")
        environment = {
            **os.environ,
            "JUPYTER_CONFIG_DIR": str(home / "config"),
            "JUPYTER_RUNTIME_DIR": str(self._runtime),
            "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
            **self._environment,
        }
        self._log = open(home / "server.log", "w", encoding="utf-8")  # noqa: SIM115
        self._server = subprocess.Popen(
            [sys.executable, "-m", "jupyter", "lab", *options], env=environment, stdout=self._log, stderr=self._log
        )
        try:
            self._wait_for_server()
            self._playwright = sync_playwright().start()
            flags = [
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ]
            self._chromium = self._playwright.chromium.launch(
                executable_path=self._browser_path, args=flags + self._camera
            )
            self.page = self._chromium.new_page(viewport={"width": 1300, "height": 1000})
            self.page.set_default_timeout(60_000)
            self.page.on(
                "console",
                lambda m: m.type == "error" and self._heard(f"console: {m.text} ({m.location.get('url', '')})"),
            )
            self.page.on("pageerror", lambda error: self._heard(f"page: {error}"))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if chromium := getattr(self, "_chromium", None):
            chromium.close()
        if playwright := getattr(self, "_playwright", None):
            playwright.stop()
        self._server.terminate()
        try:
            self._server.wait(20)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        self._log.close()
        shutil.rmtree(self._runtime, ignore_errors=True)

    def _wait_for_server(self) -> None:
        written = self._runtime / f"jpserver-{self._server.pid}.json"
        for _ in range(900):
            if self._server.poll() is not None:
                break
            try:
                self.url = f"http://127.0.0.1:{json.loads(written.read_text())['port']}"
                with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{self.url}/api", timeout=5):
                    return
            except (OSError, ValueError):
                time.sleep(0.1)
        raise RuntimeError(
            "JupyterLab did not start:\n" + (self.folder / ".jupyter" / "server.log").read_text()[-3000:]
        )

    def _heard(self, text: str) -> None:
        if not any(word in text for word in HARMLESS):
            self.errors.append(text)

    # ------------------------------------------------------------------------------------------------------- a notebook

    def open(self, notebook: str) -> None:
        """Opens a notebook of the folder and waits until its kernel is idle: before that, running does nothing,
        silently.
        """
        self.page.goto(f"{self.url}/lab/tree/{notebook}?token={self._token}&reset")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell")
        self.wait_idle(90)

    def wait_idle(self, seconds: float = 60) -> None:
        """Waits until the status bar says that the kernel is idle."""
        idle = "() => document.querySelector('#jp-main-statusbar')?.innerText.includes('| Idle')"
        self.page.wait_for_function(idle, timeout=1000 * seconds)

    def run_all(self, seconds: float = 120) -> None:
        """Runs all cells and waits for the last."""
        self.page.evaluate(
            "() => { window.ranAll = false;"
            " window.jupyterapp.commands.execute('notebook:run-all-cells').finally(() => { window.ranAll = true; }); }"
        )
        self.page.wait_for_function("() => window.ranAll", timeout=1000 * seconds)
        self.settle(seconds)

    def settle(self, seconds: float = 60) -> None:
        """Waits until messages are through and the kernel is idle again."""
        self.page.wait_for_timeout(500)
        self.wait_idle(seconds)
        self.page.wait_for_timeout(300)

    def outputs(self) -> list[dict[str, Any]]:
        """All outputs of the open notebook, from its model: what is stored, wherever the page is scrolled to."""
        return self.page.evaluate(
            "() => window.jupyterapp.shell.currentWidget.content.widgets"
            ".filter(cell => cell.model.type === 'code').flatMap(cell => cell.model.outputs.toJSON())"
        )

    def output_errors(self) -> list[str]:
        """Exceptions in cells, and in the output areas of controls."""
        stored = [f"{o['ename']}: {o['evalue']}" for o in self.outputs() if o["output_type"] == "error"]
        # an error inside a control's output area is drawn like text on stderr
        shown = self.page.locator(
            '.jupyter-widgets [data-mime-type$=".stderr"], .jupyter-widgets [data-mime-type$=".error"]'
        )
        return stored + [text[-600:] for text in shown.all_inner_texts() if "Traceback (most recent" in text]

    # --------------------------------------------------------------------------------------------------------- controls

    def control(self, description: str) -> Any:
        """The row of a control, found by the text of its label. Exact: `width` does not find `width of the head`."""
        row = self.page.locator(".jupyter-widgets.widget-inline-hbox").filter(
            has=self.page.get_by_text(description, exact=True)
        )
        row.first.scroll_into_view_if_needed()
        return row.first

    def choose(self, description: str, option: str) -> None:
        """Chooses an option of a dropdown."""
        self.control(description).locator("select").select_option(label=option)
        self.settle()

    def press(self, description: str, key: str, times: int = 1) -> None:
        """Moves a slider by the keyboard: `ArrowRight`, `ArrowLeft`, `Home`, `End`; or `Space` for a checkbox."""
        handle = self.control(description).locator(".noUi-handle, input")
        for _ in range(times):
            handle.first.press(key)
        self.settle()

    def drawn(self) -> set[str]:
        """Fingerprints of the pictures that widgets show now: of their bytes,
        since a redraw of the same has a new address.
        """
        read = (
            "all => Promise.all(all.map(async one => {"
            " const digest = await crypto.subtle.digest('SHA-256', await (await fetch(one.src)).arrayBuffer());"
            " return Array.from(new Uint8Array(digest)).join(); }))"
        )
        return set(self.page.locator(".jupyter-widgets img:visible").evaluate_all(read))

    def complaints(self) -> list[str]:
        """What widgets say in the colour of errors."""
        return self.page.locator('.jupyter-widgets span[style*="#B00020"]').all_inner_texts()

    def move_every_control(self) -> int:
        """Every visible control once: sliders a step, dropdowns to their last option, checkboxes; how many there were.
        """
        page, moved = self.page, 0
        for slider in page.locator(".jupyter-widgets .noUi-handle:visible").all():
            slider.scroll_into_view_if_needed()
            for key in ("ArrowRight", "ArrowLeft", "ArrowLeft"):  # one of them moves, wherever it stands
                slider.press(key)
            self.settle()
            moved += 1
        for choice in page.locator(".jupyter-widgets select:visible").all():
            last = choice.locator("option").last.inner_text()
            choice.select_option(label=last)
            self.settle()
            moved += 1
        for box in page.locator('.jupyter-widgets input[type="checkbox"]:visible').all():
            box.click()
            self.settle()
            moved += 1
        return moved

    def upload(self, *files: Path) -> None:
        """Gives files to the first upload button."""
        with self.page.expect_file_chooser() as chooser:
            self.page.locator("button.widget-upload").first.click()
        chooser.value.set_files([str(file) for file in files])
        self.settle()

    def screenshot(self, path: Path) -> Path:
        """A picture of what the browser shows now."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(path))
        return path
