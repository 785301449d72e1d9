package channel

import (
	"strings"
	"unicode"
	"unicode/utf16"

	"golang.org/x/text/unicode/norm"
)

// The alphabet that every phone has (3GPP TS 23.038, section 6.2.1). What is in
// the extension table costs two.
const (
	gsmBasic = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?" +
		"¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
	gsmExtended = "\f^{}\\[~]|€"
)

// gsmInstead is what stands for letters that the alphabet lacks and that do not
// fall apart into a letter and its mark.
var gsmInstead = strings.NewReplacer(
	"‘", "'", "’", "'", "‚", "'", "“", `"`, "”", `"`, "„", `"`, "«", `"`, "»", `"`,
	"–", "-", "—", "-", "−", "-", "…", "...", "•", "-", "·", ".", "\u00a0", " ", "\u202f", " ", "\t", " ", "`", "'", "´", "'",
	"→", "->", "×", "x", "°", " deg ", "Ł", "L", "ł", "l", "Đ", "D", "đ", "d", "ı", "i", "Œ", "OE", "œ", "oe", "þ", "th", "Þ", "Th", "ð", "d", "™", "TM",
)

// gsm7 writes text in that alphabet where it can be, so that a message costs
// less and arrives whole: quotes and dashes become plain, marks that it lacks
// fall off. Letters of other scripts stay.
func gsm7(text string) string {
	var b strings.Builder
	for _, r := range gsmInstead.Replace(norm.NFC.String(text)) {
		if inGSM7(r) {
			b.WriteRune(r)
			continue
		}
		base := []rune(norm.NFD.String(string(r)))
		if len(base) > 1 && inGSM7(base[0]) && unicode.Is(unicode.Mn, base[1]) {
			r = base[0]
		}
		b.WriteRune(r)
	}
	return b.String()
}

func inGSM7(r rune) bool {
	return strings.ContainsRune(gsmBasic, r) || strings.ContainsRune(gsmExtended, r)
}

// Segments is how many messages an SMS of this text is sent and charged as.
func Segments(text string) int {
	units, single, several := 0, 160, 153
	for _, r := range text {
		switch {
		case strings.ContainsRune(gsmBasic, r):
			units++
		case strings.ContainsRune(gsmExtended, r):
			units += 2
		default: // one such letter makes all of it UTF-16
			units, single, several = len(utf16.Encode([]rune(text))), 70, 67
			return segments(units, single, several)
		}
	}
	return segments(units, single, several)
}

func segments(units, single, several int) int {
	if units <= single {
		return 1
	}
	return (units + several - 1) / several
}
