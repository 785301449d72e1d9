package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
)

//go:embed dist
var distFiles embed.FS

//go:embed templates
var templateFiles embed.FS

const assetPrefix = "/assets/"

type asset struct {
	plain, gzip []byte
	kind        string
}

// assets holds each file under the name that carries its content's hash, so
// that browsers may keep it for ever: a new build has new names.
var assets = sync.OnceValue(func() (a struct {
	byURL map[string]asset
	url   map[string]string
},
) {
	a.byURL, a.url = map[string]asset{}, map[string]string{}
	entries, err := fs.ReadDir(distFiles, "dist")
	if err != nil {
		panic(err) // embedded: cannot fail in a build that compiled
	}
	for _, e := range entries {
		plain, err := fs.ReadFile(distFiles, "dist/"+e.Name())
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(plain)
		ext := path.Ext(e.Name())
		url := assetPrefix + strings.TrimSuffix(e.Name(), ext) + "." + hex.EncodeToString(sum[:6]) + ext
		kind := mime.TypeByExtension(ext)
		switch ext { // not left to the machine's mime tables
		case ".js":
			kind = "text/javascript; charset=utf-8"
		case ".css":
			kind = "text/css; charset=utf-8"
		case ".svg":
			kind = "image/svg+xml"
		case ".txt":
			kind = "text/plain; charset=utf-8"
		}
		a.byURL[url] = asset{plain: plain, gzip: squeeze(plain), kind: kind}
		a.url[e.Name()] = url
	}
	return a
})

func squeeze(b []byte) []byte {
	var out bytes.Buffer
	z, _ := gzip.NewWriterLevel(&out, gzip.BestCompression) // the level is valid
	_, _ = z.Write(b)                                       // a bytes.Buffer takes everything
	_ = z.Close()
	return out.Bytes()
}

// AssetURL returns the content-hashed path of a file in dist, or "" if there
// is none of that name.
func AssetURL(name string) string { return assets().url[name] }

func assetHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, ok := assets().byURL[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		h := w.Header()
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
		h.Set("Content-Type", a.kind)
		h.Set("Vary", "Accept-Encoding")
		body := a.plain
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			h.Set("Content-Encoding", "gzip")
			body = a.gzip
		}
		h.Set("Content-Length", strconv.Itoa(len(body)))
		if r.Method != http.MethodHead {
			_, _ = w.Write(body) // the reader left: nothing to do
		}
	})
}
