"""Pictures and a web server that tests of the sources share."""

from __future__ import annotations

import io
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image


def picture(shade=0, size=(8, 6), kind="PNG", **save):
    """A picture whose bytes differ by `shade`."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade, 255 - shade, 9)).save(buffer, kind, **save)
    return buffer.getvalue()


@contextmanager
def web(answers):
    """A server on this machine; gives its address and the paths that were asked for, in order.

    `answers`: path -> list of (code, headers, body), one for each time it is asked, the last one again and again.
    """
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            listed = answers.get(self.path, [(404, {}, b"")])
            code, headers, body = listed[min(asked.count(self.path), len(listed)) - 1]
            self.send_response(code)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
