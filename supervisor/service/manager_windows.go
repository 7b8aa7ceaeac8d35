package service

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/eventlog"
	"golang.org/x/sys/windows/svc/mgr"

	"walkeep/common/account"
)

// HasManager reports whether the system has a service manager that services must answer to. If so, [UnderManager]
// runs them.
const HasManager = true

// DefaultUser is the account of a service: a virtual account of its own, which has no password.
const DefaultUser = `NT SERVICE\` + account.Service

// stopTime is how long Windows lets the service stop before it shuts down, in milliseconds.
const stopTime = uint32(2 * stopLimit / time.Millisecond)

// complete sets what the library does not: that the service is also started again after an error that it reports, and the time that
// it may take to stop when the system is shut down. Windows' own limit for this is 10 seconds, or 5 without the early notice.
func (s Installation) complete() error {
	m, err := mgr.Connect()
	if err != nil {
		return err
	}
	defer m.Disconnect()
	installed, err := m.OpenService(s.Name)
	if err != nil {
		return err
	}
	defer installed.Close()
	if err := installed.SetRecoveryActionsOnNonCrashFailures(true); err != nil && !errors.Is(err, windows.ERROR_INVALID_LEVEL) { // wine's manager has no such setting
		return err
	}
	limit := stopTime // SERVICE_PRESHUTDOWN_INFO
	return windows.ChangeServiceConfig2(installed.Handle, windows.SERVICE_CONFIG_PRESHUTDOWN_INFO, (*byte)(unsafe.Pointer(&limit)))
}

// UnderManager runs a function under the service manager of Windows, until the manager stops the service. Messages go
// to the event log. A change of parameters (sc.exe control NAME paramchange) requests a reload.
func UnderManager(name string, run func(ctx context.Context, log io.Writer, reload chan os.Signal) error) error {
	var log io.Writer = io.Discard
	if events, err := eventlog.Open(name); err == nil {
		defer events.Close()
		log = eventWriter{events}
	}
	return svc.Run(name, &managed{run: run, log: log})
}

type managed struct {
	run func(ctx context.Context, log io.Writer, reload chan os.Signal) error
	log io.Writer
}

// Execute implements [svc.Handler].
func (m *managed) Execute(_ []string, requests <-chan svc.ChangeRequest, status chan<- svc.Status) (bool, uint32) {
	status <- svc.Status{State: svc.StartPending}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	reload := make(chan os.Signal, 1)
	ended := make(chan error, 1)
	go func() { ended <- m.run(ctx, m.log, reload) }()
	now := svc.Status{State: svc.Running, Accepts: svc.AcceptStop | svc.AcceptPreShutdown | svc.AcceptParamChange}
	status <- now
	for {
		select {
		case err := <-ended:
			if err != nil {
				io.WriteString(m.log, "level=ERROR msg="+err.Error())
			}
			if err != nil && ctx.Err() == nil { // of a service that was stopped, an error would make Windows start it again
				return true, 1
			}
			return false, 0
		case r := <-requests:
			switch r.Cmd {
			case svc.Interrogate:
				status <- now
			case svc.Stop, svc.PreShutdown:
				now = svc.Status{State: svc.StopPending, WaitHint: stopTime}
				status <- now
				cancel()
			case svc.ParamChange:
				select {
				case reload <- syscall.SIGHUP:
				default: // a reload is already requested
				}
			}
		}
	}
}

// An eventWriter writes lines of a text log to the event log.
type eventWriter struct{ events *eventlog.Log }

func (w eventWriter) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	switch head, _, _ := strings.Cut(text, " msg="); {
	case strings.Contains(head, "level=ERROR"):
		w.events.Error(3, text)
	case strings.Contains(head, "level=WARN"):
		w.events.Warning(2, text)
	default:
		w.events.Info(1, text)
	}
	return len(line), nil
}
