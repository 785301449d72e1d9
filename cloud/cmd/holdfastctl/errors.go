package main

import (
	"errors"
	"net/http"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/hint"
)

// Exit codes; rootHelp explains them to people.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitRefused     = 4
	exitUnreachable = 5
)

// usageError is a mistake in the command line or in the local configuration.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// refusedError is something that was not done on purpose.
type refusedError struct{ error }

func (e refusedError) Unwrap() error { return e.error }

// notFoundError is something local that is not there.
type notFoundError struct{ error }

func (e notFoundError) Unwrap() error { return e.error }

func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if errors.Is(err, v1.ErrUnreachable) {
		return exitUnreachable
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[refusedError](err); ok {
		return exitRefused
	}
	if _, ok := errors.AsType[notFoundError](err); ok {
		return exitNotFound
	}
	p, ok := errors.AsType[*v1.Problem](err)
	if !ok {
		return exitFailed
	}
	switch p.Status {
	case http.StatusNotFound:
		return exitNotFound
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict,
		http.StatusPreconditionRequired, http.StatusTooManyRequests:
		return exitRefused
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return exitUsage
	}
	return exitFailed
}

// explain returns what happened and what to do about it.
func explain(err error) (what, remedy string) {
	if advice := hint.Of(err); advice != "" {
		return err.Error(), advice
	}
	if p, ok := errors.AsType[*v1.Problem](err); ok {
		return p.Error(), p.Remedy
	}
	if errors.Is(err, v1.ErrUnreachable) {
		return err.Error(), "Check the address and that the region runs; nothing is known about whether a change was carried out."
	}
	return err.Error(), ""
}
