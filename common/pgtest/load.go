package pgtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Load describes a mixed load. Each transaction, much as in pgbench, changes an account's and a teller's balance by
// the same amount and records that with a few hundred bytes of text. The same Load makes the same changes, whatever
// the order in which several clients make them.
type Load struct {
	// Transactions is the total over all clients; with 0 the load runs for Duration.
	Transactions int
	// Duration ends the load early, or is its length if Transactions is 0.
	Duration time.Duration
	// Pause is how long each client waits after a transaction. A load whose transactions nobody counts takes a processor less.
	Pause time.Duration
	// Clients is the number of connections; 0 stands for 1.
	Clients int
	// Accounts is the number of rows in the table of accounts, when this load is the first; 0 stands for 10000.
	Accounts int
	// Seed selects another sequence of changes.
	Seed uint64
}

// LoadResult is the result of a load. After an error it still counts the committed transactions.
type LoadResult struct {
	// Transactions that the server acknowledged.
	Transactions int
	Elapsed      time.Duration
	// WALBytes that the server wrote meanwhile; 0 if the load was cut short.
	WALBytes int64
}

const loadTables = `
CREATE TABLE IF NOT EXISTS load_account (id int PRIMARY KEY, balance bigint NOT NULL DEFAULT 0, filler char(84) NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS load_teller (id int PRIMARY KEY, balance bigint NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS load_history (id bigserial PRIMARY KEY, account int NOT NULL, delta bigint NOT NULL, note text NOT NULL);
INSERT INTO load_account (id) SELECT g FROM generate_series(1, %d) g WHERE NOT EXISTS (SELECT FROM load_account);
INSERT INTO load_teller (id) SELECT g FROM generate_series(1, 100) g WHERE NOT EXISTS (SELECT FROM load_teller);`

// Load runs a load on tables load_account, load_teller and load_history, which it makes if they are missing. The end
// of ctx or of the server is an error; the end of Duration is not.
func (c *Cluster) Load(ctx context.Context, l Load) (result LoadResult, err error) {
	if l.Transactions <= 0 && l.Duration <= 0 {
		return result, errors.New("load: neither a number of transactions nor a duration")
	}
	if l.Accounts <= 0 {
		l.Accounts = 10000
	}
	l.Clients = max(l.Clients, 1)
	if err := c.withConn(ctx, func(conn *pgx.Conn) error { return c.load(ctx, conn, l, &result) }); err != nil {
		return result, fmt.Errorf("load: %w", err)
	}
	return result, nil
}

