package twilio

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // Twilio's rule has it
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"slices"
	"strings"
)

// Sign signs a request as Twilio's page on security has it: the whole address,
// and after it, of a form, each field's name and value, sorted by name, without
// anything in between; HMAC-SHA1 with the account's auth token, in base64.
func Sign(token, address string, form url.Values) string {
	address, _, _ = strings.Cut(address, "#") // a fragment is not sent
	names := make([]string, 0, len(form))
	for name := range form {
		names = append(names, name)
	}
	slices.Sort(names)
	mac := hmac.New(sha1.New, []byte(token))
	mac.Write([]byte(address))
	for _, name := range names {
		values := slices.Clone(form[name])
		slices.Sort(values)
		for _, v := range slices.Compact(values) {
			mac.Write([]byte(name))
			mac.Write([]byte(v))
		}
	}
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// SignBody signs a request whose body is not a form: the body's SHA-256 becomes a
// part of the address, which it returns too.
func SignBody(token, address string, body []byte) (signed, signature string) {
	sum := sha256.Sum256(body)
	sep := "?"
	if strings.Contains(address, "?") {
		sep = "&"
	}
	signed = address + sep + "bodySHA256=" + hex.EncodeToString(sum[:])
	return signed, Sign(token, signed, nil)
}
