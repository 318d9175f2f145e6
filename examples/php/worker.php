<?php // A worker for the service "echo", MDP/0.2:  php worker.php tcp://127.0.0.1:5555
$broker = (new ZMQContext())->getSocket(ZMQ::SOCKET_DEALER);
$broker->setSockOpt(ZMQ::SOCKOPT_RCVTIMEO, 2500);
$broker->connect($argv[1] ?? 'tcp://127.0.0.1:5555');
$broker->sendMulti(['MDPW02', "\x01", 'echo']);                                  // READY
while (true) {
    $message = $broker->recvMulti() ?: ['MDPW02', "\x05"];
    match ($message[1]) {
        "\x02" => $broker->sendMulti(['MDPW02', "\x04", $message[2], '', ...array_slice($message, 4)]),  // REQUEST, FINAL
        "\x05" => $broker->sendMulti(['MDPW02', "\x05"]),                        // HEARTBEAT: we live, too
        "\x06" => $broker->sendMulti(['MDPW02', "\x01", 'echo']),                // DISCONNECT: begin anew
    };
}
