"""A web server that misbehaves as the address asks; prints its port, ends with its standard input.

    /html/x     a web page with status 200        /stall/x   the start of a zip, then nothing
    /cut/x      the start of a zip, then the end  /status-404/x and so on
    /loop/x     redirects to itself               /file/x    redirects to file:///etc/passwd
    /lies/x     half of what Content-Length says  /endless/x more than any archive has
    /drip/x     a byte now and then               /garbage/x no HTTP at all
    /empty/x    nothing                           /zip/NAME  NAME, a file of the folder given
"""

import http.server
import os
import sys
import threading
import time

HEAD = b"PK\x03\x04" + b"\0" * 96


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by the first part of the path."""

    def do_GET(self):  # noqa: N802 - the library's name
        kind, _, name = self.path[1:].partition("/")
        if kind.startswith("status-"):
            self.answer(int(kind[len("status-"):]), b"sorry")
        elif kind == "html":
            self.answer(200, b"<!DOCTYPE html><html>please log in</html>", "text/html")
        elif kind == "unmarked":
            self.answer(200, b"\n<html>please log in</html>" * 9)
        elif kind == "text":
            self.answer(200, b"quota exceeded\n" * 100, "text/plain")
        elif kind == "gzip":
            self.answer(200, b"\x1f\x8b\x08\x00" + b"\0" * 500)
        elif kind == "loop":
            self.answer(302, b"", Location=self.path)
        elif kind == "file":
            self.answer(302, b"", Location="file:///etc/passwd")
        elif kind == "lies":
            self.answer(200, HEAD, length=2 * len(HEAD))
        elif kind == "cut":
            self.answer(200, HEAD, length=1000)
        elif kind == "tiny":
            self.answer(200, HEAD[:50], length=50)
        elif kind == "huge":
            self.answer(200, HEAD, length=10 ** 15)
        elif kind == "stall":
            self.answer(200, HEAD, length=1000, then=lambda: time.sleep(60))
        elif kind == "silent":
            time.sleep(60)
        elif kind == "drip":
            self.answer(200, HEAD, length=1000, then=self.drip)
        elif kind == "endless":
            self.answer(200, HEAD, length=None, then=self.endless)
        elif kind == "empty":
            self.answer(200, b"")
        elif kind == "garbage":
            self.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        elif kind == "headers":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100000 + b"\r\n\r\n")
        else:
            with open(os.path.join(sys.argv[1], os.path.basename(name)), "rb") as stream:
                self.answer(200, stream.read())

    def answer(self, code, body, kind="application/zip", length=-1, then=None, **headers):
        self.send_response(code)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(len(body) if length < 0 else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        if then:
            then()

    def drip(self):
        for _ in range(600):
            time.sleep(0.1)
            self.wfile.write(b"\0")
            self.wfile.flush()

    def endless(self):
        while True:
            self.wfile.write(b"\0" * 65536)

    def log_message(self, *arguments):
        """Keeps the output quiet."""

    def handle(self):
        try:
            super().handle()
        except ConnectionError:
            pass  # the client has had enough


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_address[1])
    sys.stdout.flush()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
