"""An asynchronous worker, MDP/0.2: it beats and reads while it works, sends a
partial first, and reconnects when the broker is silent for three beats.

usage: asyncworker.py ENDPOINT SERVICE    Work is a body "work SECONDS" or any text."""
import json
import sys
import time

import zmq

READY, REQUEST, PARTIAL, FINAL, HEARTBEAT, DISCONNECT = (bytes([octet]) for octet in range(1, 7))
BEAT, LIVENESS = 1.0, 3
endpoint, service = sys.argv[1], sys.argv[2].encode()
context = zmq.Context()


def say(event, **more):
    print(json.dumps(dict(event=event, **more)), flush=True)


def session():
    broker = context.socket(zmq.DEALER)
    broker.connect(endpoint)
    broker.send_multipart([b"MDPW02", READY, service])
    say("ready")
    heard = beat_at = time.monotonic()
    job = None  # (when done, client, body)
    while True:
        now = time.monotonic()
        if now - heard > LIVENESS * BEAT:
            say("lost")
            break
        if now >= beat_at:
            broker.send_multipart([b"MDPW02", HEARTBEAT])
            beat_at = now + BEAT
        if job and now >= job[0]:
            broker.send_multipart([b"MDPW02", FINAL, job[1], b""] + job[2])
            job = None
        if broker.poll(20):
            header, command, *rest = broker.recv_multipart()
            assert header == b"MDPW02", header
            heard = time.monotonic()
            if command == REQUEST:
                assert job is None, "two requests at once"
                client, delimiter, *body = rest
                assert delimiter == b"", rest
                say("request", frames=[part.decode("latin-1") for part in body])
                words = body[0].split()
                seconds = float(words[1]) if words[:1] == [b"work"] else 0
                broker.send_multipart([b"MDPW02", PARTIAL, client, b"", b"begun"])
                job = (heard + seconds, client, body)
            elif command == DISCONNECT:
                say("disconnect")
                break
    broker.close(linger=0)


while True:
    session()
