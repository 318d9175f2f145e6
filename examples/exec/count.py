# A program for  mdworker exec --service count --persistent --frames 2 -- python3 count.py
# A request "3" is answered by the parts 1, 2, 3 and then "done".
import os, struct, sys

assert os.environ.get("MD_FRAMES") == "2", "run me with --frames 2"

def read(n):
    octets = sys.stdin.buffer.read(n)
    if len(octets) < n:
        sys.exit(0)                                # the worker has ended our input: leave
    return octets

def say(status, number, frame):
    sys.stdout.buffer.write(struct.pack(">BIII", status, number, 1, len(frame)) + frame)
    sys.stdout.buffer.flush()

while True:
    number, count = struct.unpack(">II", read(8))
    head, *body = [read(struct.unpack(">I", read(4))[0]) for _ in range(count)]
    try:
        for i in range(int(b"".join(body))):
            say(2, number, b"%d\n" % (i + 1))      # a part: more comes
        say(0, number, b"done\n")
    except ValueError as err:
        say(1, number, str(err).encode())          # an error to the caller
