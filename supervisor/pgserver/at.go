package pgserver

import "context"

// ConnectAt is [Connect] to the server that listens at this host, or in this socket directory, and port, whatever conninfo
// says: of it, and of the environment, only who connects is taken.
func ConnectAt(ctx context.Context, conninfo, host string, port uint16) (*Conn, error) {
	return connectTo(ctx, conninfo, host, port, "postgres", "")
}
