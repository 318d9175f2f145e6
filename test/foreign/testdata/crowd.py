"""Many connections at once: half of them workers, half of them clients, each client
asking as often as it is told.

usage: crowd.py ENDPOINT CONNECTIONS ROUNDS    goes on until stdin ends"""
import json
import resource
import sys
import time

import zmq

endpoint, connections, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
context = zmq.Context()
context.set(zmq.MAX_SOCKETS, connections + 100)
poller = zmq.Poller()


def dealer():
    socket = context.socket(zmq.DEALER)
    socket.set(zmq.LINGER, 0)
    socket.connect(endpoint)
    poller.register(socket, zmq.POLLIN)
    return socket


def settle(sockets):
    """Asks the broker over each connection until it answers: what libzmq has written
    to a connection that is then lost is lost, too, and a crowd on a busy machine loses
    some of them in the handshake."""
    unanswered = set(sockets)
    while unanswered:
        for socket in unanswered:
            socket.send_multipart([b"MDPC02", b"\x01", b"mmi.service", b"crowd"])
        patience = time.monotonic() + 5
        while unanswered and time.monotonic() < patience:
            for socket, _ in poller.poll(1000):
                socket.recv_multipart()
                unanswered.discard(socket)


workers = [dealer() for _ in range(connections // 2)]
clients = [dealer() for _ in range(connections - len(workers))]
settle(workers + clients)
for worker in workers:
    worker.send_multipart([b"MDPW02", b"\x01", b"crowd"])
expected = {client: 0 for client in clients}  # answers so far
answered, busy = 0, set()


def ask(client):
    client.send_multipart([b"MDPC02", b"\x01", b"crowd", b"%d" % expected[client]])


for client in clients:
    ask(client)
poller.register(sys.stdin.fileno(), zmq.POLLIN)
while True:
    for socket, _ in poller.poll():
        if socket == sys.stdin.fileno():
            sys.exit(0)
        frames = socket.recv_multipart()
        if frames[2:3] == [b"mmi.service"]:
            continue  # asked twice while settling
        if socket in expected:
            assert frames == [b"MDPC02", b"\x03", b"crowd", b"%d" % expected[socket]], frames
            expected[socket] += 1
            answered += 1
            if expected[socket] < rounds:
                ask(socket)
            if answered == rounds * len(clients):
                print(json.dumps(dict(event="answered", count=answered, size=len(busy))), flush=True)
        elif frames[1] == b"\x02":
            busy.add(socket)
            socket.send_multipart([b"MDPW02", b"\x04", frames[2], b""] + frames[4:])
        elif frames[1] == b"\x05":
            socket.send_multipart([b"MDPW02", b"\x05"])
        else:
            raise AssertionError(frames)
