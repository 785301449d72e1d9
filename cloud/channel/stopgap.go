package channel

// Text is what a message says.
type Text struct{ Title, Body, HTML string }

// Texts say what messages say.
type Texts struct{}

// Render returns what a message says.
func (*Texts) Render(m Message) (Text, error) {
	t := m.Incident.Name + ": " + m.Incident.Summary
	return Text{t, t, "<p>" + t + "</p>"}, nil
}

func cut(s string, most int) string {
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	return string(r[:most-3]) + "..."
}
