"""A web server on this machine, with what goes wrong on others."""

import contextlib
import hashlib
import http.server
import re
import threading


class Server:
  """What it serves, and how."""

  def __init__(self, content):
    self.content, self.url = content, ''  # The file, whatever the path.
    self.ranges = self.length = True  # Whether it knows them.
    self.most = len(content)  # Bytes that a range has at most.
    self.pieces = []  # Bytes that a request gets before the connection ends.
    self.at_piece = lambda: None  # Called before it ends.
    self.statuses = []  # What each request is answered instead.
    self.header = {}  # Further header lines.
    self.asked, self.sent = [], []  # Ranges and numbers of bytes.

  @property
  def sha256(self):
    return hashlib.sha256(self.content).hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
  def do_GET(self):
    served, content = self.server.served, self.server.served.content
    asked = self.headers.get('Range')
    served.asked.append(asked)
    match = re.fullmatch(r'bytes=(\d+)-', asked or '')
    first = int(match[1]) if served.ranges and match else 0
    if served.statuses or first >= len(content) > 0:
      served.sent.append(0)
      self.send_error(served.statuses.pop(0) if served.statuses else 416)
      return
    rest = content[first:]
    self.send_response(206 if first else 200)
    if first:
      rest = rest[: served.most]
      whole = len(content) if served.length else '*'
      range_ = f'bytes {first}-{first + len(rest) - 1}/{whole}'
      self.send_header('Content-Range', range_)
    if served.length:
      self.send_header('Content-Length', str(len(rest)))
    for name, value in served.header.items():
      self.send_header(name, value)
    piece = rest[: served.pieces.pop(0)] if served.pieces else rest
    served.sent.append(len(piece))  # Before the other side can be through.
    self.end_headers()
    with contextlib.suppress(ConnectionError):
      self.wfile.write(piece)
      self.wfile.flush()
    if len(piece) < len(rest):
      served.at_piece()

  def log_message(self, *_):
    pass


@contextlib.contextmanager
def serve(content):
  """Yields a server of these bytes."""
  served = Server(content)
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), _Handler) as server:
    server.served = served
    served.url = f'http://127.0.0.1:{server.server_port}/set/images.tar'
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
      yield served
    finally:
      server.shutdown()
      thread.join()


def listing(folder):
  """All names below a folder."""
  return sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*'))


def contents(folder):
  """All files below a folder."""
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file()
  }
