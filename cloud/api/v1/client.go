package v1

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// ErrUnreachable means that no region answered: nothing is known about
// whether the request was carried out.
var ErrUnreachable = errors.New("the region does not answer")

const (
	// answerMaxBytes bounds what is read of an answer: 1,000 facilities need 1 MB.
	answerMaxBytes = 64 << 20
	requestTimeout = 30 * time.Second
)

// Client talks to one region. Its zero HTTP means a client of its own.
type Client struct {
	URL   string // such as http://127.0.0.1:8080
	Token string // API token; empty only for Login
	HTTP  *http.Client
}

// do sends one request. The error is a *Problem when the region refused, and
// is ErrUnreachable when nobody answered.
func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req, err := c.request(ctx, method, path, in)
	if err != nil {
		return err
	}
	hc := c.HTTP
	if hc == nil {
		hc = http.DefaultClient
	}
	resp, err := hc.Do(req)
	if err != nil {
		return fmt.Errorf("%w at %s: %w", ErrUnreachable, c.URL, rootCause(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerMaxBytes))
	if err != nil {
		return fmt.Errorf("%w in full: %w", ErrUnreachable, rootCause(err))
	}
	if resp.StatusCode >= 300 {
		return problemOf(resp, body)
	}
	if out == nil || len(body) == 0 {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("read the region's answer to %s %s: %w", method, path, err)
	}
	return nil
}

func (c *Client) request(ctx context.Context, method, path string, in any) (*http.Request, error) {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(c.URL, "/")+path, body)
	if err != nil {
		return nil, fmt.Errorf("region address %q: %w", c.URL, err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	return req, nil
}

// problemOf reads a refusal, whatever wrote it.
func problemOf(resp *http.Response, body []byte) error {
	p := &Problem{}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/") && json.Unmarshal(body, p) == nil && p.Detail != "" {
		p.Status = resp.StatusCode
		return p
	}
	return &Problem{
		Type: "about:blank", Title: http.StatusText(resp.StatusCode), Status: resp.StatusCode,
		Detail: fmt.Sprintf("%s answered %s", resp.Request.URL.Redacted(), resp.Status),
		Remedy: "Check that the address is a Holdfast region's.",
	}
}

// rootCause drops the method and address that net/http puts before a cause.
func rootCause(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

func get[T any](ctx context.Context, c *Client, path string) (T, error) {
	var out T
	err := c.do(ctx, http.MethodGet, path, nil, &out)
	return out, err
}

func send[T any](ctx context.Context, c *Client, method, path string, in any) (T, error) {
	var out T
	err := c.do(ctx, method, path, in, &out)
	return out, err
}

// all reads a list to its end.
func all[T any](ctx context.Context, c *Client, path string) ([]T, error) {
	var items []T
	cursor := ""
	for {
		page, err := get[Page[T]](ctx, c, path+"?limit=500&cursor="+url.QueryEscape(cursor))
		if err != nil {
			return nil, err
		}
		items = append(items, page.Items...)
		if page.Next == "" || page.Next == cursor {
			return items, nil
		}
		cursor = page.Next
	}
}

func pageQuery(limit int, cursor string) string {
	q := url.Values{}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}
