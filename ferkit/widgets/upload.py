"""Upload a face: what networks say of it, where they look, and how little it takes to change their answer."""

import base64
import html
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import ipywidgets
import numpy as np
from IPython.display import Image, display
from torch import nn

from ferkit import faces, plots
from ferkit.explain import METHODS, cam
from ferkit.explain.opinions import (
    PARTS,
    Network,
    Opinion,
    as_channels,
    as_network,
    ask,
    available_networks,
    hide,
    in_words,
    under_changes,
)
from ferkit.labels import EMOTIONS, in_order
from ferkit.widgets.attention import cam_figure, map_layers
from ferkit.widgets.controls import Panel, controls_for
from ferkit.widgets.webcam import Webcam

Networks = Mapping[str, Network | nn.Module] | Network | nn.Module | None
SIZE = 224  # side of the crop: enough for every network, and for looking at
WIDTH = 95  # characters of a title's line


def _by_name(networks: Networks) -> dict[str, Network]:
    if networks is None:
        return dict(available_networks())
    if not isinstance(networks, Mapping):
        one = as_network(networks)
        return {one.name: one}
    return {name: as_network(network, name) for name, network in networks.items()}


def found_figure(picture: np.ndarray, found: list[faces.Face], chosen: int = 0, *, align: bool = True) -> plots.Figure:
    """Draw the picture with its faces, and the chosen one as cut out by its box and turned upright;
    the one in use is named so.
    """
    face = found[chosen] if found else None
    if face is None:
        return plots.faces_found(
            picture, [], [], {"the whole picture (used)": faces.crop_face(picture, None, size=SIZE)}
        )
    crops = {
        title: faces.crop_face(picture, face, size=SIZE, align=way)
        for title, way in (("box", False), ("aligned", True))
    }
    used = "aligned" if align else "box"
    return plots.faces_found(
        picture,
        [f.box for f in found],
        [f.landmarks for f in found],
        {t + (" (used)" if t == used else ""): c for t, c in crops.items()},
        chosen=chosen,
    )


def answers_figure(networks: Mapping[str, Network], crop: np.ndarray) -> plots.Figure:
    """Draw what each network says of a crop; the title says it in words."""
    opinions = [ask(network, crop) for network in networks.values()]
    words = in_words(opinions)
    return plots.opinion_bars(opinions, _lines(opinions), crop=crop, title=textwrap.fill(words, WIDTH))


def _lines(opinions: Sequence[Opinion]) -> tuple[str, ...]:
    """Return a line for each emotion, if the networks know any, and for each class of one's own."""
    known = {name for opinion in opinions for name in opinion.labels}
    return in_order(known | set(EMOTIONS) if known & set(EMOTIONS) else known)


def hidden_figure(
    networks: Mapping[str, Network],
    crop: np.ndarray,
    part: str = "mouth",
    *,
    across: float = 0.5,
    down: float = 0.5,
    side: float = 0.3,
) -> plots.Figure:
    """Draw what each network says once a part of the face is covered: one of `PARTS`,
    or "a square" of a side around a point (0 to 1).
    """
    if part == "a square":
        left, right = np.clip([across - side / 2, across + side / 2], 0, 1)
        top, bottom = np.clip([down - side / 2, down + side / 2], 0, 1)
        covered = hide(crop, box=(float(left), float(top), float(right), float(bottom)))
    else:
        covered = hide(crop, part)
    before, after = ([ask(network, c) for network in networks.values()] for c in (crop, covered))
    turned = [
        f"{name.split()[0]}: {a.answer} → {b.answer}"
        for name, a, b in zip(networks, before, after, strict=True)
        if a.answer != b.answer
    ]
    title = f"{part} hidden: " + ("; ".join(turned) if turned else "no answer changes")
    return plots.opinion_bars(after, _lines(after), crop=covered, title=textwrap.fill(title, WIDTH))


def stability_figure(networks: Mapping[str, Network], crop: np.ndarray, network: str) -> plots.Figure:
    """Draw one network's probabilities under small changes of the picture."""
    chosen = networks[network]
    return plots.changes_grid(under_changes(chosen, crop), chosen.model.labels, reference="as it is", title=network)


