"""A peer on libzmq for the interop tests: peer.py MODE [ENDPOINT].

Prints one line per event; exits 0 when all went as it should."""
import sys

import zmq

PATIENCE = 30_000  # ms

context = zmq.Context()
sockets = []


def socket(kind, **options):
    s = context.socket(kind)
    s.RCVTIMEO = s.SNDTIMEO = PATIENCE
    s.LINGER = 0
    s.SNDHWM = s.RCVHWM = 0
    for name, value in options.items():
        setattr(s, name, value)
    sockets.append(s)
    return s


def say(*words):
    print(*words, flush=True)


def shapes():
    def fill(n):
        return (b"0123456789abcdef" * (n // 16 + 1))[:n]
    sizes = [[0], [0, 0], [0, 6, 4, 4], [254, 255, 256, 257], [16383], [16384], [16385, 1], [65535, 65536, 65537],
             [3, 100_000, 0, 70_000, 2], [15_000] * 6, [1] * 1000, [4, 10 << 20]]
    return [[fill(n) for n in s] for s in sizes]


def echoed(s):
    for m in shapes():
        s.send_multipart(m)
        assert s.recv_multipart() == m, [len(f) for f in m]
    for m in shapes()[:-1]:
        s.send_multipart(m)
    for m in shapes()[:-1]:
        assert s.recv_multipart() == m, [len(f) for f in m]


def dealer(endpoint):
    s = socket(zmq.DEALER, IDENTITY=b"libzmq")
    s.connect(endpoint)
    echoed(s)


def req(endpoint):
    s = socket(zmq.REQ)
    s.connect(endpoint)
    for m in shapes():
        s.send_multipart(m)
        assert s.recv_multipart() == m, [len(f) for f in m]


def router_client(endpoint):
    s = socket(zmq.ROUTER, ROUTER_MANDATORY=1)
    s.setsockopt(zmq.CONNECT_RID, b"broker")
    s.connect(endpoint)
    for m in shapes():
        s.send_multipart([b"broker"] + m)
        assert s.recv_multipart() == [b"broker"] + m


def heartbeat(endpoint):
    """Is quiet for 8 s; a peer that does not answer PING is dropped after 4 s."""
    s = socket(zmq.DEALER, HEARTBEAT_IVL=50, HEARTBEAT_TIMEOUT=4000, HEARTBEAT_TTL=4000)
    monitor = s.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    s.connect(endpoint)
    s.send(b"before")
    assert s.recv() == b"before"
    assert monitor.poll(8000) == 0, "disconnected"
    s.send(b"after")
    assert s.recv() == b"after"
    s.disable_monitor()
    monitor.close()


def wrong(endpoint):
    s = socket(zmq.SUB)
    monitor = s.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED)
    s.connect(endpoint)
    assert monitor.poll(PATIENCE) != 0
    s.disable_monitor()
    monitor.close()


def plain(endpoint):
    s = socket(zmq.DEALER, PLAIN_USERNAME=b"user", PLAIN_PASSWORD=b"password")
    monitor = s.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_DISCONNECTED)
    s.connect(endpoint)
    assert monitor.poll(PATIENCE) != 0
    s.disable_monitor()
    monitor.close()


def sub(endpoint):
    s = socket(zmq.SUB)
    s.connect(endpoint)
    for prefix in (b"a", b"a", b"b", b""):
        s.setsockopt(zmq.SUBSCRIBE, prefix)
    say("subscribed")
    assert s.recv_multipart() == [b"a/1", b"body"]
    s.setsockopt(zmq.UNSUBSCRIBE, b"a")  # of two: nothing is sent
    s.setsockopt(zmq.UNSUBSCRIBE, b"")
    s.setsockopt(zmq.UNSUBSCRIBE, b"a")
    assert s.recv_multipart() == [b"b", b"", b"x" * 100_000]


def xsub(endpoint):
    s = socket(zmq.XSUB)
    s.connect(endpoint)
    s.send(b"\x01a")
    s.send(b"\x00a")
    s.send(b"\x01" + b"p" * 1000)
    assert s.recv_multipart() == [b"p" * 1000, b"body"]


def bound(kind):
    s = socket(kind)
    port = s.bind_to_random_port("tcp://127.0.0.1")
    say("bound", "tcp://127.0.0.1:%d" % port)
    return s


def router():
    s = bound(zmq.ROUTER)
    while True:
        m = s.recv_multipart()
        s.send_multipart(m)
        if m[1:] == [b"end"]:
            return


def rep():
    s = bound(zmq.REP)
    for _ in range(3):
        s.send_multipart(s.recv_multipart())


def xpub():
    """Prints what the application sees of subscriptions, duplicates included."""
    s = bound(zmq.XPUB)
    s.setsockopt(zmq.XPUB_VERBOSER, 1)
    while True:
        m = s.recv()
        s.send_multipart([b"topic/1", b"body", m])  # before the next subscription can come
        say("saw", m.hex())
        if m == b"\x01end":
            s.send_multipart([b"end"])
            sys.stdin.readline()
            return


def pub():
    s = bound(zmq.PUB)
    while sys.stdin.readline():
        s.send_multipart([b"topic", b"", b"x" * 100_000])


globals()[sys.argv[1]](*sys.argv[2:])
for each in sockets:
    each.close(linger=PATIENCE)
context.term()
