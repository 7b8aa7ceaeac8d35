package main_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/pgtest"
	"walkeep/common/recovery"
	"walkeep/common/storage"
	"walkeep/common/storage/local"
	"walkeep/common/wal"
	"walkeep/supervisor/report"
	"walkeep/supervisor/retain"
	"walkeep/supervisor/verify"
)

// An unreadable backend holds what nobody may read.
type unreadable struct {
	*local.Backend
	names map[string]bool // of objects, and of directories with a slash at the end
}

func (u *unreadable) denied(name string) error {
	for hidden := range u.names {
		if name == hidden || strings.HasSuffix(hidden, "/") && strings.HasPrefix(name, hidden) {
			return &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
		}
	}
	return nil
}

func (u *unreadable) Open(ctx context.Context, name string) (storage.Object, error) {
	if err := u.denied(name); err != nil {
		return nil, err
	}
	return u.Backend.Open(ctx, name)
}

func (u *unreadable) List(ctx context.Context, prefix string, o storage.ListOptions) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		if err := u.denied(prefix); err != nil {
			yield(storage.Entry{}, err)
			return
		}
		for e, err := range u.Backend.List(ctx, prefix, o) {
			if denied := u.denied(e.Name); denied != nil {
				e.Err = denied
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// A wrecked archive is a copy of a whole one that was damaged at random.
type wrecked struct {
	*rig
	spool  string
	b      *unreadable
	a      *archive.Archive
	random *rand.Rand
	done   []string // what was done to it
}

// files lists the objects and the directories of the archive, without its lock files.
func (w *wrecked) files() (files, dirs []string) {
	w.must(filepath.WalkDir(w.spool, func(file string, e fs.DirEntry, err error) error {
		if err != nil || file == w.spool || strings.HasPrefix(e.Name(), ".") {
			return err
		}
		rel, err := filepath.Rel(w.spool, file)
		if e.IsDir() {
			dirs = append(dirs, rel+"/")
		} else {
			files = append(files, rel)
		}
		return err
	}))
	return files, dirs
}

// spoil does one thing to the archive.
func (w *wrecked) spoil() {
	files, dirs := w.files()
	if len(files) == 0 {
		return
	}
	name := files[w.random.IntN(len(files))]
	file := filepath.Join(w.spool, name)
	dir := dirs[w.random.IntN(len(dirs))]
	full := strings.TrimSuffix(filepath.Join(w.spool, dir), "/")
	say := func(format string, args ...any) { w.done = append(w.done, fmt.Sprintf(format, args...)) }
	write := func(content []byte) { // into a file of its own: the old one may be another archive's, too
		cmd := pgtest.Command(w.ctx(), "sh", "-c", `umask 077; rm "$1" && cat > "$1"`, "sh", file)
		cmd.Stdin = bytes.NewReader(content)
		w.must(cmd.Run())
	}
	info, err := os.Stat(file)
	if err != nil || !info.Mode().IsRegular() { // a link that leads nowhere, or what was put in place of a file
		return
	}
	switch w.random.IntN(16) {
	case 0, 1:
		say("removed %s", name)
		w.must(os.Remove(file))
	case 2, 3:
		content, err := os.ReadFile(file)
		w.must(err)
		n := w.random.IntN(len(content) + 1)
		say("cut %s to %d of %d bytes", name, n, len(content))
		write(content[:n])
	case 4, 5:
		content, err := os.ReadFile(file)
		w.must(err)
		if len(content) == 0 {
			return
		}
		at := w.random.IntN(len(content))
		say("flipped byte %d of %s", at, name)
		content[at] ^= byte(1 << w.random.IntN(8))
		write(content)
	case 6:
		to := files[w.random.IntN(len(files))]
		say("renamed %s to %s", name, to)
		w.must(os.Rename(file, filepath.Join(w.spool, to)))
	case 7:
		at := time.Now().Add(time.Duration(w.random.IntN(2*8760)-8760) * time.Hour)
		say("gave %s, of %d bytes, the time %s", name, info.Size(), at)
		content, err := os.ReadFile(file)
		w.must(err)
		write(content)
		w.must(os.Chtimes(file, at, at))
	case 8:
		if w.random.IntN(2) == 0 {
			name = dir
		}
		say("made %s unreadable", name)
		w.b.names[name] = true
	case 9:
		say("made a link to nowhere of %s", name)
		w.must(errors.Join(os.Remove(file), os.Symlink(filepath.Join(w.spool, "nowhere"), file)))
	case 10:
		say("removed %s", dir)
		w.must(os.RemoveAll(full))
	case 11:
		say("put a directory in place of %s", name)
		w.must(errors.Join(os.Remove(file), os.Mkdir(file, 0o777)))
	case 12:
		say("put a FIFO in place of %s", name)
		w.must(errors.Join(os.Remove(file), pgtest.Command(w.ctx(), "mkfifo", file).Run()))
	case 13:
		content, err := os.ReadFile(file)
		w.must(err)
		say("put garbage behind %s", name)
		write(append(content, "garbage"...))
	case 14:
		endings := []string{".gz", ".lz4", ".s2", ""}
		other := strings.TrimSuffix(file, ".zst") + endings[w.random.IntN(len(endings))]
		if other == file {
			return
		}
		say("copied %s to %s, the ending of another form", name, filepath.Base(other))
		w.must(pgtest.Command(w.ctx(), "cp", file, other).Run())
	case 15:
		other := filepath.Join(filepath.Dir(file), strings.ToUpper(filepath.Base(file)))
		say("renamed %s to %s", name, filepath.Base(other))
		w.must(os.Rename(file, other))
	}
}

// segmentsTo returns the names of the segments that a plan replays.
func segmentsTo(inv *recovery.Inventory, p recovery.Plan) (names []wal.Name) {
	size := uint64(inv.SegmentSize)
	for number := uint64(p.Backup.Start) / size; ; number++ {
		n, err := inv.NameOn(p.Timeline, number)
		if err != nil {
			return names
		}
		names = append(names, n)
		if n == p.Until {
			return names
		}
	}
}

// discard is a writer that drops all bytes.
type discard struct{}

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// planTo plans as restore does.
func (w *wrecked) planTo(inv *recovery.Inventory, t recovery.Target, id string) (recovery.Plan, error) {
	for {
		p, err := inv.Plan(w.ctx(), t, id)
		if err != nil {
			return p, err
		}
		if err = inv.Probe(w.ctx(), p.Backup); err == nil || !errors.Is(err, recovery.ErrUnsound) {
			return p, err
		}
	}
}

// agree asks everybody, and gives the plan of a restore to the end of the WAL, or why there is none.
func (w *wrecked) agree() (plan recovery.Plan, promised bool) {
	ctx := w.ctx()
	wrong := func(format string, args ...any) {
		w.t.Errorf("%s\n\tafter: %s", fmt.Sprintf(format, args...), strings.Join(w.done, "\n\t       "))
	}
	limits := report.Limits{BackupAge: 1000 * time.Hour, Lag: time.Hour, Ready: 32, StandbyLag: time.Hour}
	deep, deepErr := verify.Run(ctx, w.a, verify.Options{Deep: true, Jobs: 2})
	shallow, shallowErr := verify.Run(ctx, w.a, verify.Options{Jobs: 2})
	r, err := report.Collect(ctx, w.a, report.Options{})
	inv, invErr := recovery.ReadInventory(ctx, w.a)
	if (err == nil) != (invErr == nil) || (invErr == nil) != (shallowErr == nil) || deepErr == nil && shallowErr != nil {
		wrong("list: %v, restore: %v, verify: %v, verify --deep: %v", err, invErr, shallowErr, deepErr)
	}
	_, cleanErr := retain.Clean(ctx, w.a, retain.Options{Policy: retain.Policy{Backups: 1}, Now: time.Now(), DryRun: true})
	if invErr != nil {
		if cleanErr == nil {
			wrong("cleanup goes on, although nobody knows what there is: %v", invErr)
		}
		return plan, false
	}
	line, state := r.Check(limits)
	plan, err = w.planTo(inv, recovery.Target{Kind: recovery.ToLatest}, "")
	promised = err == nil
	// A timeline of which nothing but the history is there looks as after a promotion, whose WAL is still to come.
	newest := inv.Line(inv.Newest())
	begun := newest != nil && newest.Timeline > 1 && len(newest.Segments) == 0 && state == report.Warning
	if promised == (state == report.Critical) && !(begun && !promised) {
		wrong("check says %s, and restore %v", line, err)
	}
	if deepErr == nil && state == report.Critical && deep.Wrong() == 0 && len(r.Backups) > 0 { // that there is no backup is no damage
		wrong("check says %s, and verify --deep that all is well", line)
	}
	if state == report.Critical && shallow.Wrong() == 0 && len(r.Backups) > 0 {
		wrong("check says %s, and verify after verify --deep that all is well", line)
	}
	if state == report.OK && deepErr == nil {
		for _, p := range deep.Problems {
			n, err := wal.ParseName(strings.TrimSuffix(filepath.Base(p.Object), ".zst")) // labels are needed by nobody
			if strings.HasPrefix(p.Object, "backups/") && p.Severity == verify.Damage || err == nil && n.Kind == wal.KindSegment && p.Severity == verify.Damage && inv.Has(n) {
				wrong("check says %s, and verify --deep %s", line, p)
			}
		}
	}
	usable := 0
	for _, b := range r.Backups {
		_, err := w.planTo(inv, recovery.Target{Kind: recovery.ToImmediate}, b.ID)
		if (err == nil) != b.Restorable {
			wrong("list says %v (%s) of backup %s, and restore %v", b.Restorable, b.Reason, b.ID, err)
		}
		if b.Restorable {
			usable++
			w.delivers(inv, inv.Backup(b.ID), wrong)
		}
	}
	w.cleans(inv, usable, plan, promised, wrong)
	if promised {
		w.recovers(inv, plan, wrong)
	}
	return plan, promised
}

// delivers makes sure that all objects of a backup are what the manifest says.
func (w *wrecked) delivers(inv *recovery.Inventory, m *backup.Manifest, wrong func(string, ...any)) {
	for _, s := range m.Volumes {
		o, closer, err := m.Open(w.ctx(), w.b, nil, s)
		if err == nil {
			err = errors.Join(o.Unpack(w.ctx(), discard{}), closer.Close())
		}
		if err != nil {
			wrong("backup %s is restorable, but: %v", m.ID, err)
		}
	}
}

// cleans makes sure that a cleanup leaves what can be restored, and what that needs.
func (w *wrecked) cleans(inv *recovery.Inventory, usable int, plan recovery.Plan, promised bool, wrong func(string, ...any)) {
	needed := make(map[string]bool)
	if promised {
		for _, n := range segmentsTo(inv, plan) {
			needed[n.String()] = true
		}
	}
	left := usable
	report, err := retain.Clean(w.ctx(), w.a, retain.Options{Policy: retain.Policy{Backups: 1}, Now: time.Now(), DryRun: true, Removed: func(object string, _ int64) {
		base := filepath.Base(object)
		if strings.HasPrefix(object, "wal/") && needed[base[:min(24, len(base))]] {
			wrong("cleanup removes %s, which a recovery to the end of the WAL replays", object)
		}
	}})
	if err != nil {
		wrong("cleanup: %v", err)
		return
	}
	for _, gone := range report.Backups {
		if _, err := inv.Restorable(inv.Backup(gone.ID)); err == nil {
			left--
		}
		if promised && gone.ID == plan.Backup.ID {
			wrong("cleanup --keep-backups 1 removes backup %s, from which restore would begin", gone.ID)
		}
	}
	if usable > 0 && left == 0 {
		wrong("cleanup removes all of the %d backups that can be restored", usable)
	}
}

// recovers makes sure that a recovery gets every file that it requests, and then the answer that the next one is absent.
func (w *wrecked) recovers(inv *recovery.Inventory, p recovery.Plan, wrong func(string, ...any)) {
	for _, n := range segmentsTo(inv, p) {
		if _, err := recovery.Fetch(w.ctx(), w.a, n, inv.SystemID, discard{}); err != nil {
			wrong("a recovery to the end of the WAL was promised, and %s is not delivered: %v", n, err)
		}
	}
	if _, err := recovery.Fetch(w.ctx(), w.a, p.Until.Next(inv.SegmentSize), inv.SystemID, discard{}); !errors.Is(err, recovery.ErrAbsent) {
		wrong("a recovery to the end of the WAL was promised, and does not end behind %s: %v", p.Until, err)
	}
	history := wal.Name{Kind: wal.KindHistory, Timeline: p.Timeline}
	if _, err := recovery.Fetch(w.ctx(), w.a, history, inv.SystemID, discard{}); err != nil && p.Timeline > 1 {
		wrong("a recovery along timeline %d was promised, and its history is not delivered: %v", p.Timeline, err)
	}
}

// On a damaged archive list, verify, check and restore never contradict each other, and restore can do what it promises.
func TestDamagedArchives(t *testing.T) {
	t.Parallel()
	r := newRig(t, restoreMajor)
	c := r.start("primary", nil)
	r.must(c.Exec(r.ctx(), "CREATE TABLE elsewhere (n int)"))
	r.load(c, 5, 1)
	r.backup(c)
	r.load(c, 5, 2)
	r.backup(c)
	r.cut(c)
	r.must(c.Stop(r.ctx(), pgtest.Fast))
	r.must(c.Recover(map[string]string{"restore_command": r.restoreCommand(), "recovery_target_timeline": "latest"}))
	r.must(c.Start(r.ctx()))
	r.must(c.WaitOpen(r.ctx()))
	r.load(c, 5, 3)
	r.backup(c)
	r.load(c, 5, 4)
	want := r.sum(c)
	r.cut(c)
	r.must(c.Stop(r.ctx(), pgtest.Fast))

	b, err := local.Open(r.spool)
	r.must(err)
	sound := &wrecked{rig: r, spool: r.spool, b: &unreadable{b, nil}, a: archive.New(b)}
	whole, promised := sound.agree()
	if !promised {
		t.Fatal("the archive cannot be recovered before it is damaged")
	}

	rounds := 40
	if n, err := strconv.Atoi(os.Getenv("WALKEEP_WRECKS")); err == nil {
		rounds = n
	}
	seed := uint64(time.Now().UnixNano())
	if n, err := strconv.ParseUint(os.Getenv("WALKEEP_SEED"), 10, 64); err == nil {
		seed = n
	}
	t.Logf("WALKEEP_SEED=%d", seed)
	promises := 0
	for i := range rounds {
		w := &wrecked{rig: r, spool: filepath.Join(r.dir, fmt.Sprint("wrecked-", i)), random: rand.New(rand.NewPCG(seed, uint64(i)))}
		w.must(pgtest.Command(r.ctx(), "cp", "-al", r.spool, w.spool).Run())
		b, err := local.Open(w.spool)
		w.must(err)
		w.b = &unreadable{b, make(map[string]bool)}
		w.a = archive.New(w.b)
		for range 1 + w.random.IntN(3) {
			w.spoil()
		}
		plan, promised := w.agree()
		if t.Failed() {
			t.Fatalf("round %d", i)
		}
		if promised {
			if promises++; promises%10 == 1 && plan.To == whole.To && !slices.ContainsFunc(w.done, func(s string) bool { return strings.HasSuffix(s, "unreadable") }) {
				spool := r.spool
				r.spool = w.spool
				s := r.restore(fmt.Sprint("restored-", i))
				r.opens(s, want)
				r.must(s.Stop(r.ctx(), pgtest.Immediate))
				r.spool = spool
			}
		}
		w.must(os.RemoveAll(w.spool))
	}
	t.Logf("%d of %d archives could be recovered to the end", promises, rounds)
}
