"""The parts of a synthetic face that action units move: forehead, cheeks, nose, eyes, brows, mouth.

Each function takes the `View` of a chunk of B faces, its parameters `p` and its action units `a` as (B, 1, 1) tensors,
and the colours `c`, and draws its part on the canvas (B, C, H, W). Shapes are signed distances in the part's own u, v;
a fold of the skin is a soft dark line whose strength is the intensity of the unit that folds it. What each unit does
follows the appearance changes of the FACS manual (Ekman, Friesen and Hager, 2002), in few strokes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ferkit.synthetic.geometry import Patch, View

#: Name -> per-face number (B, 1, 1).
Numbers = dict[str, Tensor]
#: Name -> per-face colour (B, C, 1, 1).
Colours = dict[str, Tensor]

BROW_Y, EYE_Y, NOSE_Y, CHEEK_Y, MOUTH_Y = -0.29, -0.10, 0.21, 0.18, 0.47


def soft(distance: Tensor, width: float | Tensor) -> Tensor:
    """Return a soft line: 1 where distance is 0, falling to 0 at +-width."""
    return distance.abs().div_(width).neg_().add_(1).clamp_(min=0)


def blob(u: Tensor, v: Tensor, u0: float | Tensor, v0: float | Tensor, ru: float, rv: float) -> Tensor:
    """Return a soft ellipse: 1 in its centre, falling to 0 at its rim."""
    return ((u - u0) / ru).square_().add_(((v - v0) / rv).square_()).neg_().add_(1).clamp_(min=0)


def waves(v: Tensor, period: float) -> Tensor:
    """Return a triangle wave in [0, 1] along v, for parallel folds."""
    v = v / period
    return (v - v.floor()).sub_(0.5).abs_().mul_(2)


def lit(patch: Patch, colour: Tensor) -> Tensor:
    """Return a colour (B, C, 1, 1) in the light at the patch, (S, B, C, 1, 1)."""
    return patch.light.unsqueeze(2) * colour


def eye_x(p: Numbers) -> Tensor:
    """Return how far the eyes' centres are from the middle of the face."""
    return 0.235 + 0.05 * p["eye_spacing"] + 0.03 * p["head_width"]


def mouth_width(p: Numbers, a: Numbers) -> Tensor:
    """Return half the width of the mouth: AU12 and AU20 stretch it; AU23, AU24 and AU27 narrow it."""
    wide = 1 + 0.26 * a["AU12"] + 0.3 * a["AU20"] + 0.05 * (a["AU14L"] + a["AU14R"])
    narrow = 0.18 * a["AU23"] + 0.1 * a["AU24"] + 0.16 * a["AU27"] + 0.08 * a["AU26"]
    return (0.215 + 0.06 * p["mouth_size"]) * (wide - narrow)


def draw_forehead(canvas: Tensor, view: View, p: Numbers, a: Numbers, c: Colours) -> None:
    """Draw the lines across the forehead (AU1, AU2) and the upright ones between the brows (AU4)."""
    patch = view.patch(0.0, -0.42, (-0.46, 0.46, -0.2, 0.3))
    u, v = patch.u, patch.v
    middle = blob(u, v, 0.0, -0.03, 0.3, 0.16)
    sides = blob(u.abs(), v, 0.28, -0.02, 0.17, 0.14)
    raised = (middle * (0.75 * a["AU1"] + 0.25 * p["age"] + 0.3 * a["AU2"])).add_(sides * (0.7 * a["AU2"]))
    across = raised.clamp_(max=1).mul_(waves(v + 0.12 * u * u, 0.075))
    upright = soft(u.abs() - 0.045, 0.028) * soft(v - 0.15, 0.13).mul_(2).clamp_(max=1)
    upright = upright * (0.7 * a["AU4"] + 0.12 * p["age"])
    patch.apply(canvas, [((0.42 * across + 0.55 * upright).neg_().add_(1), None)])


def draw_cheeks(canvas: Tensor, view: View, p: Numbers, a: Numbers, c: Colours) -> None:
    """Draw the fold from nose to mouth (AU9, AU10, AU12, age) and the raised cheek (AU6, AU12)."""
    patch = view.patch(0.3, CHEEK_Y, (-0.34, 0.32, -0.22, 0.34), paired=True)
    u, v = patch.u, patch.v
    along = v / 0.27
    reach = mouth_width(p, a) - 0.085
    bulge = 0.1 * a["AU12"] + 0.05 * a["AU6"]
    fold = u + 0.175 - reach * along - bulge * (along - along * along)
    strength = (0.3 * p["age"] + 0.6 * a["AU12"] + 0.75 * a["AU10"] + 0.6 * a["AU9"] + 0.2 * a["AU20"]).clamp_(max=1)
    line = soft(fold, 0.055) * soft(along - 0.42, 0.63).mul_(1.5).clamp_(max=1)
    raised = (0.7 * a["AU6"] + 0.4 * a["AU12"]).clamp_(max=1)
    apple = blob(u, v, 0.02, -0.01 - 0.03 * raised, 0.19, 0.15)
    under = soft(v + 0.155 - 1.2 * u * u, 0.035) * soft(u, 0.18).mul_(1.6).clamp_(max=1)
    shade = 1 - (0.4 * strength) * line + (0.17 * raised) * apple - (0.33 * a["AU6"]) * under
    patch.apply(canvas, [(shade, None)])


