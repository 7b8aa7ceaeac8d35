package wal_test

import (
	"errors"
	"math"
	"testing"

	"walkeep/common/wal"
)

func TestParseLSN(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     wal.LSN
	}{
		{"zero", "0/0", 0},
		{"usual", "16/B374D848", 0x16B374D848},
		{"low only", "0/1000028", 0x1000028},
		{"largest", "FFFFFFFF/FFFFFFFF", math.MaxUint64},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := wal.ParseLSN(c.in)
			if err != nil || got != c.want {
				t.Fatalf("got %v, %v, want %v", uint64(got), err, uint64(c.want))
			}
			if got.String() != c.in {
				t.Errorf("got %q, want %q", got.String(), c.in)
			}
		})
	}
}

// ParseLSN accepts the forms of 19 and pg_waldump, and hand-written ones; String prints one form.
func TestParseLSNOtherForms(t *testing.T) {
	for in, want := range map[string]string{
		"0/02000028":        "0/2000028",
		"16/0374D848":       "16/374D848",
		"0/00000000":        "0/0",
		"00000001/00000002": "1/2",
		"0/2000028":         "0/2000028",
		"16/b374d848":       "16/B374D848",
		"a/B":               "A/B",
	} {
		got, err := wal.ParseLSN(in)
		if err != nil || got.String() != want {
			t.Errorf("%q: got %s, %v, want %s", in, got, err, want)
		}
	}
}

// ShortLSNs rewrites the positions in a server's texts and changes nothing else.
func TestShortLSNs(t *testing.T) {
	for in, want := range map[string]string{
		"":        "",
		"nothing": "nothing",
		"requested starting point 0/05000000 on timeline 1 is not in this server's history":                 "requested starting point 0/5000000 on timeline 1 is not in this server's history",
		"START WAL LOCATION: 0/02000028 (file 000000010000000000000002)\nCHECKPOINT LOCATION: 0/02000080\n": "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nCHECKPOINT LOCATION: 0/2000080\n",
		"after LSN 16/0374D848.":                               "after LSN 16/374D848.",
		"0/02000028 0/03000000,0/04000000":                     "0/2000028 0/3000000,0/4000000",
		`redo at "0/02000028"; lsn=0/00000000`:                 `redo at "0/2000028"; lsn=0/0`,
		"0/2000028 16/B374D848 1/10000000":                     "0/2000028 16/B374D848 1/10000000", // short already
		"/srv/0/02000028 0/02000028/x 0/02000028.zst":          "/srv/0/02000028 0/02000028/x 0/02000028.zst",
		"G0/02000028 0/0200002 0/020000288 a-0/02000028":       "G0/02000028 0/0200002 0/020000288 a-0/02000028",
		"000000010000000000000002 16384/00000002 0x1/02000028": "000000010000000000000002 16384/2 0x1/02000028",
	} {
		if got := wal.ShortLSNs(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestParseLSNRefuses(t *testing.T) {
	for _, c := range []struct{ name, in string }{
		{"empty", ""},
		{"no slash", "16B374D848"},
		{"nothing before the slash", "/1"},
		{"nothing after the slash", "1/"},
		{"two slashes", "1/2/3"},
		{"too long", "100000000/0"},
		{"nine digits", "0/000000001"},
		{"nine digits before the slash", "000000001/0"},
		{"sign", "+1/0"},
		{"prefix", "0x1/0"},
		{"underscore", "1_0/0"},
		{"space", " 1/0"},
		{"line end", "1/0\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := wal.ParseLSN(c.in); !errors.Is(err, wal.ErrLSN) {
				t.Errorf("got %v, %v, want ErrLSN", got, err)
			}
		})
	}
}

func TestSystemID(t *testing.T) {
	const s = "7439201847382910465"
	got, err := wal.ParseSystemID(s)
	if err != nil || got.String() != s {
		t.Errorf("got %v, %v, want %s", got, err, s)
	}
	for _, in := range []string{"", "-1", "+1", "01", "1 ", "0x1", "18446744073709551616", "x"} {
		if got, err := wal.ParseSystemID(in); !errors.Is(err, wal.ErrSystemID) {
			t.Errorf("%q: got %v, %v, want ErrSystemID", in, got, err)
		}
	}
}

func TestSegmentSize(t *testing.T) {
	for _, c := range []struct {
		size  wal.SegmentSize
		valid bool
		text  string
	}{
		{0, false, "0 bytes"},
		{1 << 19, false, "524288 bytes"},
		{1 << 20, true, "1MB"},
		{16 << 20, true, "16MB"},
		{17 << 20, false, "17825792 bytes"},
		{512 << 20, true, "512MB"},
		{1 << 30, true, "1GB"},
		{1 << 31, false, "2147483648 bytes"},
	} {
		t.Run(c.text, func(t *testing.T) {
			if got := c.size.Valid(); got != c.valid {
				t.Errorf("valid: got %v, want %v", got, c.valid)
			}
			if got := c.size.String(); got != c.text {
				t.Errorf("text: got %q, want %q", got, c.text)
			}
			got, err := wal.ParseSegmentSize(c.text)
			if c.valid && (err != nil || got != c.size) {
				t.Errorf("parse: got %v, %v, want %v", got, err, c.size)
			}
			if !c.valid && !errors.Is(err, wal.ErrSegmentSize) {
				t.Errorf("parse: got %v, %v, want ErrSegmentSize", got, err)
			}
		})
	}
	for _, in := range []string{"", "MB", "1024MB", "16mb", "016MB", "16 MB", "2GB", "9999999999GB", "16777216"} {
		if got, err := wal.ParseSegmentSize(in); !errors.Is(err, wal.ErrSegmentSize) {
			t.Errorf("%q: got %v, %v, want ErrSegmentSize", in, got, err)
		}
	}
}

func FuzzParseLSN(f *testing.F) {
	for _, s := range []string{"0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF", "0/01", "a/b", "1/2/3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		lsn, err := wal.ParseLSN(s)
		if err != nil {
			if !errors.Is(err, wal.ErrLSN) {
				t.Errorf("got %v, want ErrLSN", err)
			}
			return
		}
		if again, err := wal.ParseLSN(lsn.String()); err != nil || again != lsn {
			t.Errorf("%q: got %s and then %s, %v", s, lsn, again, err)
		}
	})
}
