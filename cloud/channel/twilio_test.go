package channel_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/cloud/channel"
	"github.com/agogsaas/holdfast/test/peers/twilio"
)

func TestAnSMSArrivesAndItsReplyAcknowledges(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	phone := l.peer.Phone(ana)
	m := l.message(channel.SMS, channel.Trigger)
	l.send(t, m)
	got := phone.ExpectSMS(t, "CRITICAL: Los Angeles is offline", "1 Check the internet", "Reply A17 to acknowledge")
	if got.Segments > 2 || got.Segments != channel.Segments(got.Body) {
		t.Errorf("%d segments, and we count %d", got.Segments, channel.Segments(got.Body))
	}
	l.inbox.reaches(t, m.Delivery, channel.Sent)
	l.inbox.reaches(t, m.Delivery, channel.Delivered)
	for _, reply := range []string{"A17", "ack 17", " a 17. ", "Acknowledge #17"} {
		said, err := phone.Reply(reply)
		if err != nil || said != "Thank you, Ana. Incident 17 is yours." {
			t.Errorf("%q: %q, %v", reply, said, err)
		}
		phone.ExpectSMS(t, "Incident 17 is yours")
	}
	acks := l.inbox.acked()
	if len(acks) != 4 || acks[0] != (channel.Ack{Incident: 17, From: ana, How: "sms"}) {
		t.Errorf("%+v", acks)
	}
	l.send(t, l.message(channel.SMS, channel.Resolve))
	phone.ExpectSMS(t, "RESOLVED", "4 minutes 12 seconds")
}

func TestRepliesThatMeanNothingGetHelpAndThenSilence(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	phone := l.peer.Phone(ana)
	for i := range 6 {
		said, err := phone.Reply("who is this?")
		if err != nil {
			t.Fatal(err)
		}
		if want := i < 3; strings.Contains(said, "such as A17") != want {
			t.Errorf("reply %d is answered %q", i, said)
		}
	}
	if said, err := phone.Reply("A17"); err != nil || !strings.Contains(said, "yours") {
		t.Errorf("after silence an acknowledgement is answered %q, %v", said, err)
	}
	if said, err := phone.Reply("and now?"); err != nil || !strings.Contains(said, "such as A17") {
		t.Errorf("somebody who is there is answered %q, %v", said, err)
	}
	for _, word := range []string{"STOP", "stop.", "Unsubscribe", "HELP", "START"} {
		if said, err := l.peer.Phone("+12135550102").Reply(word); err != nil || said != "" {
			t.Errorf("%s, which the carrier answers, is answered %q, %v", word, said, err)
		}
	}
	if n := len(l.inbox.acked()); n != 1 {
		t.Errorf("%d acknowledgements", n)
	}
}

// TestAStrangerWhoAcknowledgesIsNotAnsweredForEver also is of a machine that
// answers whatever it gets: each answer costs.
func TestAStrangerWhoAcknowledgesIsNotAnsweredForEver(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	for i := range 15 {
		said, err := l.peer.Phone("+12135550199").Reply("ack")
		if want := i < 10; err != nil || strings.Contains(said, "nobody's") != want || !want && said != "" {
			t.Errorf("reply %d of a stranger is answered %q, %v", i+1, said, err)
		}
		// Whoever was told is answered each time.
		if said, err := l.peer.Phone(ana).Reply("A17"); err != nil || !strings.Contains(said, "yours") {
			t.Errorf("reply %d of Ana is answered %q, %v", i+1, said, err)
		}
	}
	l.inbox.fail(true)
	for i := range 15 {
		said, err := l.peer.Phone("+12135550102").Reply("ack")
		if want := i < 10; err != nil || strings.Contains(said, "reply again") != want {
			t.Errorf("reply %d without a database is answered %q, %v", i+1, said, err)
		}
	}
}

func TestAReplyThatCannotBeStoredIsAskedForAgain(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	l.inbox.fail(true)
	if said, err := l.peer.Phone(ana).Reply("A17"); err != nil || !strings.Contains(said, "reply again") {
		t.Errorf("%q, %v", said, err)
	}
}

