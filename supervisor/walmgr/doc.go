// Package walmgr turns a configuration file of walmgr (SkyTools 2.1 and 3) into one of walkeep.
//
// # What it reads
//
// walmgr read its files with Python 2's ConfigParser.SafeConfigParser, wrapped in skytools.Config, and so does this package:
//
//   - Sections are [walmgr] in SkyTools 3, [wal-master] and [wal-slave] before. A [DEFAULT] section applies to all others.
//   - A parameter is `name = value` or `name : value`, whichever sign comes first, from the first column on. Names are
//     converted to lower case. If a name is given twice, the last value is used.
//   - An indented line continues the value above it, even across empty lines.
//   - Lines whose first character is # or ; are comments, and so are those that begin with the word REM. In the first
//     line of a value, ; after a space begins a comment; # does not.
//   - The value "" is an empty one.
//   - %(name)s is the value of another parameter, expanded in turn, at most ten deep; %% is a percent sign. SkyTools
//     provides job_name, service_name, host_name, config_dir and config_file if the file does not set them.
//   - The value of a file or directory may begin with ~ or ~user.
//
// A byte order mark and Windows' line ends are accepted. This package refuses what walmgr refused: a parameter before
// the first section, an indented line after a section's header, a line that is none of these.
//
// No library does all of it. go-flags' reader, which reads walkeep's own file, has neither expansion nor continuation
// lines nor colons, and must know all names beforehand. ini.v1 has a Python mode, but removes quotation marks,
// backslashes and # from commands such as slave_start_cmd, does not convert %%, and does not report line numbers, which
// the messages contain.
//
// # What it writes
//
// The result contains each parameter of the file, as a key of walkeep's or in a comment about what replaces it. Passwords
// are left out.
package walmgr
