package fetched

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"walkeep/common/durable"
	"walkeep/common/recovery"
	"walkeep/common/wal"
)

const (
	// Dir is the directory in the spool.
	Dir = "fetched"
	// FirstBranch is the branch of a timeline that has no history.
	FirstBranch = "first"
	// OnceBranch is where a file lies that is wanted once: a history, a label, or a segment that is not for a server on its way.
	OnceBranch = "once"
	// Fresh is for how long a Way holds.
	Fresh = 10 * time.Second

	serversDir = "servers"
	maxNote    = 1 << 16 // bytes
)

// Branch returns the branch of the timeline that has a history file of this content.
func Branch(history []byte) string {
	sum := sha256.Sum256(history)
	return hex.EncodeToString(sum[:16])
}

// A Cluster is what a spool holds for the servers of one cluster.
type Cluster struct {
	spool string
	id    wal.SystemID
}

// Of returns what a spool holds for a cluster.
func Of(spool string, id wal.SystemID) Cluster { return Cluster{spool, id} }

// Path returns the directory of the cluster, relative to the spool, with slashes.
func (c Cluster) Path() string { return Dir + "/" + c.id.String() }

// BranchPath returns the directory of a branch, which is an archive, relative to the spool, with slashes.
func (c Cluster) BranchPath(branch string) string { return c.Path() + "/" + branch }

// MakeBranch makes the directory of a branch where it is missing, and returns its path.
func (c Cluster) MakeBranch(branch string) (string, error) {
	return c.mkdir(c.BranchPath(branch))
}

func (c Cluster) mkdir(dir string) (string, error) {
	if err := durable.MkdirAll(c.spool, dir); err != nil {
		return "", fmt.Errorf("make a directory for fetched WAL in the spool: %w", err)
	}
	return c.dir(dir), nil
}

// dir returns the path of a directory in the spool.
func (c Cluster) dir(dir string) string { return filepath.Join(c.spool, filepath.FromSlash(dir)) }

// claimFiles is how many files of a cluster take the claims of its segments.
const claimFiles = 64

// Claim makes this process the only one that fetches a segment, until what it returns is closed, or the process ends. It returns nil if
// another process has the claim.
func (c Cluster) Claim(n wal.Name) (io.Closer, error) {
	dir, err := c.mkdir(c.Path())
	if err != nil {
		return nil, err
	}
	f, err := durable.OpenFile(filepath.Join(dir, fmt.Sprintf(".claim-%02d", n.Seg%claimFiles)), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	locked, err := durable.Lock(f)
	if err == nil && locked {
		return f, nil
	}
	f.Close()
	return nil, err
}

// A Want says which segment a server was given last, or asks for.
type Want struct {
	Segment  string            `json:"segment"`
	Data     string            `json:"data_directory"` // of the server
	Follower recovery.Follower `json:"follower"`
}

// A Way says which segments of a timeline a server may be given, and where they are kept.
type Way struct {
	Judged      time.Time         `json:"judged"` // when the question was asked, by the clock of this host
	Timeline    wal.Timeline      `json:"timeline"`
	Follower    recovery.Follower `json:"follower"`
	Below       uint64            `json:"below"` // segments with a lower number lie on the way; all if it is math.MaxUint64
	Branch      string            `json:"branch"`
	SegmentSize wal.SegmentSize   `json:"segment_size"`
}

// Leads reports whether a server may be given a segment now. A server that has come further than when the way was judged may be
// given no less.
func (w Way) Leads(n wal.Name, f recovery.Follower, now time.Time) bool {
	age := now.Sub(w.Judged)
	if age < 0 || age >= Fresh || n.Kind != wal.KindSegment || n.Timeline != w.Timeline || !w.SegmentSize.Valid() {
		return false
	}
	if f.Along != w.Follower.Along || f.On != w.Follower.On || f.At < w.Follower.At {
		return false
	}
	number, err := n.Number(w.SegmentSize)
	return err == nil && (number < w.Below || w.Below == math.MaxUint64) && validBranch(w.Branch)
}

func validBranch(branch string) bool {
	if branch == FirstBranch || branch == OnceBranch {
		return true
	}
	b, err := hex.DecodeString(branch)
	return err == nil && len(b) == 16
}

// ServerID identifies the server of a data directory.
func ServerID(dataDir string) (string, error) {
	dir, err := filepath.Abs(dataDir)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(dir))
	return hex.EncodeToString(sum[:8]), nil
}

// ValidServerID reports whether a text has the form of a server's ID.
func ValidServerID(id string) bool {
	_, err := strconv.ParseUint(id, 16, 64)
	return err == nil && len(id) == 16
}