// load runs a load; conn is the connection of the first client.
func (c *Cluster) load(ctx context.Context, conn *pgx.Conn, l Load, result *LoadResult) error {
	if _, err := conn.Exec(ctx, fmt.Sprintf(loadTables, l.Accounts), pgx.QueryExecModeSimpleProtocol); err != nil {
		return err
	}
	row, err := queryRow(ctx, conn, "SELECT pg_current_wal_insert_lsn(), (SELECT count(*) FROM load_account)")
	if err != nil {
		return err
	}
	if l.Accounts, err = strconv.Atoi(row[1]); err != nil {
		return err
	}
	start := time.Now()
	counts, errs := make([]int, l.Clients), make([]error, l.Clients)
	var clients sync.WaitGroup
	clients.Go(func() { errs[0] = l.client(ctx, conn, 0, start, &counts[0]) })
	for i := 1; i < l.Clients; i++ {
		clients.Go(func() {
			errs[i] = c.withConn(ctx, func(conn *pgx.Conn) error { return l.client(ctx, conn, i, start, &counts[i]) })
		})
	}
	clients.Wait()
	result.Elapsed = time.Since(start)
	for _, n := range counts {
		result.Transactions += n
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	wrote, err := queryString(ctx, conn, "SELECT (pg_current_wal_insert_lsn() - $1::pg_lsn)::bigint", row[0])
	if err != nil {
		return err
	}
	result.WALBytes, err = strconv.ParseInt(wrote, 10, 64)
	return err
}

// client runs the transactions of one connection and counts them.
func (l Load) client(ctx context.Context, conn *pgx.Conn, number int, start time.Time, count *int) error {
	share := l.Transactions / l.Clients
	if number < l.Transactions%l.Clients {
		share++
	}
	random := rand.New(rand.NewPCG(l.Seed, uint64(number)))
	for *count < share || l.Transactions <= 0 {
		if l.Duration > 0 && time.Since(start) >= l.Duration {
			return nil
		}
		account, teller := 1+random.IntN(l.Accounts), 1+random.IntN(100)
		delta := random.Int64N(10001) - 5000
		var b pgx.Batch // one round trip, one transaction
		b.Queue("UPDATE load_account SET balance = balance + $1 WHERE id = $2", delta, account)
		b.Queue("INSERT INTO load_history (account, delta, note) VALUES ($1, $2, $3)", account, delta, note(random))
		b.Queue("UPDATE load_teller SET balance = balance + $1 WHERE id = $2", delta, teller)
		if err := conn.SendBatch(ctx, &b).Close(); err != nil {
			return err
		}
		*count++
		time.Sleep(l.Pause)
	}
	return nil
}

var noteWords = strings.Fields(`archive segment timeline record checkpoint recovery standby primary history backup
	restore replay page header position switch commit abort vacuum index heap tuple relation buffer lock slot`)

// note returns text that compresses about as well as prose.
func note(random *rand.Rand) string {
	var b strings.Builder
	for n := 20 + random.IntN(60); n > 0; n-- {
		b.WriteString(noteWords[random.IntN(len(noteWords))])
		b.WriteByte(' ')
		if random.IntN(5) == 0 {
			fmt.Fprintf(&b, "%d ", random.IntN(1_000_000))
		}
	}
	return b.String()
}

// CheckLoad returns the number of transactions that loads have left in the database, and an error if it has half a
// transaction of any.
func (c *Cluster) CheckLoad(ctx context.Context) (transactions int64, err error) {
	err = c.withConn(ctx, func(conn *pgx.Conn) (err error) {
		transactions, err = checkLoad(ctx, conn)
		return err
	})
	return transactions, err
}

func checkLoad(ctx context.Context, conn *pgx.Conn) (transactions int64, err error) {
	row, err := queryRow(ctx, conn, `SELECT (SELECT count(*) FROM load_history), (SELECT coalesce(sum(delta), 0) FROM load_history),
		(SELECT sum(balance) FROM load_account), (SELECT sum(balance) FROM load_teller),
		(SELECT count(*) FROM load_account a LEFT JOIN (SELECT account, sum(delta) AS delta FROM load_history GROUP BY 1) h
			ON h.account = a.id WHERE a.balance <> coalesce(h.delta, 0))`)
	if err != nil {
		return 0, fmt.Errorf("check load: %w", err)
	}
	if row[1] != row[2] || row[1] != row[3] || row[4] != "0" {
		return 0, fmt.Errorf("check load: history sums to %s, accounts to %s, tellers to %s, and %s accounts differ from their history",
			row[1], row[2], row[3], row[4])
	}
	return strconv.ParseInt(row[0], 10, 64)
}

// Sum makes the same check as CheckLoad, and returns the number of the load's transactions and a checksum of all rows of
// the load's and the given tables.
func (c *Cluster) Sum(ctx context.Context, tables ...string) (transactions int64, sum string, err error) {
	var parts []string
	for _, table := range append([]string{"load_history", "load_account", "load_teller"}, tables...) {
		parts = append(parts, "coalesce((SELECT string_agg(x::text, ';' ORDER BY x::text) FROM "+table+" x), '')")
	}
	err = c.withConn(ctx, func(conn *pgx.Conn) (err error) {
		if transactions, err = checkLoad(ctx, conn); err != nil {
			return err
		}
		sum, err = queryString(ctx, conn, "SELECT md5(concat_ws('|', "+strings.Join(parts, ", ")+"))")
		return err
	})
	return transactions, sum, err
}

// Pgbench runs Debian's pgbench against the database postgres, such as with "-i", "-s", "10" and then "-c", "4", "-T",
// "30", and returns what it prints. The error wraps ErrNoServer when there is no pgbench.
func (c *Cluster) Pgbench(ctx context.Context, args ...string) (string, error) {
	tool, err := ClientTool("pgbench")
	if err != nil {
		return "", err
	}
	cmd := Command(ctx, tool, append(args, c.ConnString())...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("run pgbench: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}
