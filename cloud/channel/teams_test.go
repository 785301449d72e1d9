package channel_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/test/peers/faults"
	"github.com/agogsaas/holdfast/test/peers/teams"
)

func newTeams(t *testing.T, bare bool) (*teams.Peer, *channel.TeamsSender) {
	t.Helper()
	var p *teams.Peer
	base := serve(t, func(base string) http.Handler {
		var err error
		if p, err = teams.New(teams.Options{BaseURL: base, Bare: bare}); err != nil {
			t.Fatal(err)
		}
		return p
	})
	return p, channel.NewTeams(channel.TeamsConfig{Hosts: []string{strings.TrimPrefix(base, "http://")}}, texts(t))
}

func TestTeamsShowsEachEventAsACard(t *testing.T) {
	t.Parallel()
	for _, bare := range []bool{false, true} {
		p, s := newTeams(t, bare)
		for _, e := range []channel.Event{channel.Trigger, channel.Update, channel.Resolve, channel.Test} {
			m := message(channel.Teams, e, p.URL())
			if bare {
				m.Settings = map[string]string{"card": "bare"}
			}
			mustSend(t, s, m, channel.Accepted)
		}
		if bad := p.Failed(); len(bad) != 0 {
			t.Errorf("bare %t: Teams could not show it: %v", bare, bad)
		}
		cards := p.Cards()
		if len(cards) != 4 {
			t.Fatalf("bare %t: %d cards", bare, len(cards))
		}
		first := cards[0]
		if !strings.Contains(first.Body[0].Text, "Los Angeles") || len(first.Actions) == 0 || first.Actions[0].Title != "Acknowledge" ||
			first.Actions[0].URL != channel.Example(channel.Teams, channel.Trigger).Incident.AckURL {
			t.Errorf("card: %+v", first)
		}
		for _, a := range cards[2].Actions {
			if a.Title == "Acknowledge" {
				t.Error("what is resolved can be acknowledged")
			}
		}
	}
}

func TestTeamsCardInTheWrongFormIsSeen(t *testing.T) {
	t.Parallel()
	p, s := newTeams(t, true) // the flow wants the card itself
	mustSend(t, s, message(channel.Teams, channel.Trigger, p.URL()), channel.Accepted)
	if len(p.Failed()) != 1 || len(p.Cards()) != 0 {
		t.Error("the stand-in shows what Teams does not")
	}
}

func TestTeamsCardFitsHoweverMuchThereIsToSay(t *testing.T) {
	t.Parallel()
	p, s := newTeams(t, false)
	m := message(channel.Teams, channel.Trigger, p.URL())
	for range 2000 {
		m.Incident.Evidence = append(m.Incident.Evidence, "a_line *of* evidence [with](markup)")
	}
	mustSend(t, s, m, channel.Accepted)
	if len(p.Cards()) != 1 || p.Posts() != 1 {
		t.Errorf("%d cards after %d posts", len(p.Cards()), p.Posts())
	}
}

func TestTeamsIsSentLessOnceWhenItIsTooMuch(t *testing.T) {
	t.Parallel()
	p, s := newTeams(t, false)
	p.Next(faults.HTTP{Status: 413})
	mustSend(t, s, message(channel.Teams, channel.Trigger, p.URL()), channel.Accepted)
	if len(p.Cards()) != 1 || p.Posts() != 2 {
		t.Errorf("%d cards after %d posts", len(p.Cards()), p.Posts())
	}
	p.Next(faults.HTTP{Status: 413}, faults.HTTP{Status: 413})
	_, err := s.Send(soon(t), message(channel.Teams, channel.Trigger, p.URL()))
	wantError(t, err, permanent, p.URL())
	if p.Posts() != 4 {
		t.Errorf("%d posts, want 4", p.Posts())
	}
}

func TestATeamsYesThatIsANoIsAFailure(t *testing.T) {
	t.Parallel()
	p, s := newTeams(t, false)
	sig := p.URL()[strings.Index(p.URL(), "sig=")+4:]
	for _, tc := range []struct {
		fault faults.HTTP
		want  outcome
	}{
		{faults.HTTP{Status: 200, Body: "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429 with ContextId tcid=0"}, later},
		{faults.HTTP{Status: 200, Body: "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 400 with ContextId tcid=0"}, permanent},
		{faults.HTTP{Status: 200, Body: `{"error":{"code":"BadGateway"}}`}, temporary},
		{faults.HTTP{Status: 429, RetryAfter: 7 * time.Second}, later},
		{faults.HTTP{Status: 429}, later},
		{faults.HTTP{Status: 502, Body: "<html>gateway</html>"}, temporary},
		{faults.HTTP{Status: 404, Body: `{"error":{"code":"WorkflowNotFound","message":"sig=` + sig + `"}}`}, permanent},
		{faults.HTTP{Cut: true}, temporary},
	} {
		p.Next(tc.fault)
		_, err := s.Send(soon(t), message(channel.Teams, channel.Trigger, p.URL()))
		t.Log(err)
		wantError(t, err, tc.want, p.URL(), sig)
	}
	for _, body := range []string{"", "1"} {
		p.Next(faults.HTTP{Status: 200, Body: body, Took: true})
		mustSend(t, s, message(channel.Teams, channel.Trigger, p.URL()), channel.Accepted)
	}
}

func TestWhatTeamsTakesIsNeverCalledDelivered(t *testing.T) {
	t.Parallel()
	p, s := newTeams(t, false)
	p.Next(faults.HTTP{Lost: true})
	mustSend(t, s, message(channel.Teams, channel.Trigger, p.URL()), channel.Accepted)
	if len(p.Cards()) != 0 {
		t.Error("it was not lost")
	}
}

func TestTeamsAddressIsCheckedByItsShape(t *testing.T) {
	t.Parallel()
	p, s := newTeams(t, false)
	real := "https://prod-12.westeurope.logic.azure.com:443/workflows/0a/triggers/manual/paths/invoke?api-version=2016-06-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=abcdefgh"
	for _, good := range []string{p.URL(), real, strings.Replace(real, "prod-12.westeurope.logic.azure.com:443", "default1.02.environment.api.powerplatform.com", 1)} {
		if err := s.Check(soon(t), good, nil); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "general", strings.Replace(real, "https", "http", 1), strings.TrimSuffix(real, "&sig=abcdefgh"),
		strings.Replace(real, "logic.azure.com", "logic.azure.com.example.com", 1), "https://foo.webhook.office.com/webhookb2/x?sig=1",
	} {
		wantError(t, s.Check(soon(t), bad, nil), permanent, "abcdefgh")
	}
	wantError(t, s.Check(soon(t), real, map[string]string{"card": "round"}), permanent)
	if p.Posts() != 0 {
		t.Error("the check started the flow")
	}
}
