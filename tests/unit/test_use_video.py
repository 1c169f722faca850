"""Faces followed through a clip that the library draws, written and read as a real video file."""

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from ferkit import plots
from ferkit.__main__ import app
from ferkit.explain.opinions import Network
from ferkit.faces import portrait
from ferkit.models import create_model, save_weights
from ferkit.synthetic import draw_clip
from ferkit.use import flips, predict_video, probabilities, smoothed, video, write_video
from ferkit.use.video import Follower, overlap, read_frames

pytest.importorskip("av")


def small(seed=0):
    torch.manual_seed(seed)
    model = create_model("resemotenet", width=1 / 16, head="linear").eval()
    for parameter in model.parameters():
        parameter.data *= 1.5
    return Network("small", model)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    drawn = draw_clip("happiness", seconds=2, fps=10, size=96)
    file = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_video(file, drawn.frames, fps=drawn.fps)
    return drawn, file


# ------------------------------------------------------------------------------------------------------- the drawn clip


def test_the_expression_comes_stays_and_goes():
    drawn = draw_clip("surprise", seconds=4, fps=10, size=64, noise=0.0, sway=0.0)
    assert drawn.frames.shape == (40, 3, 64, 64) and drawn.frames.dtype == np.uint8 and drawn.fps == 10
    assert drawn.strength[0] == drawn.strength[-1] == 0 and (drawn.strength[15:25] == 1).all()
    assert (np.diff(drawn.strength[8:15]) >= 0).all() and 0 < drawn.strength[10] < 1
    from_first = np.abs(drawn.frames.astype(int) - drawn.frames[0]).mean((1, 2, 3))
    assert from_first[-1] == 0 and from_first[20] > 1  # one person, neutral at both ends
    assert np.corrcoef(from_first, drawn.strength)[0, 1] > 0.9


def test_noise_is_drawn_anew_for_each_frame_and_a_seed_is_a_person():
    still = draw_clip("neutral", seconds=1, fps=4, size=48, noise=0.05, sway=0.0).frames.astype(int)
    apart = np.abs(still[0] - still[1])
    assert 2 < apart.mean() < 20
    other = draw_clip("neutral", seconds=1, fps=4, size=48, noise=0.05, sway=0.0, seed=1).frames.astype(int)
    assert np.abs(still[0] - other[0]).mean() > 2 * apart.mean()
    for wrong in ({"emotion": "joy"}, {"seconds": 0.1}):
        with pytest.raises(ValueError, match="expected"):
            draw_clip(**wrong)


# ------------------------------------------------------------------------------------------------------------ the file


def test_a_video_is_read_frame_by_frame(clip):
    drawn, file = clip
    frames = list(read_frames(file))
    assert [f.number for f in frames] == list(range(20)) and frames[5].seconds == pytest.approx(0.5, abs=0.01)
    apart = np.abs(frames[9].picture.transpose(2, 0, 1).astype(int) - drawn.frames[9]).mean()
    assert apart < 8 < np.abs(frames[9].picture.transpose(2, 0, 1)[:, :, ::-1].astype(int) - drawn.frames[9]).mean()
    assert [f.number for f in read_frames(file, every=6)] == [0, 6, 12, 18]


def test_what_is_no_video(tmp_path, clip):
    (tmp_path / "x.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(ValueError, match=r"x\.mp4 is no video that can be read"):
        list(read_frames(tmp_path / "x.mp4"))
    with pytest.raises(FileNotFoundError, match="no video at"):
        list(read_frames(tmp_path / "gone.mp4"))
    with pytest.raises(ValueError, match=r"even sides, found uint8 \(2, 3, 31, 32\)"):
        write_video(tmp_path / "y.mp4", np.zeros((2, 3, 31, 32), np.uint8), fps=5)
    whole = clip[1].read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cut off"):
        list(read_frames(tmp_path / "cut.mp4"))
    assert sorted(f.name for f in tmp_path.iterdir()) == ["cut.mp4", "x.mp4"]


# -------------------------------------------------------------------------------------------------------- followed


def test_faces_keep_their_numbers_while_they_move_cross_and_are_hidden():
    follower = Follower()
    for t in range(20):  # one from the left, one from the right, on different heights
        a, b = (10 * t, 0, 10 * t + 60, 60), (200 - 10 * t, 70, 260 - 10 * t, 130)
        hidden = 5 <= t < 7  # and three steps on when it is seen again: a third of both boxes is common
        found = follower.follow([b] if hidden else [b, a] if t % 2 else [a, b], t)
        assert found == ([1] if hidden else [1, 0] if t % 2 else [0, 1])
    assert overlap((0, 0, 10, 10), (0, 5, 10, 15)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 10, 10), (20, 20, 30, 30)) == 0


def test_a_face_that_was_away_too_long_is_a_new_one():
    box = [(0, 0, 10, 10)]
    for gap, number in ((video.PATIENCE + 1, 0), (video.PATIENCE + 2, 1)):
        follower = Follower()
        assert follower.follow(box, 0) == [0]
        assert follower.follow(box, gap) == [number]