def draw_nose(canvas: Tensor, view: View, p: Numbers, a: Numbers, c: Colours) -> None:
    """Draw bridge, tip, wings and nostrils; AU9 lifts and widens the wings and folds the bridge."""
    lift = 0.17
    patch = view.patch(0.0, NOSE_Y, (-0.24, 0.24, -0.36, 0.14), lift=lift)
    u, v = patch.u, patch.v
    size = 0.85 + 0.35 * p["nose_size"]
    up = 0.035 * a["AU9"] + 0.01 * a["AU10"]
    # The bridge starts between the eyes, on the surface: with the head turned, it slants in the plane of the tip.
    lean = view.tensor(lift / 0.36 * view.yaw_sine)
    down = (v + 0.34).clamp_(0, 0.42)  # 0 at the root, 0.34 at the tip
    half = (0.05 + 0.17 * down) * size
    across = (u - lean * v) / half
    body = (1 - across * across).clamp_(min=0)
    fade = (down * 6).clamp_(max=1) * ((0.09 - v) * 12).clamp_(0, 1)
    light_x = view.tensor(view.light[:, 0] * view.diffuse)
    slope = across * body * fade
    ridge = soft(across, 0.5) * fade
    under = blob(u, v, 0.0, 0.085 - up, 0.15, 0.055)
    wing = blob(u.abs(), v, 0.105 * size + 0.02 * a["AU9"], 0.035 - up, 0.05, 0.06)
    crease = soft(wing - 0.35, 0.35) * (u.abs() > 0.1 * size)
    folds = waves(v + 0.25 * u.abs(), 0.075) * blob(u, v, 0.0, -0.23, 0.16, 0.13)
    shade = 1 + light_x * slope * 0.9 + 0.1 * ridge - 0.2 * under - 0.16 * crease
    shade = shade - (0.6 * a["AU9"]) * folds
    nostril = ((u.abs() - (0.055 * size + 0.012 * a["AU9"])) / 0.036).square_() + ((v - 0.06 + up) / 0.02).square_()
    holes = patch.inside((nostril.sqrt_() - 1).mul_(0.02)) * 0.75
    patch.apply(canvas, [(shade, None), (holes, lit(patch, c["dark"]))])


def draw_eyes(canvas: Tensor, view: View, p: Numbers, a: Numbers, c: Colours) -> None:
    """Draw the eyes: AU5 opens, AU7 and AU6 tighten the lids, AU43 closes; AU6 adds crow's feet."""
    patch = view.patch(per_face(eye_x(p)), EYE_Y, (-0.24, 0.34, -0.2, 0.2), paired=True)
    u, v = patch.u, patch.v
    size = 0.85 + 0.3 * p["eye_size"]
    half = 0.148 * size
    upper = size * 0.078 * (1 + 0.6 * a["AU5"] - 0.4 * a["AU7"] - 0.2 * a["AU6"] - 0.1 * a["AU4"]).clamp_(min=0.2)
    lower = size * 0.05 * (1 + 0.25 * a["AU5"] - 0.6 * a["AU7"] - 0.65 * a["AU6"]).clamp_(min=0.1)
    upper = upper * (1 - a["AU43"]) - lower * (0.95 * a["AU43"])
    t = u / half
    arch = 1 - t * t
    tilted = v + 0.08 * u
    top, bottom = arch * -upper, arch * lower
    slit = torch.maximum(top - tilted, tilted - bottom) * 0.85
    opening = patch.inside(torch.maximum(slit, (t.abs() - 1) * half))

    gaze_x = torch.stack([-p["gaze_x"], p["gaze_x"]]) * (0.1 * half)  # u points outwards on both sides
    du, dv = u - gaze_x * 4, tilted - (p["gaze_y"] * 0.04 - 0.006)
    radius = (du * du + dv * dv).sqrt_()
    iris_r = 0.072 * size
    iris = patch.inside(radius - iris_r) * opening
    pupil = patch.inside(radius - 0.45 * iris_r) * opening
    glint = patch.inside(((du - 0.02).square_() + (dv + 0.025).square_()).sqrt_() - 0.016) * opening * 0.9

    span = soft(t, 1.18).mul_(5).clamp_(max=1)
    lash = soft(tilted - top, 0.03) * span
    rim = soft(tilted - bottom, 0.018) * span
    crease = soft(tilted - top + 0.05 + 0.02 * a["AU5"], 0.026) * span
    bag = soft(tilted - bottom - 0.042 + 0.01 * a["AU7"], 0.03) * span
    socket = blob(u, v, -0.06, -0.07, 0.17, 0.12)
    out = u - half * 1.12
    feet = waves(v / (out.abs() + 0.1) + 0.5, 0.42).mul_(2).sub_(1).clamp_(min=0) * blob(out, v, 0.05, 0.0, 0.06, 0.09)
    shade = 1 - 0.16 * socket - 0.28 * crease
    shade = shade - (0.14 + 0.35 * a["AU7"] + 0.2 * a["AU6"] + 0.15 * p["age"]) * bag
    shade = (shade - (0.45 * a["AU6"] + 0.2 * p["age"]) * feet).clamp_(min=0.2)
    # Sclera in the shadow of the upper lid.
    shadow = 1 - soft(tilted - top, 0.05) * opening * 0.35
    patch.apply(
        canvas,
        [
            (shade, None),
            (opening, lit(patch, c["sclera"])),
            (iris, lit(patch, c["iris"])),
            (pupil, lit(patch, c["dark"])),
            (shadow, None),
            (glint, lit(patch, c["white"])),
            (rim * 0.3, lit(patch, c["dark"])),
            (lash * 0.9, lit(patch, c["dark"])),
        ],
    )


