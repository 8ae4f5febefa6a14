"""Python imports this before fdk runs: answer each call with what RUBBISH says, written as a Python literal."""

import ast
import os
import socket

path = os.environ["FN_LISTENER"].removeprefix("unix:")
answer = ast.literal_eval(os.environ["RUBBISH"])
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
while True:
    connection, _ = listener.accept()
    with connection:
        request = b""
        while not request.endswith(b"0\r\n\r\n") and (piece := connection.recv(1 << 16)):
            request += piece
        connection.sendall(answer)
        if os.environ.get("KEEP_OPEN"):
            connection.recv(1)  # until the other side is gone
