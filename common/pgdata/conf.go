package pgdata

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// A Conf holds the settings of configuration files as PostgreSQL reads them: the last value of a name counts.
type Conf struct {
	Settings map[string]string // by their names in lower case; Read makes it
	Files    []string          // that were read
}

// maxDepth is how deep configuration files may include each other (CONF_FILE_MAX_DEPTH in guc-file.l).
const maxDepth = 10

// Read adds the settings of a file and of the files that it includes.
func (c *Conf) Read(file string) error {
	if c.Settings == nil {
		c.Settings = make(map[string]string)
	}
	return c.read(file, 0)
}

func (c *Conf) read(file string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%s is included too deeply", file)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	c.Files = append(c.Files, file)
	for line := range strings.Lines(string(content)) {
		if trimmed := strings.TrimSpace(line); trimmed == "" || trimmed[0] == '#' {
			continue
		}
		name, value := Setting(line)
		included := value
		if !filepath.IsAbs(included) {
			included = filepath.Join(filepath.Dir(file), filepath.FromSlash(value))
		}
		switch name = strings.ToLower(name); name {
		case "include":
			err = c.read(included, depth+1)
		case "include_if_exists":
			if err = c.read(included, depth+1); errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
		case "include_dir":
			err = c.readDir(included, depth+1)
		default:
			c.Settings[name] = value
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Conf) readDir(dir string, depth int) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if path.Ext(e.Name()) != ".conf" || strings.HasPrefix(e.Name(), ".") || e.IsDir() {
			continue
		}
		if err := c.read(filepath.Join(dir, e.Name()), depth); err != nil {
			return err
		}
	}
	return nil
}
