package push

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"path"
)

//go:embed page
var pageFS embed.FS

// file is one embedded file, ready to be sent.
type file struct {
	content     []byte
	contentType string
	etag        string // from the content, so it changes with every new build that changes it
}

// contentTypes are said here because the system's table differs between machines.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// loadPage reads the embedded files by their path below the root of the page.
func loadPage() (map[string]file, error) {
	root, err := fs.Sub(pageFS, "page")
	if err != nil {
		return nil, err
	}
	files := make(map[string]file)
	err = fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		f := file{content, contentTypes[path.Ext(name)], `"` + hex.EncodeToString(sum[:12]) + `"`}
		if f.contentType == "" {
			f.contentType = "text/plain; charset=utf-8"
		}
		files[name] = f
		return nil
	})
	return files, err
}