func TestACallSaysItTwiceAndTheKeyAcknowledges(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	m := l.message(channel.Voice, channel.Trigger)
	l.send(t, m)
	call := l.peer.Phone(ana).ExpectCall(t, "an alert for Ana Lima", "Los Angeles", "9:31 AM, Los Angeles time", "No heartbeat", "1. Check the internet", "4. Call Foo's IT", "Press 4 to acknowledge",
		"I repeat", "Los Angeles", "Press 4 to acknowledge")
	if err := call.Press("4"); err != nil {
		t.Fatal(err)
	}
	call.Expect(t, "Thank you, Ana. Incident 17 is yours.", "Goodbye")
	call.ExpectEnd(t, "completed")
	l.inbox.reaches(t, m.Delivery, channel.Reached)
	acks := l.inbox.acked()
	if len(acks) != 1 || acks[0] != (channel.Ack{Delivery: m.Delivery, By: "Ana Lima", How: "voice"}) {
		t.Errorf("%+v", acks)
	}
	l.peer.Close() // all callbacks are out
	if l.inbox.has(m.Delivery, channel.Failed) {
		t.Error("a call that was acknowledged counts as failed")
	}
}

func TestStarRepeatsAndAWrongKeyIsExplained(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	m := l.message(channel.Voice, channel.Trigger)
	l.send(t, m)
	call := l.peer.Phone(ana).ExpectCall(t, "I repeat", "Press 4")
	press := func(key string) {
		t.Helper()
		if err := call.Press(key); err != nil {
			t.Fatal(err)
		}
	}
	press("*")
	call.Expect(t, "an alert for Ana Lima", "I repeat", "Press 4")
	if n := len(l.inbox.acked()); n != 0 {
		t.Fatal("star acknowledged")
	}
	l.inbox.reaches(t, m.Delivery, channel.Reached) // a person is there
	press("7")
	call.Expect(t, "That key means nothing here", "an alert for Ana Lima", "I repeat", "Press 4")
	press("4")
	call.Expect(t, "Incident 17 is yours")
	call.ExpectEnd(t, "completed")
}

func TestAMailboxIsNotReached(t *testing.T) {
	t.Parallel()
	for _, b := range []twilio.Behaviour{twilio.Mailbox, twilio.PicksUp} { // who picks up presses nothing either
		l := newLine(t, func(o *twilio.Options) { o.KeyWait = 10 * time.Millisecond })
		phone := l.peer.Phone(ana)
		phone.Behave(b)
		m := l.message(channel.Voice, channel.Trigger)
		l.send(t, m)
		call := phone.ExpectCall(t, "Los Angeles", "No key was pressed")
		call.ExpectEnd(t, "completed")
		if r := l.inbox.reaches(t, m.Delivery, channel.Failed); !strings.Contains(r.Detail, "nobody pressed a key") {
			t.Errorf("%+v", r)
		}
		if b == twilio.Mailbox {
			l.inbox.wait(t, "the mailbox is not told of", func() bool {
				for _, r := range l.inbox.receipts {
					if strings.Contains(r.Detail, "mailbox seems to have answered") {
						return true
					}
				}
				return false
			})
		}
		if l.inbox.has(m.Delivery, channel.Reached) || l.inbox.has(m.Delivery, channel.Delivered) || len(l.inbox.acked()) != 0 {
			t.Error("nobody was reached")
		}
	}
}

func TestWhatBecomesOfMessagesAndCallsIsTold(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind channel.Kind
		does twilio.Behaviour
		want string
	}{
		{channel.SMS, twilio.Silent, "switched off or out of reach (Twilio 30003)"},
		{channel.SMS, twilio.Unknown, "the number is unknown (Twilio 30005)"},
		{channel.SMS, twilio.Filtered, "took it for spam (Twilio 30007)"},
		{channel.Voice, twilio.Busy, "the line was busy"},
		{channel.Voice, twilio.Silent, "nobody answered"},
		{channel.Voice, twilio.Unknown, "could not be made"},
	} {
		l := newLine(t)
		l.peer.Phone(ana).Behave(c.does)
		m := l.message(c.kind, channel.Trigger)
		l.send(t, m)
		if r := l.inbox.reaches(t, m.Delivery, channel.Failed); !strings.Contains(r.Detail, c.want) {
			t.Errorf("%s: %q, want %q", c.kind, r.Detail, c.want)
		}
	}
}

