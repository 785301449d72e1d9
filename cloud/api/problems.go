package api

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/hint"
)

// The API library takes its error type from a package variable, so it is set
// once for the whole program.
var useProblems = sync.OnceFunc(func() {
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		return problemFrom(status, msg, errs)
	}
})

// problemFrom turns the library's own complaints, mostly of its validation,
// into problems. It drops the values that it would echo: one may be a password.
func problemFrom(status int, msg string, errs []error) *v1.Problem {
	p := problem(status, kindOf(status), msg, remedyOf(status))
	for _, err := range errs {
		if err == nil {
			continue
		}
		if d, ok := errors.AsType[*huma.ErrorDetail](err); ok {
			p.Errors = append(p.Errors, v1.ProblemItem{Message: d.Message, Location: d.Location})
			continue
		}
		p.Errors = append(p.Errors, v1.ProblemItem{Message: err.Error()})
	}
	if status == http.StatusUnprocessableEntity {
		p.Detail = "the request is not valid"
	}
	return p
}

func problem(status int, kind, detail, remedy string) *v1.Problem {
	return &v1.Problem{Type: kind, Title: http.StatusText(status), Status: status, Detail: detail, Remedy: remedy}
}

func kindOf(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return v1.ProblemSignIn
	case http.StatusForbidden:
		return v1.ProblemForbidden
	case http.StatusNotFound:
		return v1.ProblemNotFound
	case http.StatusConflict:
		return v1.ProblemConflict
	case http.StatusTooManyRequests:
		return v1.ProblemTooMany
	}
	if status >= 500 {
		return v1.ProblemInternal
	}
	return v1.ProblemInvalid
}

func remedyOf(status int) string {
	switch {
	case status == http.StatusRequestEntityTooLarge:
		return "Send a smaller request."
	case status == http.StatusUnsupportedMediaType:
		return "Send JSON, with Content-Type: application/json."
	case status >= 500:
		return "Try again; if it stays, the region's log says why."
	}
	return "Correct what is named and send it again; /api/openapi.json describes every field."
}

func notFound(what, id, remedy string) *v1.Problem {
	return problem(http.StatusNotFound, v1.ProblemNotFound, fmt.Sprintf("there is no %s %q", what, id), remedy)
}

func conflict(detail, remedy string) *v1.Problem {
	return problem(http.StatusConflict, v1.ProblemConflict, detail, remedy)
}

func invalid(location, message, remedy string) *v1.Problem {
	p := problem(http.StatusUnprocessableEntity, v1.ProblemInvalid, "the request is not valid", remedy)
	p.Errors = []v1.ProblemItem{{Message: message, Location: location}}
	return p
}

// present makes an error fit to be shown. What is not a problem yet is ours to
// fix: it is logged in full and the caller learns only that, and the advice
// that came with it.
func present(log *slog.Logger, op string, err error) error {
	if p, ok := errors.AsType[*v1.Problem](err); ok {
		return p
	}
	log.Error("request failed", "operation", op, "err", err)
	remedy := hint.Of(err)
	if remedy == "" {
		remedy = remedyOf(http.StatusInternalServerError)
	}
	return problem(http.StatusInternalServerError, v1.ProblemInternal, "the region could not do it", remedy)
}
