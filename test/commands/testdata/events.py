"""A plain PUB or SUB socket of libzmq.

events.py pub ENDPOINT          lines "topic body" on stdin are published
events.py sub ENDPOINT TOPIC    events are printed as "event topic body"
"""
import sys

import zmq

role, endpoint = sys.argv[1:3]
socket = zmq.Context().socket(zmq.PUB if role == "pub" else zmq.SUB)
socket.connect(endpoint)
if role == "pub":
    for line in sys.stdin:
        topic, body = line.rstrip("\n").split(" ", 1)
        socket.send_multipart([topic.encode(), body.encode()])
else:
    socket.subscribe(sys.argv[3])
    while True:
        print("event", *(frame.decode() for frame in socket.recv_multipart()), flush=True)