def draw_brows(canvas: Tensor, view: View, p: Numbers, a: Numbers, c: Colours) -> None:
    """Draw the brows: AU1 lifts the inner end, AU2 the outer, AU4 lowers them and draws them together; AU9 too,
    a little.
    """
    patch = view.patch(per_face(eye_x(p)), BROW_Y, (-0.36, 0.3, -0.26, 0.24), paired=True)
    inner = 0.12 * a["AU1"] - 0.1 * a["AU4"] - 0.015 * a["AU9"]
    outer = 0.11 * a["AU2"] - 0.03 * a["AU4"] - 0.015 * a["AU1"]
    half = 0.19 + 0.01 * p["eye_size"]
    t = (patch.u + 0.05 * a["AU4"] + 0.01 * a["AU9"] + 0.005) / half
    arch = (0.022 + 0.02 * a["AU2"]) * (1 - t * t)
    line = patch.v + arch + (inner + outer) * 0.5 - (t * ((inner - outer) * 0.5)) - 0.012 * t
    thick = (0.021 + 0.03 * p["brow_thickness"]) * (1 - 0.3 * t)
    distance = torch.maximum(line.abs() - thick, (t.abs() - 1) * 0.19)
    cover = patch.inside(distance) * (0.8 + 0.15 * p["brow_thickness"])
    patch.apply(canvas, [(cover, lit(patch, c["brow"]))])


