"""Where the parts of a face lie in the picture: a rotated ellipsoid, seen from far away, with a flat map at each part.

Head coordinates: X to the right of the picture, Y down, Z to the viewer; the head is about 1.3 wide and 1.65 high and
the picture spans [-1, 1]. Each part (an eye, the mouth ...) is drawn in its own coordinates u, v: the tangent plane of
the ellipsoid at the part, so that turning the head shifts parts by their depth and foreshortens them. For the paired
parts, u points outwards, away from the nose.

Per-image numbers are made in float64 on the CPU and rounded once. Per-pixel numbers are float32 and only ever added,
multiplied, compared, or rooted, one operation at a time: each of these is exact to the last bit under IEEE 754, so a
pixel does not depend on the size of its batch or on the device.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

#: Half axes of the ellipsoid that carries the parts, and how far its centre lies behind the picture plane's pivot.
_AXES = (0.95, 1.25, 0.66)
_PIVOT = 0.08


class Patch:
    """The pixels of one part in each of B pictures, for each of S sides (left and right of the picture, or one).

    Attributes:
        u, v: the part's coordinates at each pixel, float32 (S, B, h, w).
        light: brightness of skin at the part, (S, B, 1, 1).
        pixel: pixels per unit of u, (B, 1, 1).
    """

    def __init__(self, u: Tensor, v: Tensor, light: Tensor, pixel: Tensor, index: Tensor) -> None:
        self.u, self.v, self.light, self.pixel, self._index = u, v, light, pixel, index

    def inside(self, distance: Tensor) -> Tensor:
        """Return the coverage in [0, 1] of the shape whose signed distance is given (negative inside)."""
        return distance.mul(-self.pixel).add_(0.5).clamp_(0, 1)

    def apply(self, canvas: Tensor, layers: list[tuple[Tensor, Tensor | None]]) -> None:
        """Draw on `canvas` (B, C, H, W), in order: (factor, None) multiplies, (coverage, colour (S, B, C, 1, 1))
        paints.
        """
        flat = canvas.flatten(2)  # (B, C, H*W)
        for side in range(len(self.u)):
            index = self._index[side].flatten(1).unsqueeze(1).expand(-1, canvas.shape[1], -1)  # (B, C, h*w)
            pixels = flat.gather(2, index).unflatten(2, self.u.shape[2:])  # (B, C, h, w)
            for amount, colour in layers:
                amount = amount[side].unsqueeze(1)  # (B, 1, h, w)
                if colour is None:
                    pixels *= amount
                else:
                    pixels += (colour[side] - pixels).mul_(amount)
            flat.scatter_(2, index, pixels.flatten(2))


class View:
    """Pose, light and pixel grid of a chunk of B pictures of `size` x `size`.

    `parameters` are those of `face_parameters.sample_parameters` for the chunk.
    """

    def __init__(self, parameters: Mapping[str, np.ndarray], size: int, device: torch.device) -> None:
        p, self.size, self.device = parameters, size, device
        (cy, sy), (cp, sp), (cr, sr) = (
            (np.cos(np.radians(p[k])), np.sin(np.radians(p[k]))) for k in ("yaw", "pitch", "roll")
        )
        one, zero = np.ones_like(cy), np.zeros_like(cy)

        def matrix(*rows: list[np.ndarray]) -> np.ndarray:
            return np.stack([np.stack(row, -1) for row in rows], -2)  # (B, 3, 3)

        turn = matrix([cy, zero, sy], [zero, one, zero], [-sy, zero, cy])
        nod = matrix([one, zero, zero], [zero, cp, -sp], [zero, sp, cp])
        tilt = matrix([cr, -sr, zero], [sr, cr, zero], [zero, zero, one])
        self._rotation = tilt @ nod @ turn
        self.scale, self.shift = p["scale"], np.stack([p["shift_x"], p["shift_y"]], -1)
        self.yaw_sine, self.pitch_sine = sy, sp
        azimuth, elevation = np.radians(p["light"]), np.radians(p["elevation"])
        self._to_light = np.stack(
            [np.sin(azimuth) * np.cos(elevation), -np.sin(elevation), np.cos(azimuth) * np.cos(elevation)], -1
        )
        # Seen from the tilted head; the outline is drawn in these coordinates.
        x, y, z = self._to_light.T
        self.light = np.stack([cr * x + sr * y, cr * y - sr * x, z], -1)
        # An affine map of the pixels is one broadcast sum of an upper edge (B, 1, W) and a left edge (B, H, 1).
        upright = np.stack([np.stack([cr, sr], -1), np.stack([-sr, cr], -1)], -2) / self.scale[:, None, None]
        pixels = np.tile((np.arange(size) + 0.5) * 2 / size - 1, (len(sy), 1))
        self._edges = self._affine(upright, self.shift, pixels, pixels)
        self.pixel = self.tensor(self.scale * size / 2)
        self._ambient, self._diffuse = (1 - 0.55 * p["contrast"]) * p["exposure"], 0.7 * p["contrast"] * p["exposure"]

    def tensor(self, values: np.ndarray) -> Tensor:
        """Return per-image numbers (..., B) as float32 (..., B, 1, 1) on the device."""
        return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(self.device)[..., None, None]

    @property
    def ambient(self) -> np.ndarray:
        """Brightness of skin that faces away from the light, (B,)."""
        return self._ambient

    @property
    def diffuse(self) -> np.ndarray:
        """Brightness added where skin faces the light, (B,)."""
        return self._diffuse

    def upright_x(self, factor: Tensor | float = 1, offset: Tensor | float = 0) -> Tensor:
        """Return x * factor + offset, (B, H, W), where x is in head units with shift, scale and roll undone."""
        return (self._edges[0][0] * factor + offset) + self._edges[0][1] * factor

    def upright_y(self, factor: Tensor | float = 1, offset: Tensor | float = 0) -> Tensor:
        """Return y * factor + offset, (B, H, W); see `upright_x`."""
        return (self._edges[1][0] * factor + offset) + self._edges[1][1] * factor

    def _affine(self, matrix: np.ndarray, centre: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> list[list[Tensor]]:
        # matrix (..., 2, 2), centre (..., 2), xs (..., w), ys (..., h) -> both coordinates' edges (..., 1, w), (..., h,
        # 1).
        dx, dy = xs - centre[..., 0, None], ys - centre[..., 1, None]
        return [
            [
                torch.from_numpy((matrix[..., k, 0, None] * dx).astype(np.float32)).to(self.device).unsqueeze(-2),
                torch.from_numpy((matrix[..., k, 1, None] * dy).astype(np.float32)).to(self.device).unsqueeze(-1),
            ]
            for k in (0, 1)
        ]

    def project(self, x: np.ndarray, y: np.ndarray, lift: float | np.ndarray = 0.0) -> tuple[np.ndarray, ...]:
        """Return for points (..., B) on the head, `lift` above its surface: picture position (..., B, 2), the map from
        u, v to the picture (..., B, 2, 2), and the normal (..., B, 3)."""
        ax, ay, az = _AXES
        z = az * np.sqrt(1 - (x / ax) ** 2 - (y / ay) ** 2)
        slope_x, slope_y = -(az**2) * x / ax**2 / z, -(az**2) * y / ay**2 / z
        point = np.stack(np.broadcast_arrays(x, y, z + lift - _PIVOT), -1)  # (..., B, 3)
        flat = (self._rotation @ point[..., None])[..., 0]
        position = flat[..., :2] * self.scale[:, None] + self.shift
        one, zero = np.ones_like(z), np.zeros_like(z)
        tangents = np.stack(
            [np.stack([one, zero], -1), np.stack([zero, one], -1), np.stack([slope_x, slope_y], -1)], -2
        )
        jacobian = (self._rotation[:, :2] @ tangents) * self.scale[:, None, None]  # (..., B, 2, 2)
        normal = np.stack([-slope_x, -slope_y, one], -1)
        normal = (self._rotation @ (normal / np.linalg.norm(normal, axis=-1, keepdims=True))[..., None])[..., 0]
        return position, jacobian, normal

    def patch(
        self,
        x: float | np.ndarray,
        y: float | np.ndarray,
        box: tuple[float, float, float, float],
        *,
        paired: bool = False,
        lift: float | np.ndarray = 0.0,
    ) -> Patch:
        """Return the patch of the part at (x, y) whose drawing stays within `box` = (u low, u high, v low, v high).

        `paired` gives two sides, at -x and x. A box larger than the picture gives the whole picture.
        """
        sides = np.array([-1.0, 1.0] if paired else [1.0])[:, None]  # (S, 1)
        across = sides * np.broadcast_to(x, self.scale.shape)  # (S, B)
        position, jacobian, normal = self.project(across, np.broadcast_to(y, across.shape), lift)
        jacobian = jacobian * np.stack([sides, np.ones_like(sides)], -1)[..., None, :]
        (a, b), (c, d) = ((jacobian[..., i, 0], jacobian[..., i, 1]) for i in (0, 1))
        determinant = a * d - b * c
        inverse = np.stack([np.stack([d, -b], -1), np.stack([-c, a], -1)], -2) / determinant[..., None, None]
        lambert = np.maximum((normal * self._to_light).sum(-1), 0)
        light = self.tensor(self._ambient + self._diffuse * lambert)
        corners = np.array([[u, v] for u in box[:2] for v in box[2:]])  # (4, 2)
        reach = position[..., None, :] + corners @ jacobian.swapaxes(-1, -2)  # (S, B, 4, 2)
        low = np.floor((reach.min(-2) + 1) * self.size / 2).astype(np.int64) - 1  # (S, B, 2)
        extent = np.ceil((reach.max(-2) - reach.min(-2)) * self.size / 2).max((0, 1)).astype(np.int64) + 3
        w, h = (int(k) for k in np.minimum(extent, self.size))
        left, top = np.clip(low[..., 0], 0, self.size - w), np.clip(low[..., 1], 0, self.size - h)
        columns, rows = left[..., None] + np.arange(w), top[..., None] + np.arange(h)  # (S, B, w), (S, B, h)
        (ur, uc), (vr, vc) = self._affine(
            inverse, position, (columns + 0.5) * 2 / self.size - 1, (rows + 0.5) * 2 / self.size - 1
        )
        index = torch.from_numpy(rows[..., :, None] * self.size + columns[..., None, :]).to(self.device)  # (S, B, h, w)
        return Patch(ur + uc, vr + vc, light, self.pixel, index)
