package archive

import (
	"context"
	"time"
)

// settled is how long a file must have been left alone before its times can tell that it was not modified since: file
// systems note them by the tick of a clock.
const settled = time.Second

// marked reports whether the object was made, since this machine was started, from the very file that is archived now, which
// was not modified since. Then the file need not be read again to know that both hold the same. The stored bytes are
// read in any case: they are what is vouched for.
func (a *Archive) marked(ctx context.Context, file *source, s stored) bool {
	mark := file.mark()
	if mark == 0 || s.encrypted {
		return false
	}
	o, err := a.open(ctx, s)
	if err != nil {
		return false // the comparison will meet it again, and report it
	}
	defer o.Close()
	t := o.Trailer
	return t != nil && t.Mark == mark && checkTrailerName(t, file.name) == nil && o.Verify(ctx) == nil
}
