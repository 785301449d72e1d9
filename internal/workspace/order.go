package workspace

import (
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 9562 names it for version 5; nothing secret depends on it
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of what people may type.
const (
	shortMaxChars = 120
	notesMaxChars = 4000
	quantityMax   = 10_000_000
)

// Status is where an order stands.
type Status struct {
	Code string
	Word string
	Kind string // how web draws it
}

// Statuses in the order of work.
var Statuses = []Status{
	{"new", "New", "idle"},
	{"planned", "Planned", "waiting"},
	{"in_production", "In production", "busy"},
	{"ready", "Ready", "ok"},
	{"shipped", "Shipped", "sent"},
	{"cancelled", "Cancelled", "gone"},
}

// Units that orders and stock are counted in.
var Units = []string{"pcs", "sheets", "rolls", "pallets", "m", "m²", "kg", "l"}

// products are suggestions for the order form where the region keeps none.
var products = []string{
	"Corrugated box 300×200×150, single wall", "Corrugated box 400×300×250, single wall",
	"Corrugated box 600×400×400, double wall", "Mailer box 250×200×80, printed one colour",
	"Bubble wrap 50 cm × 100 m", "Bubble wrap 100 cm × 50 m", "Bubble mailer C5",
	"Print job: flyer A5, 4/4", "Print job: folding carton, 4/0 + varnish", "Print job: shipping label roll 100×150",
	"Corner protector 50×50×1000", "Stretch film 500 mm × 300 m",
}

// Order is one order of the facility.
type Order struct {
	ID        string    `json:"id"`
	Facility  string    `json:"facility"`
	Number    string    `json:"number"`
	Customer  string    `json:"customer"`
	Product   string    `json:"product"`
	Quantity  int       `json:"quantity"`
	Unit      string    `json:"unit"`
	DueDate   string    `json:"due_date,omitempty"` // 2006-01-02
	Status    string    `json:"status"`
	Notes     string    `json:"notes"`
	CreatedBy string    `json:"created_by"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// StatusOf returns the order's status as people see it.
func (o Order) StatusOf() Status { return statusOf(o.Status) }

func statusOf(code string) Status {
	for _, s := range Statuses {
		if s.Code == code {
			return s
		}
	}
	return Status{code, code, "unknown"}
}

// Line is one part of an order.
type Line struct {
	ID          string `json:"id"`
	Position    int    `json:"position"`
	Description string `json:"description"`
	Quantity    string `json:"quantity"` // decimal
	Unit        string `json:"unit"`
}

// orderForm is an order as it was typed: kept as text, so that nothing is lost
// when part of it is wrong.
type orderForm struct {
	Key       string // makes a second tap find the first's order
	Number    string
	Customer  string
	Product   string
	Quantity  string
	Unit      string
	DueDate   string
	Status    string
	Notes     string
	UpdatedAt string // the version that was edited, RFC 3339
}

// problems are what is wrong with a form, by field.
type problems map[string]string

func (p problems) text(field, label, v string, required bool, maxChars int) {
	n := utf8.RuneCountInString(v)
	switch {
	case required && n == 0:
		p[field] = label + " is missing."
	case n > maxChars:
		p[field] = fmt.Sprintf("%s is too long: %d characters, at most %d fit.", label, n, maxChars)
	case !utf8.ValidString(v) || strings.ContainsRune(v, 0):
		p[field] = label + " has characters that cannot be stored."
	}
}

func (f orderForm) trimmed() orderForm {
	for _, s := range []*string{&f.Key, &f.Number, &f.Customer, &f.Product, &f.Quantity, &f.Unit, &f.DueDate, &f.Status, &f.Notes} {
		*s = strings.TrimSpace(*s)
	}
	if f.Unit == "" {
		f.Unit = "pcs"
	}
	if f.Status == "" {
		f.Status = "new"
	}
	return f
}

// check returns the order that was typed, or what is wrong with it.
func (f orderForm) check() (Order, problems) {
	p := problems{}
	o := Order{
		Number: f.Number, Customer: f.Customer, Product: f.Product, Unit: f.Unit,
		DueDate: f.DueDate, Status: f.Status, Notes: f.Notes,
	}
	p.text("number", "Number", f.Number, false, 40)
	p.text("customer", "Customer", f.Customer, true, shortMaxChars)
	p.text("product", "Product", f.Product, true, shortMaxChars)
	p.text("notes", "Notes", f.Notes, false, notesMaxChars)
	if n, err := strconv.Atoi(ungrouped(f.Quantity)); f.Quantity == "" {
		p["quantity"] = "Quantity is missing."
	} else if err != nil {
		p["quantity"] = "Quantity must be a whole number, for example 2500 or 2,500."
	} else if n < 1 || n > quantityMax {
		p["quantity"] = "Quantity must be from 1 to 10,000,000."
	} else {
		o.Quantity = n
	}
	p.unit(f.Unit)
	if f.DueDate != "" {
		if d, err := time.Parse(time.DateOnly, f.DueDate); err != nil || d.Year() < 2000 || d.Year() > 2200 {
			p["due_date"] = "Due date must be a day such as 2026-11-30."
		}
	}
	p.status(f.Status)
	return o, p
}

// groups are thousands: a comma with other than three digits behind it may be
// meant as a decimal point.
var groups = regexp.MustCompile(`^[0-9]{1,3}([,'\x{2019}\x{00a0}\x{202f} ][0-9]{3})+$`)

// ungrouped is a whole number without what separates its thousands.
func ungrouped(s string) string {
	if !groups.MatchString(s) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, s)
}

func (p problems) unit(u string) {
	for _, k := range Units {
		if k == u {
			return
		}
	}
	p["unit"] = "Unit must be one of " + strings.Join(Units, ", ") + "."
}

func (p problems) status(code string) {
	var codes []string
	for _, s := range Statuses {
		if s.Code == code {
			return
		}
		codes = append(codes, s.Code)
	}
	p["status"] = "Status must be one of " + strings.Join(codes, ", ") + "."
}

// decimal checks a number with at most three decimals and returns it in the
// form that PostgreSQL reads.
func decimal(s string) (string, bool) {
	s = strings.NewReplacer(" ", "", "\u202f", "", ",", ".", "−", "-").Replace(strings.TrimSpace(s))
	body := strings.TrimLeft(s, "+-")
	if len(s)-len(body) > 1 {
		return "", false
	}
	whole, frac, dot := strings.Cut(body, ".")
	digits := func(t string) bool { return strings.Trim(t, "0123456789") == "" }
	if !digits(whole) || !digits(frac) || len(whole) > 9 || len(frac) > 3 || whole+frac == "" || (dot && frac == "") {
		return "", false
	}
	if whole == "" {
		whole = "0"
	}
	out := whole
	if frac != "" {
		out += "." + frac
	}
	if strings.HasPrefix(s, "-") {
		out = "-" + out
	}
	return out, true
}

// newKey returns a random UUID for a form.
func newKey() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand never fails
	return formatUUID(b, 4)
}

// keyID turns a caller's idempotency key into the row's id (a version 5 UUID
// in the facility's name space): the same key finds the same row, also after
// the row was synced elsewhere.
func keyID(facility, kind, key string) string {
	sum := sha1.Sum([]byte("holdfast\x00" + facility + "\x00" + kind + "\x00" + key)) //nolint:gosec // see import
	return formatUUID([16]byte(sum[:16]), 5)
}

func formatUUID(b [16]byte, version byte) string {
	b[6] = b[6]&0x0f | version<<4
	b[8] = b[8]&0x3f | 0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	return err == nil && len(b) == 16 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-'
}

// orderNumber makes a number for people out of the day and the order's id.
// There is no counter: two sides that cannot see each other make no doubles.
func orderNumber(facility, id string, day time.Time) string {
	const letters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ" // without I, L, O, U
	raw, _ := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	n := uint32(0)
	for _, b := range raw[max(0, len(raw)-4):] {
		n = n<<8 | uint32(b)
	}
	code := make([]byte, 5)
	for i := range code {
		code[i] = letters[n&31]
		n >>= 5
	}
	return strings.ToUpper(facility) + "-" + day.Format("0102") + "-" + string(code)
}

func formOf(o Order) orderForm {
	return orderForm{
		Number: o.Number, Customer: o.Customer, Product: o.Product, Quantity: strconv.Itoa(o.Quantity), Unit: o.Unit,
		DueDate: o.DueDate, Status: o.Status, Notes: o.Notes, UpdatedAt: o.UpdatedAt.Format(time.RFC3339Nano),
	}
}
