"""Large bodies both ways, through the broker, for both versions of client and worker.

usage: bulk.py ENDPOINT OCTETS"""
import json
import os
import sys

import zmq

endpoint, size = sys.argv[1], int(sys.argv[2])
context = zmq.Context()


def dealer():
    socket = context.socket(zmq.DEALER)
    socket.set(zmq.LINGER, 0)
    socket.connect(endpoint)
    return socket


def receive(socket, head, heartbeat):
    while True:
        frames = socket.recv_multipart()
        if frames != heartbeat:
            assert frames[:len(head)] == head, [frame[:40] for frame in frames]
            return frames[len(head):]


WORKERS = {  # ready, request, final, heartbeat
    "0.1": [[b"", b"MDPW01", bytes([octet])] for octet in (1, 2, 3, 4)],
    "0.2": [[b"MDPW02", bytes([octet])] for octet in (1, 2, 4, 5)],
}
CLIENTS = {  # request, final
    "0.1": [[b"", b"MDPC01"], [b"", b"MDPC01"]],
    "0.2": [[b"MDPC02", b"\x01"], [b"MDPC02", b"\x03"]],
}
for worker_name, (ready, request, final, heartbeat) in WORKERS.items():
    for client_name, (ask, answer) in CLIENTS.items():
        service = (client_name + " / " + worker_name).encode()
        client, worker = dealer(), dealer()
        worker.send_multipart(ready + [service])
        for body in ([os.urandom(size)], [b"small", os.urandom(size), b"", os.urandom(1000)]):
            client.send_multipart(ask + [service] + body)
            address, empty, *got = receive(worker, request, heartbeat)
            assert got == body, "the request arrived changed"
            reply = [os.urandom(size), b"", b"end"]
            worker.send_multipart(final + [address, b""] + reply)
            got = receive(client, answer + [service], None)
            assert got == reply, "the answer arrived changed"
            print(json.dumps(dict(event="exchanged", size=size)), flush=True)
        client.close()
        worker.close()
print(json.dumps(dict(event="done")), flush=True)
