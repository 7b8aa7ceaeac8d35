package backup

import "regexp"

var objectForm = regexp.MustCompile(`^(manifest\.json|data-[0-9]{4,}\.tar(\.[0-9a-z]+)+|files\.json(\.[0-9a-z]+)+)$`)

// IsObject tells whether a name in a backup's directory is one of those that the package's documentation lists.
func IsObject(name string) bool { return objectForm.MatchString(name) }
