package slack

import (
	"unicode/utf8"

	api "github.com/slack-go/slack"
)

// Limits of Block Kit (docs.slack.dev, reference of blocks and elements), in
// characters where nothing else is said.
const (
	textMax    = 40_000
	blocksMax  = 50
	headerMax  = 150
	sectionMax = 3000
	contextMax = 10 // elements
	actionsMax = 25 // elements
	labelMax   = 75
	valueMax   = 2000
	urlMax     = 3000
	idMax      = 255
)

// check is Slack's word for what is wrong with a message; "" for nothing.
func check(text string, blocks *api.Blocks) string {
	if utf8.RuneCountInString(text) > textMax {
		return "msg_too_long"
	}
	if blocks == nil || len(blocks.BlockSet) == 0 {
		if text == "" {
			return "no_text"
		}
		return ""
	}
	if len(blocks.BlockSet) > blocksMax {
		return "invalid_blocks"
	}
	for _, b := range blocks.BlockSet {
		if !blockOK(b) {
			return "invalid_blocks"
		}
	}
	return ""
}

func blockOK(b api.Block) bool {
	switch b := b.(type) {
	case *api.HeaderBlock:
		return b.Text != nil && b.Text.Type == api.PlainTextType && within(b.Text.Text, headerMax)
	case *api.SectionBlock:
		return textOK(b.Text, sectionMax)
	case *api.ContextBlock:
		n := len(b.ContextElements.Elements)
		for _, e := range b.ContextElements.Elements {
			if t, ok := e.(*api.TextBlockObject); ok && !textOK(t, sectionMax) {
				return false
			}
		}
		return n > 0 && n <= contextMax
	case *api.ActionBlock:
		if b.Elements == nil || len(b.Elements.ElementSet) == 0 || len(b.Elements.ElementSet) > actionsMax {
			return false
		}
		seen := map[string]bool{}
		for _, e := range b.Elements.ElementSet {
			button, ok := e.(*api.ButtonBlockElement)
			if !ok || !buttonOK(button) || seen[button.ActionID] {
				return false
			}
			seen[button.ActionID] = true
		}
		return true
	case *api.DividerBlock:
		return true
	}
	return false // Slack knows more, we use no others
}

func buttonOK(b *api.ButtonBlockElement) bool {
	return b.Text != nil && b.Text.Type == api.PlainTextType && within(b.Text.Text, labelMax) &&
		len(b.Value) <= valueMax && len(b.URL) <= urlMax && b.ActionID != "" && len(b.ActionID) <= idMax
}

func textOK(t *api.TextBlockObject, most int) bool {
	return t != nil && (t.Type == api.PlainTextType || t.Type == api.MarkdownType) && within(t.Text, most)
}

// within reports whether a text has between one and most characters.
func within(s string, most int) bool {
	n := utf8.RuneCountInString(s)
	return n > 0 && n <= most
}
