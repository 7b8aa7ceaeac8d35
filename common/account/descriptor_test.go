package account

import (
	"slices"
	"testing"
)

// The virtual account of a well-known service of Windows.
func TestServiceSID(t *testing.T) {
	const want = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"
	if got := serviceSID("TrustedInstaller"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestPrivate(t *testing.T) {
	for _, test := range []struct {
		isDir    bool
		accounts []string
		want     string
	}{
		{true, []string{"NS", "S-1-5-80-1"}, "D:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;0x1301bf;;;NS)(A;OICI;0x1301bf;;;S-1-5-80-1)"},
		{false, []string{"NS"}, "D:PAI(A;;FA;;;SY)(A;;FA;;;BA)(A;;0x1301bf;;;NS)"},
	} {
		if got := private(test.isDir, test.accounts); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
}

// Data directories as the usual installer makes them, in a home directory, and on a disk that all may write to.
func TestWriters(t *testing.T) {
	for _, test := range []struct {
		descriptor string
		want       []string
		named      bool
	}{
		{"D:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FA;;;NS)(A;OICIIO;FA;;;CO)(A;OICI;0x1200a9;;;BU)", []string{"NS"}, true},
		{"O:BAG:SYD:AI(A;OICIID;FA;;;SY)(A;OICIID;FA;;;BA)(A;OICIID;FA;;;S-1-5-21-1-2-3-1001)(A;ID;FRFW;;;S-1-5-21-1-2-3-1001)", []string{"S-1-5-21-1-2-3-1001"}, true},
		{"D:AI(A;OICIID;FA;;;BA)(A;OICIID;0x1301bf;;;AU)(A;OICIID;0x1200a9;;;BU)", nil, false},
		{"D:PAI(A;OICI;FA;;;SY)(D;OICI;FA;;;NS)", nil, false},
		{"", nil, false},
	} {
		if got, named := writers(test.descriptor); !slices.Equal(got, test.want) || named != test.named {
			t.Errorf("%s: got %q, %v, want %q, %v", test.descriptor, got, named, test.want, test.named)
		}
	}
}
