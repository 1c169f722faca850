"""A small server on this machine: plain files with ranges, and as much of Hugging Face's interface as its client needs.
"""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "a" * 40


def git_name(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def serving(files, *, large=(), lie=(), cut=None, ranges=True):
    """Serve files by name; yields the address and the list of (method, path, Range) asked for.

    Args:
        files: name -> bytes, at /<name>, and as the data set repository me/faces.
        large: names kept as large files are, with a sha256.
        lie: names whose announced digest is another one.
        cut: name -> how many bytes of its first answer are sent before the connection ends; entries are used up.
        ranges: whether the server can begin in the middle.
    """
    asked, cut = [], dict(cut or {})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, body):
            path = self.path.partition("?")[0]
            asked.append((self.command, path, self.headers.get("Range")))
            if path.startswith("/api/datasets/me/faces"):
                siblings = [self.entry(name, data) for name, data in files.items()]
                return self.send(
                    200,
                    json.dumps({"id": "me/faces", "sha": COMMIT, "siblings": siblings}).encode(),
                    {"Content-Type": "application/json"},
                    body,
                )
            name = path.removeprefix(f"/datasets/me/faces/resolve/{COMMIT}/").lstrip("/")
            if name not in files:
                return self.send(404, b"nothing here", {}, body)
            data = files[name]
            digest = hashlib.sha256(data).hexdigest() if name in large else git_name(data)
            headers = {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            if name in large:
                headers |= {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(data))}
            wanted = self.headers.get("Range")
            if wanted and ranges and body:
                start = int(wanted.removeprefix("bytes=").partition("-")[0])
                if start >= len(data):
                    return self.send(416, b"", {"Content-Range": f"bytes */{len(data)}"}, body)
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
                return self.send(206, data[start:], headers, body)
            return self.send(200, data, headers, body, cut.pop(name, None) if body else None)

        def entry(self, name, data):
            shown = b"other" if name in lie else data
            found = {"rfilename": name, "size": len(data), "blobId": git_name(shown)}
            return found | (
                {"lfs": {"sha256": hashlib.sha256(shown).hexdigest(), "size": len(data), "pointerSize": 100}}
                if name in large
                else {}
            )

        def send(self, status, data, headers, body, length=None):
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(data if length is None else data[:length])
                if length is not None:
                    self.wfile.flush()
                    self.close_connection = True
                    self.connection.shutdown(2)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