func TestReceiptsMayComeTwiceBackwardsInPartOrNotAtAll(t *testing.T) {
	t.Parallel()
	for _, mode := range []twilio.Callbacks{twilio.Twice, twilio.Backwards, twilio.Alternate, twilio.Never} {
		l := newLine(t)
		l.peer.Send(mode)
		m := l.message(channel.SMS, channel.Trigger)
		l.send(t, m)
		l.peer.Phone(ana).ExpectSMS(t, "Los Angeles")
		v := l.message(channel.Voice, channel.Trigger)
		l.send(t, v)
		call := l.peer.Phone(ana).ExpectCall(t, "I repeat")
		if err := call.Press("4"); err != nil {
			t.Fatal(err)
		}
		call.ExpectEnd(t, "completed")
		l.inbox.reaches(t, v.Delivery, channel.Reached)
		if mode != twilio.Never {
			l.inbox.reaches(t, m.Delivery, channel.Sent)
		}
		if mode != twilio.Never && mode != twilio.Alternate {
			l.inbox.reaches(t, m.Delivery, channel.Delivered)
		}
		for _, p := range l.peer.Posted() {
			if p.Status != http.StatusOK && p.Status != http.StatusNoContent {
				t.Errorf("%s is answered %d", p.URL, p.Status)
			}
		}
		seen := map[string]int{}
		l.inbox.mu.Lock()
		for _, r := range l.inbox.receipts {
			seen[r.EventID]++
		}
		l.inbox.mu.Unlock()
		for id, n := range seen {
			if n > 1 {
				t.Errorf("%s counts %d times", id, n)
			}
		}
	}
}

func TestACallStillSaysSomethingWhenTheRegionsDatabaseIsAway(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	m := l.message(channel.Voice, channel.Trigger)
	l.inbox.fail(true)
	l.send(t, m)
	call := l.peer.Phone(ana).ExpectCall(t, "There is an alert")
	call.ExpectEnd(t, "completed")
	l.inbox.fail(false)
	l.send(t, m)
	call = l.peer.Phone(ana).ExpectCall(t, "I repeat", "Press 4")
	l.inbox.fail(true)
	if err := call.Press("4"); err != nil {
		t.Fatal(err)
	}
	call.Expect(t, "could not be stored", "There is an alert")
}

func TestACallSaysHowItIsWhenItIsAnswered(t *testing.T) {
	t.Parallel()
	l := newLine(t, func(o *twilio.Options) { o.Phones = twilio.Rings })
	for _, c := range []struct {
		change func(*channel.Incident)
		says   string
	}{
		{func(in *channel.Incident) { in.AckedBy = "Bo Chen" }, "Bo Chen takes care of it"},
		{func(in *channel.Incident) { in.Resolved = in.Since.Add(time.Minute) }, "This is over"},
	} {
		m := l.message(channel.Voice, channel.Trigger)
		l.send(t, m)
		call := l.peer.Phone(ana).ExpectCall(t)
		c.change(&m.Incident)
		l.inbox.tell(m)
		call.Answer()
		call.Expect(t, c.says, "Press any key")
		call.HangUp()
		call.ExpectEnd(t, "completed")
	}
}

func TestWhoPressesSecondHearsWhoHasIt(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	for _, whileItSpeaks := range []bool{true, false} {
		m := l.message(channel.Voice, channel.Trigger)
		taken := m
		taken.Incident.AckedBy = "Bo Chen"
		says := "Press 4"
		if !whileItSpeaks {
			l.inbox.tell(taken)
			says = "Bo Chen takes care of it"
		}
		l.send(t, m)
		call := l.peer.Phone(ana).ExpectCall(t, says, "I repeat")
		l.inbox.tell(taken)
		if err := call.Press("4"); err != nil {
			t.Fatal(err)
		}
		call.Expect(t, "Bo Chen has had it since", "Goodbye")
		call.ExpectEnd(t, "completed")
	}
}

// It would be a lie when it is over, or a test.
func TestNobodyIsToldThatSomebodyElseIsToldWhereNobodyIs(t *testing.T) {
	t.Parallel()
	l := newLine(t, func(o *twilio.Options) { o.KeyWait = 10 * time.Millisecond })
	phone := l.peer.Phone(ana)
	phone.Behave(twilio.PicksUp)
	for _, e := range []channel.Event{channel.Resolve, channel.Test, channel.Update} {
		m := l.message(channel.Voice, e)
		l.send(t, m)
		call := phone.ExpectCall(t, "Press any key", "I repeat", "Press any key", "No key was pressed. Goodbye.")
		call.ExpectEnd(t, "completed")
	}
}

func TestNobodyIsAskedToAcknowledgeWhatIsOver(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	m := l.message(channel.Voice, channel.Resolve)
	l.send(t, m)
	call := l.peer.Phone(ana).ExpectCall(t, "good news for Ana Lima", "4 minutes 12 seconds", "Press any key", "I repeat", "Press any key")
	if err := call.Press("4"); err != nil {
		t.Fatal(err)
	}
	call.Expect(t, "Thank you.")
	call.ExpectEnd(t, "completed")
	l.inbox.reaches(t, m.Delivery, channel.Reached)
	if n := len(l.inbox.acked()); n != 0 {
		t.Errorf("%d acknowledgements", n)
	}
}
