<?php
// A program for  mdworker exec --service score --persistent -- php score.php
// Each request gets the same number of frames back, in upper case.
ini_set('display_errors', 'stderr');               // standard output is for answers only

function take($n) {
    $octets = $n > 0 ? stream_get_contents(STDIN, $n) : '';
    if (strlen($octets) < $n) exit(0);             // the worker has ended our input: leave
    return $octets;
}
function takeNumber() { return unpack('N', take(4))[1]; }

function answer(array $frames, $status = 0) {
    $out = pack('CN', $status, count($frames));
    foreach ($frames as $frame) $out .= pack('N', strlen($frame)) . $frame;
    fwrite(STDOUT, $out);
}

while (true) {
    $body = [];
    for ($n = takeNumber(); $n > 0; $n--) $body[] = take(takeNumber());
    $head = json_decode(array_shift($body), true);
    fwrite(STDERR, "request {$head['id']} attempt {$head['attempt']}\n");
    if (!$body) answer(['give me something to score'], 1);                      // an error to the caller
    else answer(array_map('strtoupper', $body));
}
