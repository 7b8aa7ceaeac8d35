package conninfo

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// ErrKeyword says that a conninfo has a keyword that this program does not know, so that it cannot be determined where
// the conninfo leads.
var ErrKeyword = errors.New("not a keyword of libpq that this program knows")

// A use says how a keyword is handled.
type use int

const (
	passed  use = iota // the driver knows it
	ours               // it is acted on here
	ignored            // it changes neither which server is reached nor what it says
)

// keywords are libpq's, up to those of version 19, each with the variable that stands for it. A server takes what is neither
// of libpq nor of its settings for an error, so nothing but what the driver knows may reach it.
//
// Source: PQconninfoOptions in src/interfaces/libpq/fe-connect.c.
var keywords = []struct {
	name, variable string
	use            use
}{
	{"servicefile", "PGSERVICEFILE", ours}, {"service", "PGSERVICE", ours},
	{"host", "PGHOST", ours}, {"hostaddr", "PGHOSTADDR", ours}, {"port", "PGPORT", ours},
	{"dbname", "PGDATABASE", passed}, {"user", "PGUSER", passed}, {"password", "PGPASSWORD", ours}, {"passfile", "PGPASSFILE", passed},
	{"sslmode", "PGSSLMODE", passed}, {"sslcert", "PGSSLCERT", passed}, {"sslkey", "PGSSLKEY", passed}, {"sslrootcert", "PGSSLROOTCERT", passed},
	{"sslpassword", "PGSSLPASSWORD", ours}, {"sslcertmode", "PGSSLCERTMODE", passed}, {"sslsni", "PGSSLSNI", passed},
	{"sslnegotiation", "PGSSLNEGOTIATION", passed}, {"channel_binding", "PGCHANNELBINDING", passed}, {"require_auth", "PGREQUIREAUTH", passed},
	{"min_protocol_version", "PGMINPROTOCOLVERSION", passed}, {"max_protocol_version", "PGMAXPROTOCOLVERSION", passed},
	{"connect_timeout", "PGCONNECT_TIMEOUT", ours}, {"target_session_attrs", "PGTARGETSESSIONATTRS", ours},
	{"load_balance_hosts", "PGLOADBALANCEHOSTS", ours}, {"options", "PGOPTIONS", passed}, {"application_name", "PGAPPNAME", passed},
	{"fallback_application_name", "", ignored}, {"krbsrvname", "PGKRBSRVNAME", passed}, {"replication", "", ignored},
	{"client_encoding", "PGCLIENTENCODING", ignored}, {"authtype", "PGAUTHTYPE", ignored}, {"tty", "PGTTY", ignored},
	{"keepalives", "", ignored}, {"keepalives_idle", "", ignored}, {"keepalives_interval", "", ignored}, {"keepalives_count", "", ignored},
	{"tcp_user_timeout", "", ignored}, {"sslcompression", "PGSSLCOMPRESSION", ignored}, {"sslcrl", "PGSSLCRL", ignored},
	{"sslcrldir", "PGSSLCRLDIR", ignored}, {"sslkeylogfile", "", ignored}, {"requiressl", "PGREQUIRESSL", ignored},
	{"requirepeer", "PGREQUIREPEER", ignored}, {"ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION", ignored},
	{"ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION", ignored}, {"gssencmode", "PGGSSENCMODE", ignored},
	{"gsslib", "PGGSSLIB", ignored}, {"gssdelegation", "PGGSSDELEGATION", ignored},
	{"scram_client_key", "", ignored}, {"scram_server_key", "", ignored}, {"oauth_issuer", "", ignored}, {"oauth_client_id", "", ignored},
	{"oauth_client_secret", "", ignored}, {"oauth_scope", "", ignored}, {"oauth_ca_file", "PGOAUTHCAFILE", ignored},
}

// secrets are the keywords whose values are never shown.
var secrets = []string{"password", "sslpassword", "scram_client_key", "scram_server_key", "oauth_client_secret"}

// isSecret reports whether a keyword's value is never shown, however its name is written.
func isSecret(name string) bool {
	return slices.ContainsFunc(secrets, func(s string) bool { return strings.EqualFold(s, name) })
}

// unrecorded are keywords whose variables apply to one call only, so that they are not written down.
var unrecorded = []string{"options", "application_name", "client_encoding", "authtype", "tty"}

// An Environment looks a variable up; it is nil where the variables are not known.
type Environment func(name string) string

// info returns the parameters in the variables.
func (look Environment) info() (c Info) {
	if look == nil {
		return nil
	}
	for _, k := range keywords {
		if k.variable == "" {
			continue
		}
		if value := look(k.variable); value != "" {
			c = append(c, Keyword{k.name, value})
		}
	}
	return c
}

// Complete adds what a conninfo leaves open, from its service and then from the variables. Unknown keywords are an
// error.
func (c Info) Complete(look Environment) (Info, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	whole := append(look.info(), c...)
	service, _ := whole.Value("service")
	if service == "" {
		return whole, nil
	}
	if look == nil {
		return nil, fmt.Errorf("conninfo names the service %q, and where its file is, is not known", service)
	}
	file, _ := whole.Value("servicefile")
	said, file, err := readService(service, serviceFiles(file, look))
	if err != nil {
		return nil, err
	}
	if err := said.check(); err != nil {
		return nil, fmt.Errorf("service %q: %w", service, err)
	}
	whole = append(append(look.info(), said...), c...)
	return whole.With("service", service).With("servicefile", file), nil
}