def test_two_people_are_two_tracks(tmp_path):
    pytest.importorskip("facenet_pytorch")
    photo = np.asarray(portrait())[::2, ::2].transpose(2, 0, 1)
    wide = np.concatenate([photo, photo[:, :, ::-1]], 2)
    frames = np.stack([np.roll(wide, 4 * t, 2) for t in range(4)])
    write_video(tmp_path / "two.mp4", frames, fps=4)
    table = predict_video(tmp_path / "two.mp4", "resemotenet/fer2013-teach")
    assert table.groupby("frame").face.apply(set).tolist() == [{0, 1}] * 4
    for _, track in table.groupby("face"):
        assert np.ptp(track.left) < 40 and set(track.answer) == {"happiness"}


# --------------------------------------------------------------------------------------------------------- the table


def test_every_frame_is_answered_as_a_picture_is(clip):
    _, file = clip
    network = small()
    table = predict_video(file, network, crop="none", batch_size=7, every=3)
    assert table.frame.tolist() == list(range(0, 20, 3)) and table.seconds.tolist() == pytest.approx(
        [0.3 * i for i in range(7)]
    )
    assert set(table.face) == {0} and table.left.isna().all()
    pictures = np.stack([f.picture.transpose(2, 0, 1) for f in read_frames(file, every=3)])
    names = [f"p_{name}" for name in network.labels]
    assert table[names].to_numpy() == pytest.approx(probabilities(network, pictures), abs=1e-5)


def made(answers, step=0.1):
    """A table in which the named class has 0.6 and the other 0.4."""
    p = [0.6 if a == "anger" else 0.4 for a in answers]
    return pd.DataFrame(
        {
            "frame": range(len(answers)), "seconds": np.arange(len(answers)) * step, "face": 0, "network": "n",
            "answer": answers, "p_anger": p, "p_fear": 1 - np.array(p),
        }
    )  # fmt: skip


def test_flips_are_counted_and_smoothing_removes_the_lonely_ones():
    table = made(["anger"] * 5 + ["fear"] + ["anger"] * 5 + ["fear"] * 9)
    (found,) = flips(table).to_dict("records")
    assert (found["flips"], found["frames"], found["face"]) == (3, 20, 0)
    assert found["seconds"] == pytest.approx(1.9) and found["flips_per_second"] == pytest.approx(3 / 1.9)
    calm = smoothed(table, 0.4)
    assert flips(calm).flips.tolist() == [1]
    assert calm.p_anger[5] == pytest.approx((4 * 0.6 + 0.4) / 5) and calm.p_anger[0] == pytest.approx(0.6)
    assert (calm.p_anger + calm.p_fear).tolist() == pytest.approx([1] * 20)
    assert smoothed(table, 0).equals(table)
    assert np.isnan(flips(made(["anger"])).flips_per_second[0])


def test_smoothing_hides_an_expression_that_is_shorter_than_its_window():
    table = made(["fear"] * 10 + ["anger"] * 3 + ["fear"] * 10)
    assert set(smoothed(table, 0.2).answer) == {"fear", "anger"} and set(smoothed(table, 1.0).answer) == {"fear"}


def test_the_figure_has_a_gap_where_the_face_was_away():
    time = np.array([0.0, 0.1, 0.2, 1.0, 1.1])
    answers = ["fear", "anger", "anger", "fear", "anger"]
    figure = plots.over_time(time, {"anger": np.full(5, 0.6), "fear": np.full(5, 0.4)}, {"as it is": answers})
    lines, strips = figure.axes
    assert [int(np.isnan(line.get_ydata()).sum()) for line in lines.get_lines()] == [1, 1]
    assert len(strips.patches) == 5 and strips.patches[3].get_x() == pytest.approx(0.95)
    assert [text.get_text() for text in strips.texts] == ["3 flips"]
    assert plots.problems(figure) == []
    with pytest.raises(ValueError, match="5 values for each line"):
        plots.over_time(time, {"anger": np.zeros(4)}, {"a": answers})


# ------------------------------------------------------------------------------------------------------- the command


def test_the_command(clip, tmp_path):
    weights = save_weights(small().model, tmp_path / "w.safetensors", weights="w")
    more = [
        "--crop",
        "none",
        "-n",
        str(weights),
        "--out",
        str(tmp_path / "v.csv"),
        "--figure",
        str(tmp_path / "v.png"),
    ]
    done = CliRunner().invoke(app, ["predict", str(clip[1]), *more])
    assert done.exit_code == 0, done.output
    assert (
        done.output.startswith("20 frames; answers in")
        and "face 0: seen in 20 of 20 frames; its answer changes" in done.output
    )
    table = pd.read_csv(tmp_path / "v.csv")
    assert len(table) == 20 and list(table.columns[:5]) == ["file", "frame", "seconds", "face", "left"]
    assert (tmp_path / "v.png").read_bytes().startswith(b"\x89PNG")
    wrong = CliRunner().invoke(app, ["predict", str(clip[1]), str(tmp_path), *more])
    assert "a video is asked about alone" in str(wrong.exception)
