"""libzmq sockets on a string: orders are JSON lines on stdin, messages come back
as JSON lines on stdout. Frames are latin-1 text, so that every octet survives."""
import json
import os
import sys
import threading
import time

import zmq

context = zmq.Context()
context.set(zmq.MAX_SOCKETS, 10000)
sockets = {}
poller = zmq.Poller()
beats = {}  # socket name: [frames, seconds between, when next]


def say(**event):
    print(json.dumps(event), flush=True)


def value_of(option, text):
    return text.encode("latin-1") if option in ("IDENTITY", "CONNECT_ROUTING_ID", "HELLO_MSG") else int(text)


def open_socket(order):
    socket = context.socket(getattr(zmq, order["type"]))
    socket.set(zmq.LINGER, 5000)
    socket.set(zmq.SNDHWM, 0)
    socket.set(zmq.RCVHWM, 0)
    for option in order.get("options") or []:
        name, value = option.split("=", 1)
        socket.set(getattr(zmq, name), value_of(name, value))
    socket.connect(order["endpoint"])
    sockets[order["socket"]] = socket
    poller.register(socket, zmq.POLLIN)


def close_socket(order):
    beats.pop(order["socket"], None)
    socket = sockets.pop(order["socket"])
    poller.unregister(socket)
    socket.close()


def start_proxy(order):
    front, back = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    for socket in (front, back):
        socket.set(zmq.LINGER, 0)
    port = front.bind_to_random_port("tcp://127.0.0.1")
    back.connect(order["endpoint"])

    def serve():
        try:
            zmq.proxy(front, back)
        except zmq.ZMQError:
            front.close()
            back.close()

    threading.Thread(target=serve, daemon=True).start()
    say(event="proxy", endpoint="tcp://127.0.0.1:%d" % port)


def octets(order):
    return [frame.encode("latin-1") for frame in order["frames"]]


def beat():
    """Sends what is due and returns how many milliseconds remain until the next."""
    now = time.monotonic()
    for name, entry in beats.items():
        if entry[2] <= now:
            sockets[name].send_multipart(entry[0])
            entry[2] = now + entry[1]
    return max(1, 1000 * (min(entry[2] for entry in beats.values()) - now)) if beats else None


def obey(order):
    if order["do"] == "open":
        open_socket(order)
    elif order["do"] == "close":
        close_socket(order)
    elif order["do"] == "proxy":
        start_proxy(order)
    elif order["do"] == "send":
        sockets[order["socket"]].send_multipart(octets(order))
    elif order["do"] == "beat":
        beats[order["socket"]] = [octets(order), order["every"], 0]


def main():
    poller.register(sys.stdin.fileno(), zmq.POLLIN)
    pending = b""
    while True:
        ready = dict(poller.poll(beat()))
        for name, socket in list(sockets.items()):
            while socket in ready and socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:
                frames = socket.recv_multipart()
                say(event="message", socket=name, frames=[frame.decode("latin-1") for frame in frames])
        if sys.stdin.fileno() in ready:
            chunk = os.read(sys.stdin.fileno(), 1 << 20)
            if not chunk:
                os._exit(0)
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                try:
                    obey(json.loads(line))
                except Exception as err:
                    say(event="error", error=repr(err) + " in " + line.decode()[:200])


main()
