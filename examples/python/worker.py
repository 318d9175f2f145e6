# A worker for the service "echo", MDP/0.2:  python3 worker.py tcp://127.0.0.1:5555
import sys, zmq
broker = zmq.Context().socket(zmq.DEALER)
broker.connect(sys.argv[1] if sys.argv[1:] else "tcp://127.0.0.1:5555")
broker.send_multipart([b"MDPW02", b"\x01", b"echo"])                            # READY
while True:
    message = broker.recv_multipart() if broker.poll(2500) else [b"MDPW02", b"\x05"]
    if message[1] == b"\x02":                                                   # REQUEST: address, empty, body
        broker.send_multipart([b"MDPW02", b"\x04", message[2], b""] + message[4:])  # FINAL
    elif message[1] == b"\x05":                                                 # HEARTBEAT: we live, too
        broker.send_multipart([b"MDPW02", b"\x05"])
    elif message[1] == b"\x06":                                                 # DISCONNECT: begin anew
        broker.send_multipart([b"MDPW02", b"\x01", b"echo"])
