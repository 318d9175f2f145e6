# A program for  mdworker exec --service score --persistent -- python3 score.py
# Each request gets the same number of frames back, in upper case.
import json, struct, sys

def read(n):
    octets = sys.stdin.buffer.read(n)
    if len(octets) < n:
        sys.exit(0)                                # the worker has ended our input: leave
    return octets

def read_request():
    (count,) = struct.unpack(">I", read(4))
    frames = [read(struct.unpack(">I", read(4))[0]) for _ in range(count)]
    return json.loads(frames[0]), frames[1:]

def answer(frames, status=0):
    out = struct.pack(">BI", status, len(frames))
    for frame in frames:
        out += struct.pack(">I", len(frame)) + frame
    sys.stdout.buffer.write(out)
    sys.stdout.buffer.flush()

while True:
    head, body = read_request()
    print("request", head["id"], "attempt", head["attempt"], file=sys.stderr)   # never print to standard output
    if not body:
        answer([b"give me something to score"], status=1)                       # an error to the caller
    else:
        answer([frame.upper() for frame in body])
