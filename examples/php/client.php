<?php // Asks the service "echo", MDP/0.1:  php client.php tcp://127.0.0.1:5555 hello
$broker = (new ZMQContext())->getSocket(ZMQ::SOCKET_REQ);
$broker->setSockOpt(ZMQ::SOCKOPT_LINGER, 0);
$broker->setSockOpt(ZMQ::SOCKOPT_RCVTIMEO, 5000);
$broker->connect($argv[1] ?? 'tcp://127.0.0.1:5555');
$broker->sendMulti(['MDPC01', 'echo', $argv[2] ?? 'hello']);
$reply = $broker->recvMulti() or fwrite(STDERR, "no answer within 5 s\n") && exit(1);
echo implode('', array_slice($reply, 2)), "\n";