def side_by_side_figure(networks: Mapping[str, Network], crop: np.ndarray, method: str = "gradcam") -> plots.Figure:
    """Draw where each network looks for its own answer, at its own default layer."""
    picture = as_channels(crop)
    heats = {
        f"{name.split()[0]}:\n{ask(network, crop).answer}": cam(network.model, picture, method=method)
        for name, network in networks.items()
    }
    return plots.cam_grid(picture, heats)


class FaceUpload(ipywidgets.VBox):
    """Upload, photograph or built-in portrait; faces found; and views of one of them.

    Args:
        networks: `Network`s or bare models by name, or one alone; default every one whose weights come with the
            workbook.

    `pages` are the views by title. Every view is a plain function of this module over `networks` and the present
    `crop`. Pictures stay in memory. What goes wrong is one sentence under the buttons, and what was there before stays.
    """

    def __init__(self, networks: Networks = None) -> None:
        self.networks = _by_name(networks)
        if not self.networks:
            raise ValueError("no trained network to ask: data/weights is empty, or `networks` is")
        self.picture: np.ndarray = faces.portrait()
        self.found: list[faces.Face] = []
        self._upload = ipywidgets.FileUpload(
            accept="image/*",
            multiple=False,
            description="Upload a picture",
            layout=ipywidgets.Layout(width="max-content"),
        )
        self._sample = ipywidgets.Button(
            description="Portrait",
            tooltip="NASA astronaut Eileen Collins, public domain",
            layout=ipywidgets.Layout(width="max-content"),
        )
        self._camera = Webcam()
        self._message = ipywidgets.HTML()
        self._which = ipywidgets.Dropdown(options=[("0", 0)], description="face")
        self._align = ipywidgets.Checkbox(True, description="turn upright", indent=False)
        self._save = ipywidgets.HTML()
        self._upload.observe(self._uploaded, names="value")
        self._sample.on_click(lambda _: self._use(faces.portrait))
        self._camera.observe(self._photographed, names="photograph")
        self._camera.observe(lambda change: self._say(change["new"].rsplit(" [", 1)[0], wrong=True), names="complaint")
        self.pages = self._views()
        for page in self.pages.values():
            page.on_drawing(self._offer)
        self._tabs = ipywidgets.Tab(list(self.pages.values()), titles=list(self.pages))
        self._tabs.observe(lambda _: self.redraw(), names="selected_index")
        for box in (self._which, self._align):
            box.observe(lambda _: self.redraw(), names="value")
        buttons = ipywidgets.HBox([self._upload, self._sample, self._camera])
        choice = ipywidgets.HBox([self._which, self._align, self._save])
        super().__init__([buttons, self._message, choice, self._tabs])
        self._look()

    @property
    def crop(self) -> np.ndarray:
        """The face in use, uint8 RGB (224, 224, 3); the whole picture where no face was found."""
        face = self.found[self._which.value] if self.found else None
        return faces.crop_face(self.picture, face, size=SIZE, align=self._align.value)

    @property
    def opened(self) -> Panel:
        """The view that is open."""
        return list(self.pages.values())[self._tabs.selected_index or 0]

    def redraw(self) -> None:
        """Draw the open view anew."""
        self.opened.redraw()
        self._offer()

    def _offer(self) -> None:
        """Link to the figure that the open view shows, whatever drew it."""
        link = base64.b64encode(self.opened.png).decode()
        self._save.value = (
            (
                '<a style="text-decoration:underline" download="face.png" '
                f'href="data:image/png;base64,{link}">Save this figure</a>'
            )
            if link
            else ""
        )

    def _views(self) -> dict[str, Panel]:
        names, first = list(self.networks), next(iter(self.networks))
        layers = ipywidgets.Dropdown(options=["default", *map_layers(self.networks[first].model)])
        network = ipywidgets.Dropdown(options=names)
        labels = ipywidgets.Dropdown(options=["predicted", *self.networks[first].model.labels])

        def other_network(change: dict[str, Any]) -> None:
            model = self.networks[change["new"]].model
            with self.pages["where it looks"].held():
                layers.options, labels.options = ["default", *map_layers(model)], ["predicted", *model.labels]

        network.observe(other_network, names="value")  # before the panel's own, so that it draws with the new choices

        def where(network: str, target: str, layer: str, method: str, opacity: float) -> plots.Figure:
            model = self.networks[network].model
            picture = as_channels(self.crop)[0]
            return cam_figure(
                model,
                picture,
                target=target,
                layer=None if layer == "default" else layer,
                method=method,
                opacity=opacity,
                name=network,
            )

        methods = list(METHODS)
        opacity = ipywidgets.FloatSlider(value=0.6, min=0, max=1, step=0.1)
        views: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
            "answers": (lambda: answers_figure(self.networks, self.crop), {}),
            "where it looks": (
                where,
                {"network": network, "target": labels, "layer": layers, "method": methods, "opacity": opacity},
            ),
            "side by side": (lambda method: side_by_side_figure(self.networks, self.crop, method), {"method": methods}),
            "hide a part": (
                lambda part, across, down, side: hidden_figure(
                    self.networks, self.crop, part, across=across, down=down, side=side
                ),
                {
                    "part": [*PARTS, "a square"],
                    **{name: _share(value) for name, value in (("across", 0.5), ("down", 0.5), ("side", 0.3))},
                },
            ),
            "small changes": (lambda network: stability_figure(self.networks, self.crop, network), {"network": names}),
            "faces found": (
                lambda: found_figure(self.picture, self.found, self._which.value, align=self._align.value),
                {},
            ),
        }
        return {title: Panel(fn, controls_for(fn, controls)) for title, (fn, controls) in views.items()}

    def _uploaded(self, change: dict[str, Any]) -> None:
        if files := change["new"]:
            self._upload.value = ()  # so that the same file again is a change, after another picture or another error
            self._use(partial(faces.read_picture, files[0]["content"]))

    def _photographed(self, change: dict[str, Any]) -> None:
        if change["new"]:
            self._use(self._camera.picture)
            self._camera.photograph = ""  # for the same reason

    def _use(self, read: Callable[[], np.ndarray]) -> None:
        try:
            picture = read()
        except Exception as error:
            self._say(str(error) or type(error).__name__, wrong=True)
            return
        self.picture = picture
        self._look()

    def _look(self) -> None:
        self._say("looking for faces …")
        try:
            found = faces.find_faces(self.picture)
            said = faces.describe(found, self.picture)
        except Exception as error:
            found, said = [], f"No face could be looked for ({error}); the whole picture is used."
        self.found = found
        with self.opened.held():
            self._which.options = [(f"{i}: {f.box[2] - f.box[0]:.0f} pixels wide", i) for i, f in enumerate(found)] or [
                ("the whole picture", 0)
            ]
            self._which.value = 0
        self._say(said)
        self.redraw()

    def _say(self, text: str, *, wrong: bool = False) -> None:
        colour = "#B00020" if wrong else "inherit"
        said = text[:1].upper() + text[1:].rstrip(".") + ". What was there before stays." if wrong else text
        self._message.value = f'<span style="color:{colour}">{html.escape(said, quote=False)}</span>'

    def __repr__(self) -> str:
        return "(Upload a face: run this notebook in JupyterLab.)"


def upload_face(networks: Networks = None) -> None:
    """Show what networks say of the built-in portrait as a plain picture, and below it the live `FaceUpload`."""
    widget = FaceUpload(networks)
    static = display(Image(data=plots.to_png(answers_figure(widget.networks, widget.crop))), display_id=True)
    for page in widget.pages.values():
        page.take_the_place_of(static)
    display(widget)


def _share(value: float) -> ipywidgets.FloatSlider:
    return ipywidgets.FloatSlider(
        value=value, min=0.1, max=1.0, step=0.05, readout_format=".2f", tooltip="of the square"
    )
