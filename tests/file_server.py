"""A web server of a folder, with range requests, which notes what it was asked for and misbehaves on demand."""

from __future__ import annotations

import hashlib
import threading
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class FileServer:
    """What tests see of it."""

    folder: Path
    url: str = ""
    asked: list[tuple[str, int, int]] = field(default_factory=list)
    """(file name, first byte, bytes sent) of each answer with content."""
    faults: dict[str, list[int | str]] = field(default_factory=lambda: defaultdict(list))
    """File name -> what its next answers are instead: a status, "cut" (half of it), "flip" (a wrong byte)."""
    ranges: bool = True
    """False: each answer is the whole file."""
    tags: bool = True
    """Answers have an ETag."""
    go: threading.Event = field(default_factory=threading.Event)
    """Answers wait for it."""

    def __post_init__(self) -> None:
        self.go.set()

    def sent(self, suffix: str) -> int:
        """Bytes of files that end so."""
        return sum(size for name, _, size in self.asked if name.endswith(suffix))

    def names(self, suffix: str) -> list[str]:
        """Files that end so, an entry for each answer, but for those of one byte (which ask for the version)."""
        return [name for name, _, size in self.asked if name.endswith(suffix) and size != 1]


@contextmanager
def serve(folder: Path):
    """Serve a folder until left."""
    server = FileServer(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # head and body in one packet

        def do_GET(self) -> None:
            name = self.path.partition("?")[0].lstrip("/")
            server.go.wait()
            fault = server.faults[name].pop(0) if server.faults[name] else None
            file = server.folder / name
            if isinstance(fault, int) or not file.is_file():
                self.send_response(fault if isinstance(fault, int) else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            data = file.read_bytes()
            start, stop = 0, len(data)
            span = self.headers.get("Range")
            if span and server.ranges:
                first, last = span.removeprefix("bytes=").split("-")
                start, stop = int(first), min(int(last) + 1, len(data))
            part = data[start:stop]
            if not part:
                self.send_response(416)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if span and server.ranges else 200)
            if span and server.ranges:
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
            if server.tags:
                self.send_header("ETag", hashlib.sha256(data).hexdigest())
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            if fault == "cut":
                part, self.close_connection = part[: len(part) // 2], True
            elif fault == "flip":
                part = part[:-1] + bytes([part[-1] ^ 1])
            server.asked.append((name, start, len(part)))
            self.wfile.write(part)

        def log_message(self, format: str, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    server.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.go.set()
        httpd.shutdown()
        httpd.server_close()
