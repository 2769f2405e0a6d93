"""The parts of the selftest that speak Incus's REST API themselves.

usage: selftest_rest.py NAME, with the rig's variables in the environment.
Creates the instance NAME from the local image server, and asks over HTTPS as
a trusted, a restricted and an unknown client.
"""

import http.client
import json
import os
import socket
import ssl
import sys
import urllib.parse


def env(name):
    return os.environ["PIXELS_RIG_" + name]


def ask(connection, method, path, body=None):
    connection.request(method, path, json.dumps(body) if body else None)
    answer = json.load(connection.getresponse())
    if answer["type"] == "error":
        raise SystemExit(f"{method} {path}: {answer['error']}")
    return answer


def over_socket():
    wire = socket.socket(socket.AF_UNIX)
    wire.connect(env("SOCKET"))
    connection = http.client.HTTPConnection("incus")
    connection.sock = wire
    return connection


def over_https(who):
    context = ssl.create_default_context(cafile=env("SERVER_CERT"))
    context.load_cert_chain(env(who + "_CERT"), env(who + "_KEY"))
    at = urllib.parse.urlsplit(env("HTTPS"))
    return http.client.HTTPSConnection(at.hostname, at.port, context=context)


def main():
    with open(env("SIMPLESTREAMS_CA"), encoding="ascii") as file:
        authority = file.read()
    operation = ask(over_socket(), "POST", "/1.0/instances", {
        "name": sys.argv[1],
        "start": True,
        "source": {"type": "image", "mode": "pull", "protocol": "simplestreams",
                   "server": env("SIMPLESTREAMS"), "alias": env("IMAGE"),
                   "certificate": authority},
    })["operation"]
    result = ask(over_socket(), "GET", operation + "/wait")["metadata"]
    if result["status"] != "Success":
        raise SystemExit(f"create from the image server: {result['err']}")
    for who, expected in (("CLIENT", "trusted"), ("RESTRICTED", "trusted"), ("UNTRUSTED", "untrusted")):
        found = ask(over_https(who), "GET", "/1.0")["metadata"]["auth"]
        if found != expected:
            raise SystemExit(f"{who.lower()} client is {found}, not {expected}")


main()
