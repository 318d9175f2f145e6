# Asks the service "echo", MDP/0.1:  python3 client.py tcp://127.0.0.1:5555 hello
import sys, zmq
broker = zmq.Context().socket(zmq.REQ)
broker.linger = 0
broker.connect(sys.argv[1] if sys.argv[1:] else "tcp://127.0.0.1:5555")
broker.send_multipart([b"MDPC01", b"echo", (sys.argv[2] if sys.argv[2:] else "hello").encode()])
if not broker.poll(5000):
    sys.exit("no answer within 5 s")
header, service, *body = broker.recv_multipart()
print(b"".join(body).decode())