// A Server is what restore-cmd and supervisor tell each other about one server.
type Server struct {
	of Cluster
	ID string
}

// Server returns the notes about a server.
func (c Cluster) Server(id string) Server { return Server{c, id} }

func (s Server) path(kind string) string {
	return filepath.Join(s.of.dir(s.of.Path()), serversDir, s.ID+"."+kind+".json")
}

const (
	wantKind = "want"
	wayKind  = "way"
)

// Want reads what the server asks for. The error is fs.ErrNotExist if it never asked.
func (s Server) Want() (w Want, err error) { return w, s.read(wantKind, &w) }

// Way reads what the server may be given. The error is fs.ErrNotExist if nothing is known.
func (s Server) Way() (w Way, err error) { return w, s.read(wayKind, &w) }

// PutWant replaces what the server asks for.
func (s Server) PutWant(w Want) error { return s.put(wantKind, w) }

// PutWay replaces what the server may be given.
func (s Server) PutWay(w Way) error { return s.put(wayKind, w) }

// Forget removes the notes about the server.
func (s Server) Forget() {
	durable.Remove(s.path(wantKind))
	durable.Remove(s.path(wayKind))
}

func (s Server) read(kind string, note any) error {
	f, err := durable.Open(s.path(kind))
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() > maxNote {
		return fmt.Errorf("%s cannot be a note (%w)", f.Name(), err)
	}
	return json.NewDecoder(f).Decode(note)
}

// put writes a note that no power cut must keep: whoever finds none, or an old one, asks again.
func (s Server) put(kind string, note any) error {
	content, err := json.Marshal(note)
	if err != nil {
		return err
	}
	dir, err := s.of.mkdir(s.of.Path() + "/" + serversDir)
	if err != nil {
		return err
	}
	f, err := durable.Create(filepath.Join(dir, s.ID+"."+kind+".json"))
	if err != nil {
		return err
	}
	defer f.Discard()
	if _, err := f.Write(append(content, '\n')); err != nil {
		return err
	}
	return f.Put()
}

// A Seen is a server's note of what it asks for, as it was found in the spool.
type Seen struct {
	Server
	Want    Want
	Changed time.Time // identifies the note's version; no decision depends on which time it is
}

// Clusters lists the clusters for which a spool holds anything.
func Clusters(spool string) ([]Cluster, error) {
	entries, err := os.ReadDir(filepath.Join(spool, Dir))
	if err != nil {
		return nil, err
	}
	var all []Cluster
	for _, e := range entries {
		if id, err := strconv.ParseUint(e.Name(), 10, 64); err == nil && e.IsDir() {
			all = append(all, Cluster{spool, wal.SystemID(id)})
		}
	}
	return all, nil
}

// ID returns the system identifier of the cluster.
func (c Cluster) ID() wal.SystemID { return c.id }

// Wants reads what the servers of the cluster ask for. A note that cannot be read is left out.
func (c Cluster) Wants() []Seen {
	const ending = "." + wantKind + ".json"
	entries, err := os.ReadDir(filepath.Join(c.dir(c.Path()), serversDir))
	if err != nil {
		return nil
	}
	var all []Seen
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ending)
		if !ok || !ValidServerID(id) {
			continue
		}
		s := Seen{Server: c.Server(id)}
		info, err := e.Info()
		if err != nil {
			continue
		}
		s.Changed = info.ModTime()
		if s.Want, err = s.Server.Want(); err == nil {
			all = append(all, s)
		}
	}
	return all
}

// Branches lists the branches that the spool holds files of.
func (c Cluster) Branches() ([]string, error) {
	entries, err := os.ReadDir(c.dir(c.Path()))
	if err != nil {
		return nil, err
	}
	var all []string
	for _, e := range entries {
		if e.IsDir() && validBranch(e.Name()) {
			all = append(all, e.Name())
		}
	}
	return all, nil
}

// BranchOf splits the path of an object, relative to the spool and with slashes, into the directory of its archive, which is "." for the
// spool itself, and its name there. It returns false for a path that is neither in the spool's archive nor in that of a branch.
func BranchOf(object string) (dir, name string, ok bool) {
	if strings.HasPrefix(object, "wal/") {
		return ".", object, true
	}
	parts := strings.SplitN(object, "/", 4)
	if len(parts) != 4 || parts[0] != Dir || !validBranch(parts[2]) || !strings.HasPrefix(parts[3], "wal/") {
		return "", "", false
	}
	if _, err := strconv.ParseUint(parts[1], 10, 64); err != nil {
		return "", "", false
	}
	return strings.Join(parts[:3], "/"), parts[3], true
}
