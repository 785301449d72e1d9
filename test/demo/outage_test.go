package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/test/rig/people"
)

// asVisitor has the test's program ask for one page and end: a demo's network is
// one of its own, which the tests themselves are not in.
const asVisitor = "HOLDFAST_TEST_VISITOR"

func TestMain(m *testing.M) {
	if os.Getenv(asVisitor) == "" {
		os.Exit(m.Run())
	}
	if err := visit(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func visit(method, url string) error {
	req, err := http.NewRequest(method, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s %s: %s", method, url, resp.Status)
	}
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}

// phones asks the page of phones and chats.
func (c *demoFolder) phones(method, path string) []byte {
	c.t.Helper()
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := c.net.Command(ctx, "machine", self, method, fmt.Sprintf("http://127.0.0.1:%d/twilio/panel/%s", peoplePage, path))
	cmd.Env = append(cmd.Env, asVisitor+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	return out
}

func (c *demoFolder) decode(raw []byte, into any) {
	c.t.Helper()
	if err := json.Unmarshal(raw, into); err != nil {
		c.t.Fatalf("%v: %s", err, raw)
	}
}

// until waits for something that people wait for, on a machine that does much else.
func (c *demoFolder) until(what string, ok func() bool) {
	c.t.Helper()
	over := time.After(2 * time.Minute)
	for !ok() {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-over:
			c.t.Fatalf("%s\n%s", what, c.run("holdfastctl", "incidents", "--all"))
		}
	}
}

// call is what the page shows of Pat's phone.
type call struct {
	SID, Status string
	Listens     bool
}

func (c *demoFolder) call(status string, listens bool) (shown call) {
	c.t.Helper()
	c.until("the phone is not "+status, func() bool {
		var phones []struct {
			Number string
			Call   *call
		}
		c.decode(c.phones(http.MethodGet, "state"), &phones)
		for _, p := range phones {
			if p.Number == people.PatsNumber && p.Call != nil {
				shown = *p.Call
			}
		}
		return shown.Status == status && shown.Listens == listens
	})
	return shown
}

// outage is what the README promises of la's cable: cut, the phone rings, 4
// acknowledges, restored, and all that told of it tell that it is over.
func (c *demoFolder) outage() {
	c.t.Helper()
	began := time.Now()
	c.run("holdfastctl", "demo", "cut", "la")
	ringing := c.call("ringing", false)
	c.t.Logf("cut -> the phone rings: %s", time.Since(began).Round(10*time.Millisecond))
	c.phones(http.MethodPost, "calls/"+ringing.SID+"/answer")
	c.call("in-progress", true)
	c.phones(http.MethodPost, "calls/"+ringing.SID+"/key?key=4")
	var la v1.Incident
	c.until("la's outage is not acknowledged", func() bool {
		var list []v1.Incident
		c.decode([]byte(c.run("holdfastctl", "incidents", "--json")), &list)
		for _, i := range list {
			if i.Facility == "la" && i.Kind == "offline" {
				la = i
			}
		}
		return la.AckedAt != nil
	})
	if la.AckedHow != "voice" || la.AckedBy != people.Pat {
		c.t.Errorf("acknowledged by %q by %q", la.AckedBy, la.AckedHow)
	}
	c.run("holdfastctl", "demo", "restore", "la")
	want := []string{"email", "mqtt", "pagerduty", "slack", "sms", "teams", "webhook"}
	c.until("not all that told of la's outage tell that it is over", func() bool {
		var d v1.IncidentDetail
		c.decode([]byte(c.run("holdfastctl", "incidents", "show", fmt.Sprint(la.ID), "--json")), &d)
		over, channels := map[int64]bool{}, map[string]bool{}
		for _, x := range d.Deliveries {
			if x.Event == "resolve" && x.AcceptedAt != nil && x.Method != nil {
				over[*x.Method], channels[x.Channel] = true, true
			}
		}
		missing := slices.ContainsFunc(d.Deliveries, func(x v1.Delivery) bool {
			return x.Event == "trigger" && x.AcceptedAt != nil && x.Method != nil && x.Channel != "voice" && !over[*x.Method]
		})
		return d.ResolvedAt != nil && !missing && slices.Equal(slices.Sorted(maps.Keys(channels)), want)
	})
	c.t.Logf("cut -> all over: %s", time.Since(began).Round(10*time.Millisecond))
}
