"""A photograph from the reader's own camera: it goes from the browser to the kernel's memory, and nowhere else."""

import base64
import binascii

import anywidget
import numpy as np
import traitlets

from ferkit.faces.decode import read_picture

_BROWSER_SIDE = """
function render({ model, el }) {
  const button = document.createElement("button");
  button.className = "jupyter-button";
  button.textContent = "Camera";
  button.style.margin = "2px";
  button.title = "take a photograph with your camera; it is not stored";
  const video = document.createElement("video");
  video.autoplay = video.muted = video.playsInline = true;
  video.style.cssText = "display:none;width:240px;margin:4px 0;transform:scaleX(-1)";
  let stream = null;
  const stop = () => {
    if (stream) stream.getTracks().forEach((track) => track.stop());
    stream = null;
    video.style.display = "none";
    button.textContent = "Camera";
  };
  const say = (text) => { model.set("complaint", text + " [" + Date.now() + "]"); model.save_changes(); };
  button.addEventListener("click", async () => {
    if (!stream) {
      if (!navigator.mediaDevices) {
        say("the browser gives its camera only to pages from this computer or over https");
        return;
      }
      try {
        stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 } });
      } catch (error) {
        say("the camera could not be opened (" + error.name + "); allow it in the browser, or upload a picture");
        return;
      }
      video.srcObject = stream;
      video.style.display = "block";
      button.textContent = "Take the picture";
      return;
    }
    const canvas = document.createElement("canvas");
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    stop();
    model.set("photograph", canvas.toDataURL("image/jpeg", 0.92));
    model.save_changes();
  });
  el.append(button, video);
  return stop;
}
export default { render };
"""


class Webcam(anywidget.AnyWidget):
    """A button that opens the camera and takes one picture.

    Attributes:
        photograph: the last picture as the browser sends it, a data URL; `picture()` decodes it.
        complaint: a sentence on what went wrong in the browser.

    """

    _esm = _BROWSER_SIDE
    photograph = traitlets.Unicode("").tag(sync=True)
    complaint = traitlets.Unicode("").tag(sync=True)

    def picture(self) -> np.ndarray:
        """Return the photograph as uint8 RGB (H, W, 3). Raises ValueError if there is none, or one that is damaged."""
        head, _, body = self.photograph.partition(",")
        if not head.startswith("data:image/"):
            raise ValueError("no photograph was taken yet; press Camera")
        try:
            return read_picture(base64.b64decode(body, validate=True))
        except binascii.Error:
            raise ValueError("the photograph arrived damaged; take another one") from None
