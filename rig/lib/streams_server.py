"""Plain files over HTTPS: what a simplestreams image server is.

usage: streams_server.py PORT DIRECTORY CERTIFICATE KEY READY

READY is a FIFO; the word "ready" is written to it once the port listens.
Nothing but GET and HEAD of files below DIRECTORY is answered.
"""

import functools
import http.server
import ssl
import sys


class Files(http.server.SimpleHTTPRequestHandler):
    """Files only: no directory listings; one connection's stall is its own."""

    protocol_version = "HTTP/1.1"
    timeout = 60

    def list_directory(self, path):
        self.send_error(404)


class Server(http.server.ThreadingHTTPServer):
    """Does each TLS handshake in its connection's thread, not while accepting."""

    daemon_threads = True

    def __init__(self, address, handler, context):
        super().__init__(address, handler)
        self.context = context

    def finish_request(self, request, client_address):
        request.settimeout(20)
        with self.context.wrap_socket(request, server_side=True) as tls:
            super().finish_request(tls, client_address)

    def handle_error(self, request, client_address):
        print(f"{client_address[0]}: {sys.exc_info()[1]}", file=sys.stderr, flush=True)


def main():
    port, directory, certificate, key, ready = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    handler = functools.partial(Files, directory=directory)
    server = Server(("127.0.0.1", int(port)), handler, context)
    with open(ready, "w", encoding="ascii") as pipe:
        pipe.write("ready\n")
    server.serve_forever()


if __name__ == "__main__":
    main()