// Passed are the words that the driver is given: those that it knows, and that are not acted on before.
func (c Info) Passed() Info {
	var words Info
	for _, k := range keywords {
		if value, said := c.Value(k.name); said && k.use == passed {
			words = append(words, Keyword{k.name, value})
		}
	}
	return words
}

// check returns an error if a keyword is unknown.
func (c Info) check() error {
words:
	for _, w := range c {
		for _, k := range keywords {
			if k.name == w.Name {
				continue words
			}
		}
		return fmt.Errorf("conninfo: %q is %w", w.Name, ErrKeyword)
	}
	return nil
}

// serviceFiles are where libpq looks for a service, the directories of the packages of Debian and Red Hat included.
func serviceFiles(given string, look Environment) []string {
	files := []string{given}
	if given == "" {
		if home := look("HOME"); home != "" {
			files = []string{filepath.Join(home, ".pg_service.conf")}
		}
		if runtime.GOOS == "windows" {
			files = []string{filepath.Join(look("APPDATA"), "postgresql", ".pg_service.conf")}
		}
	}
	for _, dir := range []string{look("PGSYSCONFDIR"), "/etc/postgresql-common", "/etc/sysconfig/pgsql", "/etc"} {
		if dir != "" {
			files = append(files, filepath.Join(dir, "pg_service.conf"))
		}
	}
	return files
}

// readService returns a service's parameters from the first of the files that has it.
func readService(service string, files []string) (Info, string, error) {
	for _, file := range files {
		f, err := os.Open(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, "", fmt.Errorf("look for the service %q: %w", service, err)
		}
		c, found, err := parseService(service, bufio.NewScanner(f))
		f.Close()
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", file, err)
		}
		if found {
			return c, file, nil
		}
	}
	return nil, "", fmt.Errorf("the service %q is in none of %s", service, strings.Join(files, ", "))
}

func parseService(service string, lines *bufio.Scanner) (c Info, found bool, err error) {
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		switch {
		case line == "", line[0] == '#':
		case line[0] == '[':
			if found {
				return c, true, nil
			}
			found = line == "["+service+"]"
		case found:
			name, value, ok := strings.Cut(line, "=")
			if !ok {
				return nil, true, fmt.Errorf("service %q: a line is not of the form keyword=value", service)
			}
			// What comes first counts there.
			if name = strings.TrimSpace(name); name != "" {
				c = append(Info{{name, strings.TrimSpace(value)}}, c...)
			}
		}
	}
	return c, found, lines.Err()
}

// An Address is one of the servers that a conninfo names.
type Address struct {
	Host string // a name, an address, or the directory of a socket; empty: where libpq looks by itself
	Addr string // the address of the host, if that is given
	Port uint16
}

// defaultPort is PostgreSQL's default port.
const defaultPort = 5432

// Addresses are the servers that a complete conninfo names, in its order.
func (c Info) Addresses() ([]Address, error) {
	list := func(name string) []string {
		value, _ := c.Value(name)
		if value == "" {
			return nil
		}
		parts := strings.Split(value, ",")
		for i := range parts {
			parts[i] = strings.TrimSpace(parts[i])
		}
		return parts
	}
	hosts, addrs, ports := list("host"), list("hostaddr"), list("port")
	n := max(len(hosts), len(addrs), 1)
	if len(hosts) != 0 && len(addrs) != 0 && len(hosts) != len(addrs) {
		return nil, fmt.Errorf("conninfo has %d hosts and %d values of hostaddr", len(hosts), len(addrs))
	}
	if len(ports) > 1 && len(ports) != n {
		return nil, fmt.Errorf("conninfo has %d ports and %d hosts", len(ports), n)
	}
	all := make([]Address, n)
	for i := range all {
		a := &all[i]
		if a.Port = defaultPort; i < len(hosts) {
			a.Host = hosts[i]
		}
		if i < len(addrs) {
			a.Addr = addrs[i]
		}
		port := ""
		if len(ports) == 1 {
			port = ports[0]
		} else if len(ports) > 1 {
			port = ports[i]
		}
		if port != "" {
			number, err := strconv.ParseUint(port, 10, 16)
			if err != nil || number == 0 {
				return nil, errors.New("conninfo has a port that is no number from 1 to 65535")
			}
			a.Port = uint16(number)
		}
	}
	if balance, _ := c.Value("load_balance_hosts"); balance == "random" {
		rand.Shuffle(n, func(i, k int) { all[i], all[k] = all[k], all[i] })
	}
	return all, nil
}

// DefaultHosts returns the hosts at which a server may listen if no host is named. libpq's own default is fixed when it
// is built. If none of the directories holds a socket, the first one that exists stands for all.
func DefaultHosts(port uint16) []string {
	if runtime.GOOS == "windows" {
		return []string{"localhost"}
	}
	usual := []string{"/var/run/postgresql", "/tmp"}
	var found []string
	for _, dir := range usual {
		if _, err := os.Stat(filepath.Join(dir, fmt.Sprintf(".s.PGSQL.%d", port))); err == nil {
			found = append(found, dir)
		}
	}
	if found != nil {
		return found
	}
	for _, dir := range usual {
		if _, err := os.Stat(dir); err == nil {
			return []string{dir}
		}
	}
	return usual[:1]
}
