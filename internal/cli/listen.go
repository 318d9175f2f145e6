package cli

import "net"

// Listen refuses an address that cannot be bound, or that other machines reach
// though nobody asked for that. flag is what it was given by.
func Listen(flag, address string, insecure bool) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return Exitf(Usage, "--%s %q: want HOST:PORT", flag, address)
	}
	ip := net.ParseIP(host)
	if insecure || host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return Exitf(Config, "--%s %s is open to the network: bind a loopback address such as 127.0.0.1, or add --insecure", flag, address)
}
