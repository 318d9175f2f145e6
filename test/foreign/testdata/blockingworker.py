"""A worker in the manner of the ZeroMQ guide, MDP/0.1: it works inside its receive
loop, so that it neither reads nor beats meanwhile, and it reconnects when the
broker is silent for three beats or says DISCONNECT.

usage: blockingworker.py ENDPOINT SERVICE    Work is a body "work SECONDS" or any text."""
import json
import sys
import time

import zmq

READY, REQUEST, REPLY, HEARTBEAT, DISCONNECT = b"\x01", b"\x02", b"\x03", b"\x04", b"\x05"
BEAT, LIVENESS = 2.5, 3
endpoint, service = sys.argv[1], sys.argv[2].encode()
context = zmq.Context()
broker = None


def say(event, **more):
    print(json.dumps(dict(event=event, **more)), flush=True)


def connect():
    global broker
    if broker is not None:
        broker.close(linger=0)
    broker = context.socket(zmq.DEALER)
    broker.connect(endpoint)
    broker.send_multipart([b"", b"MDPW01", READY, service])
    say("ready")


def work(body):
    words = body[0].split()
    if words[:1] == [b"work"]:
        time.sleep(float(words[1]))
    return body


def serve():
    connect()
    liveness, beat_at = LIVENESS, time.monotonic() + BEAT
    while True:
        if broker.poll(BEAT * 1000):
            empty, header, command, *rest = broker.recv_multipart()
            assert (empty, header) == (b"", b"MDPW01"), (empty, header)
            liveness = LIVENESS
            if command == REQUEST:
                client, delimiter, *body = rest
                assert delimiter == b"", rest
                say("request", frames=[part.decode("latin-1") for part in body])
                broker.send_multipart([b"", b"MDPW01", REPLY, client, b""] + work(body))
            elif command == DISCONNECT:
                say("disconnect")
                connect()
            elif command != HEARTBEAT:
                say("error", error=repr(command))
        else:
            liveness -= 1
            if liveness == 0:
                say("lost")
                connect()
                liveness = LIVENESS
        if time.monotonic() > beat_at:
            broker.send_multipart([b"", b"MDPW01", HEARTBEAT])
            beat_at = time.monotonic() + BEAT


serve()
