package dashboard

import (
	"net/http"
	"strconv"
	"time"
)

// formID is a number of a form; what is none is 0.
func formID(r *http.Request, name string) int64 {
	id, err := strconv.ParseInt(r.PostFormValue(name), 10, 64)
	if err != nil || id < 0 {
		return 0
	}
	return id
}

// localTime reads what a browser's field for date and time sends, by a zone's
// clock; zero when it is none.
func localTime(s string, zone *time.Location) time.Time {
	for _, form := range []string{localTimeForm, localTimeForm + ":05"} {
		if t, err := time.ParseInLocation(form, s, zone); err == nil {
			return t
		}
	}
	return time.Time{}
}
