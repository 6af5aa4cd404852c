"""Connections of the service: uvicorn's, with bounds on what comes before a request is complete.

uvicorn leaves the size of a header, the time it takes and the number of connections open. Needs the
packages of requirements/serve.txt and Python 3.9 or newer.
"""

import json

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_SECONDS = 10
HEADER_BYTES = 32 << 10
MOST = 512  # connections


class BoundedConnection(HttpToolsProtocol):
    """A connection that is closed when a header is too large or too slow."""

    _timer = None  # runs while a header is awaited
    _header_bytes = 0

    def connection_made(self, transport):
        super().connection_made(transport)
        self._await_header()
        if len(self.connections) > MOST:
            self._refuse(b"429 Too Many Requests", "too many connections; come again later",
                         b"retry-after: 1\r\n")

    def connection_lost(self, exc):
        self._end_timer()
        super().connection_lost(exc)

    def eof_received(self):
        """A client that has ended its side may still wait for its answer."""
        if self.cycle is None or self.cycle.response_complete or self.cycle.more_body:
            return False
        self.cycle.keep_alive = False
        return True

    def data_received(self, data):
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._timer is None:
            if self.cycle is None or self.cycle.response_complete:
                self._await_header()  # something came that does not belong to a request under way
            return
        self._header_bytes += len(data)
        if self._header_bytes > HEADER_BYTES and not self.transport.is_closing():
            self._refuse(b"431 Request Header Fields Too Large",
                         "the header may have %d bytes at most" % HEADER_BYTES)

    def on_headers_complete(self):
        self._end_timer()
        super().on_headers_complete()

    def send_400_response(self, msg):
        self._refuse(b"400 Bad Request", "this is no HTTP request")

    def _await_header(self):
        self._header_bytes = 0
        self._timer = self.loop.call_later(HEADER_SECONDS, self._late)

    def _end_timer(self):
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self):
        self._timer = None
        if self._header_bytes:
            self._refuse(b"408 Request Timeout",
                         "the header did not come within %d seconds" % HEADER_SECONDS)
        else:
            self.transport.close()

    def _refuse(self, status, reason, header=b""):
        if self.transport.is_closing():
            return
        body = json.dumps({"error": reason}).encode("ascii")
        self.transport.write(b"HTTP/1.1 %s\r\n%scontent-type: application/json\r\n"
                             b"content-length: %d\r\nconnection: close\r\n\r\n%s"
                             % (status, header, len(body), body))
        self.transport.close()