def draw_mouth(canvas: Tensor, view: View, p: Numbers, a: Numbers, c: Colours) -> None:
    """Draw lips, teeth, the open mouth, and the folds around it (AU10, AU12 and AU14 to AU27)."""
    patch = view.patch(0.0, MOUTH_Y, (-0.46, 0.46, -0.2, 0.5), lift=0.05)
    u, v = patch.u, patch.v
    w = mouth_width(p, a)
    t = u / w
    t2 = t * t
    bow = 1 - t2
    one_sided = 0.5 * (a["AU14L"] - a["AU14R"])  # the face's left is on the right of the picture
    both = 0.5 * (a["AU14L"] + a["AU14R"])
    lift = 0.13 * a["AU12"] - 0.11 * a["AU15"] - 0.02 * a["AU20"] + 0.06 * both
    centre = (
        0.03 * a["AU12"] - 0.025 * a["AU15"] - 0.045 * a["AU17"] * bow - lift * t2 - (0.14 * one_sided) * (t * t.abs())
    )
    squared = (a["AU20"] + 0.5 * a["AU10"]).clamp_(max=1)
    profile = bow * (1 + squared * t2)
    drop = (0.06 * a["AU25"] + 0.18 * a["AU26"] + 0.22 * a["AU27"] + 0.05 * a["AU16"]).clamp_(max=0.34)
    rise = (
        0.022 * a["AU25"]
        + 0.02 * a["AU26"]
        + 0.03 * a["AU27"]
        + 0.03 * a["AU10"] * (a["AU25"] + a["AU26"]).clamp_(max=1)
    )
    tight = (1 - 0.6 * a["AU23"] - 0.65 * a["AU24"]).clamp_(min=0.2)
    above = (0.036 + 0.032 * p["lips"]) * tight * (1 - 0.3 * a["AU12"])
    below = (0.05 + 0.04 * p["lips"]) * tight * (1 - 0.2 * a["AU12"] + 0.25 * a["AU17"])
    top_in, bottom_in = centre - rise * profile, centre + drop * profile
    notch = 1 - 0.3 * soft(t, 0.3)
    top_out = top_in - above * bow * notch - 0.055 * a["AU10"] * profile
    bottom_out = bottom_in + below * bow
    lips = patch.inside(torch.maximum(top_out - v, v - bottom_out) * 0.9)
    parted = ((drop + rise) * 40).clamp_(max=1)
    gap = torch.maximum(torch.maximum(top_in - v, v - bottom_in), (t.abs() - 1) * w) + (1 - parted)
    hole = patch.inside(gap)
    teeth = patch.inside(torch.maximum(gap, v - top_in - 0.05)) * soft(t, 1.0).mul_(4).clamp_(max=1)
    lower_teeth = (
        patch.inside(torch.maximum(gap, bottom_in - 0.035 - v)) * a["AU16"] * soft(t, 0.9).mul_(4).clamp_(max=1)
    )
    tongue = patch.inside(torch.maximum(gap, bottom_in - 0.08 - v)) * soft(t, 0.8)
    parting = soft(v - centre, 0.022) * soft(t, 1.1).mul_(10).clamp_(max=1)
    gloss = soft(v - bottom_in - 0.45 * below, 0.03) * soft(t, 0.6)

    under = blob(u, v, 0.0, drop + below + 0.055 - 0.045 * a["AU17"], 0.15, 0.055)
    boss = waves(u + 2 * v, 0.07) * blob(
        u, v, 0.0, (drop + below + 0.14 - 0.03 * a["AU17"]).clamp_(max=0.4), 0.14, 0.09
    )
    side = torch.where(u > 0, a["AU14L"], a["AU14R"])
    corner_v = -lift - 0.14 * one_sided * u.sign() + 0.03 * a["AU12"]
    dimple = soft(u.abs() - w - 0.035, 0.035) * soft(v - corner_v, 0.12).mul_(1.5).clamp_(max=1)
    hang = soft(u.abs() - w - 0.02 - 0.25 * v, 0.035) * soft(v - 0.1, 0.12).mul_(1.5).clamp_(max=1)
    shade = 1 - (0.12 + 0.3 * a["AU17"]) * under - (0.4 * a["AU17"]) * boss
    shade = shade - (0.45 * side + 0.2 * a["AU12"]) * dimple - (0.35 * a["AU15"] + 0.1 * p["age"]) * hang
    patch.apply(
        canvas,
        [
            (shade.clamp_(min=0.2), None),
            (lips * 0.85, lit(patch, c["lips"])),
            (1 + 0.12 * gloss * lips, None),
            (parting * 0.75, lit(patch, c["mouth"])),
            (hole, lit(patch, c["mouth"])),
            (tongue * 0.7, lit(patch, c["tongue"])),
            (teeth, lit(patch, c["teeth"])),
            (lower_teeth, lit(patch, c["teeth"])),
        ],
    )


def per_face(x: Tensor) -> np.ndarray:
    """Return per-face numbers (B, 1, 1) as a float64 array (B,), for placing a patch."""
    return x[:, 0, 0].cpu().double().numpy()


def region_masks(view: View, p: Numbers) -> dict[str, Tensor]:
    """Return the five regions of each face, bool (B, H, W); they turn with the head."""
    shapes: dict[str, tuple[float | np.ndarray, float, bool, float, tuple[float, float, float, float]]] = {
        "brows": (0.0, BROW_Y, False, 0.0, (0.0, -0.065, 0.5, 0.175)),
        "eyes": (per_face(eye_x(p)), EYE_Y, True, 0.0, (0.05, 0.0, 0.22, 0.14)),
        "nose": (0.0, NOSE_Y, False, 0.17, (0.0, -0.1, 0.2, 0.23)),
        "mouth": (0.0, MOUTH_Y, False, 0.05, (0.0, 0.13, 0.42, 0.33)),
        "cheeks": (0.3, CHEEK_Y, True, 0.0, (0.0, 0.03, 0.22, 0.24)),
    }
    masks = {}
    for name, (x, y, paired, lift, (u0, v0, ru, rv)) in shapes.items():
        patch = view.patch(x, y, (-9, 9, -9, 9), paired=paired, lift=lift)
        # Between an ellipse and a box: x^4 + y^4 < 1.
        inside = ((patch.u - u0) / ru).square_().square_() + ((patch.v - v0) / rv).square_().square_() < 1
        masks[name] = inside.any(0)
    return masks
