package service

import (
	"fmt"
	"strings"
)

// unit is the text of systemd's unit file. It forbids what neither the supervisor needs nor the servers that drills
// start. Comments in it explain what it does not forbid.
const unit = `# Written by supervisor service install. Change it with: systemctl edit %[1]s
[Unit]
Description=walkeep: WAL archive, base backups and recovery for PostgreSQL
Wants=network-online.target
After=network-online.target postgresql.service
RequiresMountsFor=%[2]s
# However long the spool or the server cannot be reached: try again.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart=%[3]s --config %[4]s run
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=10
WatchdogSec=2min
# The supervisor stops what it started, within 10 seconds.
KillMode=mixed
TimeoutStopSec=20
User=%[5]s

# Files: it reads what its user may read, and writes to the archive and to the drills' directory alone. Home directories
# can be read because of ~/.pgpass and ~/.pg_service.conf. A server whose socket is in /tmp cannot be reached where
# PrivateTmp is on.
UMask=0077
ReadWritePaths=%[2]s
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=%[6]s
PrivateDevices=yes
PrivateMounts=yes
RestrictSUIDSGID=yes

# Rights: none but its user's, also for what it starts.
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
KeyringMode=private
Delegate=no

# Left as they are, for PostgreSQL's sake: RemoveIPC=yes would remove the shared memory and the semaphores of the live
# server when this service stops, because both run as the same user; PrivateIPC=yes would hide from a drill's server that
# a data directory is in use; MemoryDenyWriteExecute=yes would make queries fail that a drill's server compiles (jit);
# ProcSubset=pid would hide the huge pages' size, and when the host was started.
RemoveIPC=no

# The system: nothing of it is changed.
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

# The network: PostgreSQL by socket and TCP, the listener of metrics.
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6

[Install]
WantedBy=multi-user.target
`

// Unit returns the text of systemd's unit file.
func (s Installation) Unit() string {
	var writable []string
	for _, path := range s.Writable {
		writable = append(writable, quote(path))
	}
	private := "yes"
	if s.SharedTmp {
		private = "no"
	}
	return fmt.Sprintf(unit, s.Name, strings.Join(writable, " "), quote(s.Program), command(s.Config), s.User, private)
}

// quote writes a value so that systemd reads it unchanged (systemd.syntax(7), systemd.unit(5) on specifiers).
func quote(value string) string {
	value = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "\n", `\n`, "\t", `\t`).Replace(value)
	if strings.ContainsAny(value, " \\\"';") {
		return `"` + value + `"`
	}
	return value
}

// command is quote for a command's words, in which a dollar sign begins a variable.
func command(word string) string { return strings.ReplaceAll(quote(word), "$", "$$") }
