"""Draw chunks of synthetic faces: backdrop, head, hair, parts, whatever hides them, and the camera.

The layers are painted back to front in one channel (grey) or three. Grey is the luma (Rec. 601) of the same colours, so
the grey picture of a face is the grey version of its RGB picture. Skin tones are the ten swatches of the Monk Skin Tone
Scale (Ellis Monk, skintone.google, 2022).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ferkit.synthetic.action_units import AU_NAMES, REGIONS
from ferkit.synthetic.geometry import View
from ferkit.synthetic.parameters import OCCLUDERS, uniform
from ferkit.synthetic.parts import (
    EYE_Y,
    Colours,
    Numbers,
    draw_brows,
    draw_cheeks,
    draw_eyes,
    draw_forehead,
    draw_mouth,
    draw_nose,
    eye_x,
    lit,
    per_face,
    region_masks,
    soft,
    waves,
)

_SKIN = "f6ede4 f3e7db f7ead0 eadaba d7bd96 a07e56 825c43 604134 3a312a 292420"
_HAIR = "17130f 2b1d14 4a2f1d 6e3b1f 8f5a2c c9a063"
_IRIS = "3a2314 5a3a1e 6b6a3a 7f9a8a 8fb4d6"
_HUES = "8a3f3a 8a6a3a 5f7f45 3d7a75 45608f 6c4a86 8a3f3a"
_LUMA = np.array([0.299, 0.587, 0.114])


def _rgb(stops: str) -> np.ndarray:
    return np.array([[int(k[i : i + 2], 16) for i in (0, 2, 4)] for k in stops.split()]) / 255


def _ramp(stops: str, at: np.ndarray) -> np.ndarray:
    table = _rgb(stops)
    place = at * (len(table) - 1)
    return np.stack([np.interp(place, np.arange(len(table)), column) for column in table.T], -1)  # (B, 3)


def _colours(p: Mapping[str, np.ndarray], view: View, channels: int) -> Colours:
    # A camera exposes for the face: dark skin is lifted, light skin kept from burning out.
    skin = (_ramp(_SKIN, p["skin"]) * 0.85 + 0.15 * _rgb("c98a6a")) * (0.9 + 0.5 * p["skin"] ** 2)[:, None]
    # Dark hair is the commonest, more so with dark skin; it greys with age.
    hair = _ramp(_HAIR, p["hair_colour"] ** (1 + 2 * p["skin"]))
    grey = np.clip(2.5 * p["age"] - 1.6, 0, 0.9)[:, None]
    hair = hair + (0.72 - hair) * grey
    brow = hair * 0.75 * (0.55 + 0.45 * np.minimum(1, 2 * (1 - p["skin"]))[:, None])
    backdrop = _ramp(_HUES, p["hue"])
    backdrop = (backdrop / (backdrop @ _LUMA)[:, None] * 0.35 + 0.65) * p["background"][:, None]
    ones = np.ones((len(skin), 1))
    table = {
        "skin": skin,
        "warmth": skin * _rgb("38100a"),  # light that the skin itself scatters into its shadows
        "hair": hair,
        "brow": brow,
        "iris": _ramp(_IRIS, p["iris"] * (1 - 0.6 * p["skin"])),
        "lips": skin * _rgb("c8807a") * 0.98 + 0.06 * _rgb("b04038"),
        "backdrop": backdrop,
        "cloth": _ramp(_HUES, p["cloth"]) * (0.5 + 0.9 * p["background"][:, None]),
        "sclera": ones * _rgb("e2deda"),
        "white": ones,
        "dark": ones * _rgb("140e0c"),
        "mouth": ones * _rgb("3a1212"),
        "tongue": ones * _rgb("b05a55"),
        "teeth": ones * _rgb("f0ece0"),
        "mask": ones * _rgb("a9c9d8") + (p["cloth"][:, None] > 0.6) * 0.15,
        "frame": ones * _rgb("1c1a1a"),
    }
    out = {}
    for name, rgb in table.items():
        rgb = np.broadcast_to(np.clip(rgb, 0, 1), (len(skin), 3))
        out[name] = view.tensor((rgb if channels == 3 else rgb @ _LUMA[:, None]).T).transpose(0, 1)  # (B, C, 1, 1)
    return out


def _paint(canvas: Tensor, cover: Tensor, colour: Tensor) -> None:
    """Blend colour (B, C, ...) over the canvas (B, C, H, W) where cover (B, H, W) is 1."""
    canvas += (colour - canvas).mul_(cover.unsqueeze(1))


def _inside(distance: Tensor, pixel: Tensor) -> Tensor:
    return (distance * -pixel).add_(0.5).clamp_(0, 1)


def _numbers(p: Mapping[str, np.ndarray], view: View) -> Numbers:
    return dict(zip(p, view.tensor(np.stack(list(p.values()))), strict=True))


class Head:
    """Outline, light and hair of the heads of a chunk, in coordinates that stand upright with the head.

    Attributes:
        cover: coverage of the head in [0, 1], (B, H, W); shade: brightness of its skin.
        hair: coverage of the hair behind the head; front: of the hair before it, or of stubble where the head is
            shaved.
        strands: brightness of single hairs.
    """

    def __init__(self, view: View, p: Numbers, a: Numbers) -> None:
        turn, nod = view.tensor(view.yaw_sine), view.tensor(view.pitch_sine)
        half = 0.575 + 0.09 * p["head_width"]
        jaw = 0.80 + 0.05 * a["AU26"] + 0.1 * a["AU27"] - 0.015 * a["AU17"] - 0.25 * nod
        crown = 0.86 + 0.1 * nod
        y = view.upright_y()
        low = y.clamp_min(0)
        # The chin lies further forward than the crown, so it moves more when the head turns.
        width = half * (1 + 0.08 * turn.abs())
        xs = view.upright_x(1 / width, -0.06 * turn / width).sub_(low * (0.36 * turn / width))
        ys = view.upright_y(1 / crown).add_(low * (1 / jaw - 1 / crown))
        q = xs.square()
        q += (xs * low).square_().mul_((1.2 - 1.9 * p["jaw"]) / jaw.square())
        q += ys.square()
        self.cover = _inside(q.sqrt().sub_(1).mul_(half), view.pixel)
        light = view.tensor(view.light.T * view.diffuse)  # (3, B, 1, 1)
        shade = q.mul_(-0.93).add_(1).clamp_(min=0.02).sqrt_().mul_(light[2])
        shade += xs.mul_(light[0])
        shade += ys.mul_(light[1])
        self.shade = shade.clamp_(min=0).add_(view.tensor(view.ambient))

        length, shaved = p["hair_length"], (p["hair_length"] < 0.12).float()
        reach = (length - 0.45).clamp_(min=0) * 1.6
        thick = (0.03 + 0.1 * length) * (1 - shaved)
        outer, top = half + thick, crown + thick
        hx = view.upright_x(1 / outer, 0.1 * turn / outer).square_()
        hy = view.upright_y(1 / top).sub_(torch.minimum(low, reach).mul_(1 / top)).square_()
        # Short hair ends behind the ears.
        ends = _inside(y - (2.2 * length - 0.1), view.pixel).mul_(1 - shaved)
        self.hair = _inside(hx.add_(hy).sqrt_().sub_(1).mul_(half), view.pixel).mul_(ends)
        self.front = self._hairline(view, p, nod, turn, half, reach).mul_(self.hair + self.cover * (0.35 * shaved))
        # Strands thinner than two pixels would only make a moire pattern.
        fine = min(max(view.size / 100 - 1, 0), 1)
        self.strands = waves(view.upright_x(1 / half) + 0.25 * y, 0.055) * fine if fine else torch.zeros_like(nod)

    @staticmethod
    def _hairline(view: View, p: Numbers, nod: Tensor, turn: Tensor, half: Tensor, reach: Tensor) -> Tensor:
        """Return the coverage of everything above the hairline, which moves with the front of the face."""
        start = -0.66 + 0.14 * (1 - p["hairline"])
        x = view.upright_x(1 / half, -0.5 * turn / half)
        x2 = x.square()
        line = (x2 * -0.6).add_(1).mul_(x).mul_(0.2 * p["parting"])
        x4 = x2.square_()
        line += start
        line += x4 * (0.62 + start.abs() * 0.2)
        line += x4.square_().mul_(2 * reach)
        return _inside(view.upright_y(1, 0.5 * nod).sub_(torch.minimum(line, reach + 0.02)), view.pixel)


def _draw_head(canvas: Tensor, view: View, head: Head, p: Numbers, c: Colours) -> None:
    shade = head.shade.unsqueeze(1)
    _paint(canvas, head.hair, (shade * 0.7 + head.strands.unsqueeze(1) * 0.1) * c["hair"])
    # Neck and shoulders stand upright in the picture, whatever the tilt of the head.
    rows = slice(int(0.4 * view.size), None)
    grid = ((torch.arange(view.size, device=view.device) + 0.5) * (2 / view.size) - 1).float()
    px, py = grid.view(1, 1, -1), grid[rows].view(1, -1, 1)
    neck = _inside(px.abs() - (0.34 + 0.06 * p["head_width"]), view.pixel).expand(-1, py.shape[1], -1)
    cloth = _inside(0.84 + 0.35 * px.square() - py + (0.25 - px.square()).clamp_min(0) * 0.5, view.pixel)
    dusk = view.tensor(view.ambient).unsqueeze(1) * 0.75
    _paint(canvas[:, :, rows], neck, c["skin"] * dusk + c["warmth"] * (1 - dusk))
    _paint(canvas[:, :, rows], cloth, c["cloth"] * 0.9)

    width = 0.585 + 0.09 * p["head_width"]
    ears = view.patch(per_face(width), -0.02, (-0.2, 0.2, -0.24, 0.24), paired=True, lift=-0.4)
    turn = view.tensor(view.yaw_sine)
    seen = (1 - 5 * torch.stack([-turn, turn])).clamp_(0, 1)
    seen = seen * (1 - (p["hair_length"] - 0.5).clamp_(min=0) * 4).clamp_(0, 1)  # long hair covers the ears
    radius = ((ears.u / 0.085).square_() + (ears.v / 0.15).square_()).sqrt_()
    ear = ears.inside((radius - 1) * 0.1) * seen
    hollow = 0.35 * soft(radius - 0.6, 0.25)
    pinna = lit(ears, c["skin"] * 0.93)
    ears.apply(canvas, [(ear, pinna), (1 - hollow * ear, None)])
    _paint(canvas, head.cover, shade * (c["skin"] - c["warmth"]) + c["warmth"])
    # Turned away from an ear, the head no longer hides its inner half.
    ear = ear * (4 * torch.stack([turn, -turn]) - 0.4).clamp_(0, 1)
    ears.apply(canvas, [(ear, pinna), (1 - hollow * ear, None)])
    x2 = view.upright_x(1, -0.5 * turn)[:, rows].square_()
    edge = view.upright_y(1, 0.5 * view.tensor(view.pitch_sine) - 0.36)[:, rows]
    beard = (edge - 0.9 * x2 + 3.2 * x2.square_()).mul_(10).add_(0.5).clamp_(0, 1).mul_(0.75 * p["beard"])
    _paint(canvas[:, :, rows], beard.mul_(head.cover[:, rows]), c["brow"] * shade[:, :, rows])


def _draw_hair(canvas: Tensor, view: View, head: Head, p: Numbers, c: Colours) -> None:
    _paint(canvas, head.front, (head.shade * 0.85 + head.strands * 0.18).unsqueeze(1) * c["hair"])


def _occlude(canvas: Tensor, kind: str, view: View, head: tuple[Tensor, ...], p: Numbers, c: Colours) -> Tensor:
    """Draw one kind of occluder on the faces that have it; return its coverage (B, H, W)."""
    cover, shade = head
    x = view.upright_x(1, -0.5 * view.tensor(view.yaw_sine))
    y = view.upright_y(1, 0.5 * view.tensor(view.pitch_sine))
    total = torch.zeros_like(cover)
    if kind in ("glasses", "sunglasses"):
        lens = view.patch(per_face(eye_x(p)) + 0.005, EYE_Y + 0.02, (-0.25, 0.42, -0.2, 0.2), paired=True, lift=0.06)
        dx, dy = (lens.u.abs() - 0.1).clamp_(min=0), (lens.v.abs() - 0.06).clamp_(min=0)
        box = (dx.square_() + dy.square_()).sqrt_() - 0.1
        arm = torch.maximum((lens.u - 0.29).abs() - 0.1, (lens.v + 0.05).abs() - 0.014)
        rim = lens.inside(torch.minimum(box.abs() - 0.013, arm))
        bridge = view.patch(0.0, EYE_Y, (-0.12, 0.12, -0.1, 0.1), lift=0.1)
        nose = bridge.inside(torch.maximum(bridge.u.abs() - 0.09, (bridge.v - 2 * bridge.u.square()).abs() - 0.014))
        layers: list[tuple[Tensor, Tensor | None]] = [(rim, lit(lens, c["frame"]))]
        mark: list[tuple[Tensor, Tensor | None]] = [(rim, torch.ones_like(lens.light).unsqueeze(2))]
        if kind == "sunglasses":
            glass = lens.inside(box) * 0.96
            layers.insert(0, (glass, lit(lens, c["frame"] * 1.3)))
            mark.insert(0, (glass, torch.ones_like(lens.light).unsqueeze(2)))
        lens.apply(canvas, layers)
        bridge.apply(canvas, [(nose, lit(bridge, c["frame"]))])
        lens.apply(total.unsqueeze(1), mark)
        bridge.apply(total.unsqueeze(1), [(nose, torch.ones_like(bridge.light).unsqueeze(2))])
        return total
    if kind == "mask":
        edge = 0.13 + 0.3 * (x * x).clamp_(max=0.25) - 0.1 * soft(x, 0.16)
        total = _inside(edge - y, view.pixel) * cover
        pleats = 1 - 0.16 * waves(y, 0.17).sub_(0.6).clamp_(min=0).mul_(2.5)
        _paint(canvas, total, c["mask"] * (shade * pleats).unsqueeze(1))
        return total
    # A hand: four fingers and a palm, in front of one side of the lower face, pointing up.
    side = torch.where(p["occluder_x"] < 0, -1.0, 1.0)
    hx = (x - side * (0.16 + 0.2 * p["occluder_x"].abs())) * side
    hy = y - 0.45 - 0.3 * p["occluder_y"]
    hx = hx + 0.3 * hy
    distance = ((hx / 0.27).square() + ((hy - 0.35) / 0.3).square()).sqrt_().sub_(1).mul_(0.27)
    for k in range(4):
        top = -0.28 - 0.07 * (1 if k in (1, 2) else 0)
        along = hy - hy.clamp(top, 0.3)
        across = hx - (k - 1.5) * 0.135
        finger = (along.square_() + across.square_()).sqrt_() - 0.062
        distance = torch.minimum(distance, finger)
    relief = (0.72 - distance * 5).clamp_(0.72, 1.05)
    total = _inside(distance, view.pixel)
    _paint(canvas, total, c["skin"] * (relief * view.tensor(view.ambient + 0.6 * view.diffuse)).unsqueeze(1))
    return total


def _camera(canvas: Tensor, p: Mapping[str, np.ndarray], view: View) -> Tensor:
    """Blur and add noise, and return uint8 pictures (B, C, H, W)."""
    size, reach = view.size, max(1, round(view.size / 64))
    blurred = canvas
    for axis in (2, 3):
        total = blurred.clone()
        for k in range(1, reach + 1):
            total.narrow(axis, k, size - k).add_(blurred.narrow(axis, 0, size - k))
            total.narrow(axis, 0, size - k).add_(blurred.narrow(axis, k, size - k))
            total.narrow(axis, 0, k).add_(blurred.narrow(axis, 0, 1))
            total.narrow(axis, size - k, k).add_(blurred.narrow(axis, size - 1, 1))
        blurred = total.mul_(1 / (2 * reach + 1))
    canvas += (blurred - canvas).mul_(view.tensor(p["blur"]).unsqueeze(1))
    strip = _noise_strip(size).to(view.device)
    start = torch.from_numpy((p["noise_offset"] * (len(strip) - size * size)).astype(np.int64)).to(view.device)
    noise = strip.unfold(0, size * size, 1)[start].view(-1, 1, size, size)
    canvas += noise.mul_(view.tensor(p["noise"]).unsqueeze(1))
    return canvas.clamp_(0, 1).mul_(255).add_(0.5).to(torch.uint8)


@lru_cache(maxsize=2)
def _noise_strip(size: int) -> Tensor:
    # One long strip of normal numbers; each picture reads it from its own place. Sums of twelve uniform numbers are
    # exact on every machine, which logarithms and cosines are not.
    length = 1 << 18
    strip = np.sum([uniform(0, np.arange(length), f"noise {k}") for k in range(12)], axis=0) - 6.0
    return torch.from_numpy(np.resize(strip, length + size * size).astype(np.float32))


def draw_chunk(
    aus: np.ndarray, p: Mapping[str, np.ndarray], *, size: int, channels: int, device: torch.device, masks: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw B faces: AU intensities (B, A), parameters (B,) each.

    Returns:
        uint8 pictures (B, C, H, W), and, if asked for, bool masks (B, H, W): the regions, "face", "background" and
        "occluder".
    """
    view = View(p, size, device)
    a = dict(zip(AU_NAMES, view.tensor(aus.T), strict=True))
    t = _numbers(p, view)
    c = _colours(p, view, channels)
    grid = (torch.arange(size, device=device) + 0.5) * (2 / size) - 1
    slope = (grid * t["gradient_x"]) + (grid.view(-1, 1) * t["gradient_y"])  # (B, H, W)
    canvas = c["backdrop"] * (1 + slope).unsqueeze(1)
    head = Head(view, t, a)
    _draw_head(canvas, view, head, t, c)
    draw_forehead(canvas, view, t, a, c)
    _draw_hair(canvas, view, head, t, c)
    for draw in (draw_cheeks, draw_eyes, draw_nose, draw_brows, draw_mouth):
        draw(canvas, view, t, a, c)
    hidden = torch.zeros_like(head.cover)
    for code, kind in enumerate(OCCLUDERS, 1):
        rows = np.flatnonzero(p["occluder"] == code)
        if len(rows):
            at = torch.from_numpy(rows).to(device)
            part = canvas[at]
            some = {k: v[rows] for k, v in p.items()}
            near = View(some, size, device)
            look = _numbers(some, near), _colours(some, near, channels)
            hidden[at] = _occlude(part, kind, near, (head.cover[at], head.shade[at]), *look)
            canvas[at] = part
    found: dict[str, Tensor] = {}
    if masks:
        face = head.cover > 0.5
        found = {name: mask & face for name, mask in region_masks(view, t).items()}
        found["face"] = face
        found["background"] = (head.cover < 0.5) & (head.hair < 0.5) & (hidden < 0.5)
        found["occluder"] = hidden > 0.5
        found = {name: found[name] for name in (*REGIONS, "face", "background", "occluder")}
    return _camera(canvas, p, view), found
