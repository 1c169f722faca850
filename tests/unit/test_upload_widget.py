"""The upload widget without a browser: what it shows, what it says, and that nothing is written or lost."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ferkit import faces, plots
from ferkit.explain.opinions import Network
from ferkit.models import create_model
from ferkit.widgets import FaceUpload, Webcam
from ferkit.widgets import upload as module


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    first = Network("first teach", create_model("resemotenet", width=1 / 16, head="linear").eval(), None, 0.2)
    second = Network("second teach", create_model("resnet18", width=1 / 8, num_classes=7).eval())
    return {"first teach": first, "second teach": second}


@pytest.fixture
def widget(networks):
    return FaceUpload(networks)


def png(picture):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def give(widget, content):
    widget._uploaded({"new": ({"name": "x.png", "content": memoryview(content)},)})


def test_the_same_file_again_answers_again(widget):
    """A browser sends the same value for the same file; it must count as a new upload,
    after Portrait and after an error alike.
    """
    red, when = png(np.full((60, 90, 3), (200, 10, 10), np.uint8)), 1_700_000_000_000

    def browser_sends(data, name):
        widget._upload.set_state(
            {
                "value": [
                    {
                        "name": name,
                        "type": "image/png",
                        "size": len(data),
                        "content": memoryview(data),
                        "last_modified": when,
                    }
                ]
            }
        )

    for _ in range(2):
        browser_sends(red, "me.png")
        assert widget.picture.shape == (60, 90, 3) and "No face" in widget._message.value
        widget._sample.click()
        assert widget.picture.shape == (512, 512, 3) and "One face" in widget._message.value
    for _ in range(2):
        browser_sends(b"hello", "notes.png")
        assert "What was there before stays" in widget._message.value and widget.picture.shape == (512, 512, 3)
        widget._sample.click()
    url = "data:image/png;base64," + base64.b64encode(red).decode()
    for _ in range(2):
        widget._camera.set_state({"photograph": url})
        assert widget.picture.shape == (60, 90, 3)
        widget._sample.click()
    widget._upload.set_state({"value": []})  # what some hosts send after an upload
    assert widget.picture.shape == (512, 512, 3)


def open_view(widget, title):
    widget._tabs.selected_index = list(widget.pages).index(title)
    return widget.pages[title]


def test_begins_with_the_portrait_and_its_face(widget):
    assert "One face found" in widget._message.value
    assert widget.crop.shape == (224, 224, 3)
    assert widget.pages["answers"].png.startswith(b"\x89PNG")
    assert 'download="face.png"' in widget._save.value


@pytest.mark.parametrize(
    "title", ["answers", "where it looks", "side by side", "hide a part", "small changes", "faces found"]
)
def test_each_view_draws_and_follows_its_controls(widget, title):
    page = open_view(widget, title)
    first = page.png
    assert first.startswith(b"\x89PNG") and page._note.value == ""
    for name, box in page._boxes.items():
        if hasattr(box, "options") and name != "method":
            box.value = box.options[-1]
            assert page._note.value == "", (name, page._note.value)
    if title in ("hide a part", "small changes"):
        assert page.png != first


def test_another_network_brings_its_own_layers_and_classes(widget):
    page = open_view(widget, "where it looks")
    before = page.png
    page._boxes["network"].value = "second teach"
    assert "layer3" in page._boxes["layer"].options and page._note.value == ""
    page._boxes["layer"].value = "layer3"
    page._boxes["target"].value = "anger"
    assert page._note.value == "" and page.png != before


def test_a_square_can_be_moved_over_the_face(widget):
    page = open_view(widget, "hide a part")
    page._boxes["part"].value = "a square"
    seen = {page.png}
    for name, value in (("across", 0.2), ("down", 0.8), ("side", 1.0)):
        page._boxes[name].value = value
        assert page._note.value == "" and page.png not in seen, name
        seen.add(page.png)


def test_each_change_draws_once(widget, monkeypatch):
    drawn = []
    original = module.cam_figure
    monkeypatch.setattr(module, "cam_figure", lambda *args, **options: (drawn.append(1), original(*args, **options))[1])
    page = open_view(widget, "where it looks")
    page._boxes["layer"].value, page._boxes["target"].value = page._boxes["layer"].options[1], "anger"
    drawn.clear()
    page._boxes["network"].value = "second teach"  # which also brings other layers and classes
    assert len(drawn) == 1
    give(widget, png(faces.portrait()[:, ::-1].copy()))
    assert len(drawn) == 2


def test_what_cannot_be_read_is_one_sentence_and_the_picture_stays(widget):
    before = widget.picture
    give(widget, b"this is a text file\n")
    assert "not a picture that can be read; copy it again, or export it as JPEG or PNG" in widget._message.value
    assert widget.picture is before and "What was there before stays." in widget._message.value
    give(widget, png(before)[:3000])
    assert "damaged or cut off" in widget._message.value and widget.picture is before


def test_no_face_uses_the_whole_picture_and_says_so(widget):
    sky = np.full((200, 300, 3), 120, np.uint8)
    give(widget, png(sky))
    assert "No face found, so the whole picture is used." in widget._message.value
    assert widget._which.options == (("the whole picture", 0),)
    assert (widget.crop == 120).all()
    widget._use(faces.portrait)
    assert "One face found" in widget._message.value


def test_several_faces_can_be_chosen(widget):
    photo = faces.portrait()
    small = np.asarray(Image.fromarray(photo).resize((300, 300)))
    both = np.concatenate([photo, np.pad(small, ((0, 212), (0, 0), (0, 0)))], 1)
    give(widget, png(both))
    assert len(widget.found) == 2 and "2 faces found" in widget._message.value
    first = widget.crop
    widget._which.value = 1
    assert (widget.crop != first).any()
    box = widget.crop
    widget._align.value = False
    assert (widget.crop != box).any()


def test_camera_pictures_are_decoded_and_damaged_ones_refused(widget):
    camera = widget._camera
    camera.photograph = "data:image/png;base64," + base64.b64encode(png(np.full((50, 60, 3), 9, np.uint8))).decode()
    assert widget.picture.shape == (50, 60, 3)
    camera.photograph = "data:image/jpeg;base64,%%%"
    assert "arrived damaged" in widget._message.value and widget.picture.shape == (50, 60, 3)
    camera.complaint = (
        "the camera could not be opened (NotAllowedError); allow it in the browser, or upload a picture [17]"
    )
    assert "NotAllowedError" in widget._message.value and "[17]" not in widget._message.value
    with pytest.raises(ValueError, match="no photograph was taken yet"):
        Webcam().picture()


def test_nothing_is_written(widget, monkeypatch):
    def refuse(*args, **kwargs):
        mode = args[1] if len(args) > 1 else kwargs.get("mode", "r")
        if any(letter in str(mode) for letter in "wax+"):
            raise AssertionError(f"opened {args[0]} for writing")
        return original(*args, **kwargs)

    original = io.open
    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(Path, "write_bytes", lambda *a, **k: pytest.fail("a file was written"))
    give(widget, png(faces.portrait()))
    for title in widget.pages:
        assert open_view(widget, title)._note.value == ""


def test_a_failing_view_says_so_and_the_others_go_on(widget, monkeypatch):
    monkeypatch.setattr(module, "ask", lambda *_: 1 / 0)
    page = widget.pages["answers"]
    before = page.png
    page.redraw()
    assert "ZeroDivisionError" in page._note.value and page.png == before
    assert open_view(widget, "faces found")._note.value == ""


def saved(widget):
    found = widget._save.value
    start = found.index("base64,") + 7
    return base64.b64decode(found[start : found.index('"', start)])


def test_the_figure_to_save_is_the_one_that_is_shown(widget):
    for title in ("where it looks", "hide a part"):
        widget._tabs.selected_index = list(widget.pages).index(title)
        assert saved(widget) == widget.opened.png
        before = saved(widget)
        name, value = {"where it looks": ("opacity", 0.2), "hide a part": ("part", "eyes")}[title]
        widget.opened._boxes[name].value = value
        assert saved(widget) == widget.opened.png != before


def test_bare_models_are_networks_too(networks):
    bare = networks["first teach"].model
    assert list(FaceUpload({"mine": bare}).networks) == ["mine"] and list(FaceUpload(bare).networks) == ["ResEmoteNet"]
    with pytest.raises(ValueError, match="Linear does not say how pictures are prepared"):
        FaceUpload({"mine": torch.nn.Linear(2, 2)})


def test_needs_a_network():
    with pytest.raises(ValueError, match="no trained network to ask"):
        FaceUpload({})


def test_static_twins_are_figures(networks):
    photo = faces.portrait()
    found = faces.find_faces(photo)
    crop = faces.crop_face(photo, found[0], size=96)
    for figure in (
        module.found_figure(photo, found),
        module.answers_figure(networks, crop),
        module.hidden_figure(networks, crop),
        module.stability_figure(networks, crop, "first teach"),
        module.side_by_side_figure(networks, crop),
    ):
        assert isinstance(figure, plots.Figure)


def test_the_plain_picture_stands_until_the_first_redraw(networks, monkeypatch):
    class Handle:
        updates = 0

        def update(self, _):
            self.updates += 1

    shown, handle = [], Handle()
    monkeypatch.setattr(
        module, "display", lambda value, display_id=False: (shown.append(value), handle if display_id else None)[1]
    )
    module.upload_face(networks)
    image, live = shown
    assert image.data.startswith(b"\x89PNG") and live.opened._picture.layout.display == "none"
    open_view(live, "faces found")
    assert handle.updates == 1 and live.opened._picture.layout.display == "block"
